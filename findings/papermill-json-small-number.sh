#!/usr/bin/env bash
# papermill hands a small number of a JSON file to the notebook as text.
#
# `-f` takes .json besides .yaml, and Python's json writes 0.00001 as 1e-05, which JSON says is a number. papermill reads the
# file as YAML 1.1, where a number with an exponent needs a dot and a sign: 1e-05 and 1e+16 are text there, 1.5e-05 is none.
# The type of one parameter then depends on its value. Write the file with yaml.safe_dump (1.0e-05), or check the type.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check papermill==2.7.0 nbformat==5.11.1 PyYAML==6.0.3 2> "$folder/pip.log" \
  || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat > make.py <<'PYTHON'
import json

import nbformat
import yaml

cell = nbformat.v4.new_code_cell("rates = {}", metadata={"tags": ["parameters"]})
kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
nb = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
nbformat.write(nb, "in.ipynb")
values = {"rates": [0.01, 0.0001, 0.00001, 0.000015, 1e16]}
with open("rates.json", "w") as file:
    json.dump(values, file)
with open("rates.yaml", "w") as file:
    yaml.safe_dump(values, file)
PYTHON
venv/bin/python make.py
venv/bin/papermill --version | cut -d ' ' -f 1 | sed 's/^/papermill /'
cat rates.json; echo
echo "expected: rates = [0.01, 0.0001, 1e-05, 1.5e-05, 1e+16] from both files"
for file in rates.json rates.yaml; do
  venv/bin/papermill in.ipynb out.ipynb --prepare-only --no-progress-bar -f "$file" < /dev/null 2> err.txt
  venv/bin/python - "$file" <<'PYTHON'
import sys

import nbformat

line = nbformat.read("out.ipynb", as_version=4).cells[1].source.splitlines()[-1]
print(f"seen: {sys.argv[1]}: {line}")
text = '"1e-05"' in line and '"1e+16"' in line
assert text == (sys.argv[1] == "rates.json")
assert "1.5e-05" in line and '"1.5e-05"' not in line
PYTHON
done
