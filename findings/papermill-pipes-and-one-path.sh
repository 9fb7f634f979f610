#!/usr/bin/env bash
# papermill, called with one notebook while standard input is a pipe, overwrites that notebook with another one.
#
# With one path papermill takes it for the input, and writes the executed notebook to standard output where that is no
# terminal. But if standard input is a pipe, as below anything that starts commands with one, the one path is the OUTPUT, and
# the notebook to run is read from the pipe. Give both paths, or `< /dev/null`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check papermill==2.7.0 ipykernel==7.1.0 2> "$folder/pip.log" \
  || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat > make.py <<'PYTHON'
import sys

import nbformat

for name in ("report", "other"):
    cell = nbformat.v4.new_code_cell(f"print('this is {name}')")
    nb = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    nbformat.write(nb, f"{name}.ipynb")
PYTHON
venv/bin/python make.py
venv/bin/papermill --version | head -1
echo "expected: report.ipynb is run, and stays as it is"
before=$(sha256sum < report.ipynb)
cat other.ipynb | venv/bin/papermill report.ipynb --no-progress-bar > out.txt 2> err.txt
after=$(sha256sum < report.ipynb)
echo "seen: report.ipynb holds: $(grep -o "this is [a-z]*" report.ipynb | sort -u | tr '\n' ' ')"
[ "$before" != "$after" ] && grep -q "this is other" report.ipynb
