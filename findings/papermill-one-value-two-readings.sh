#!/usr/bin/env bash
# papermill reads one and the same value as different things, according to the option that hands it over.
#
# -p and -y (and -f, with a file) are described as ways to pass parameters, -r as the one that leaves text alone. So `-p x V` and
# `-y "x: V"` can be expected to agree. But -p tries Python's int() and float(), and -y and -f read YAML 1.1: 010 is ten or
# eight, NO is text or False, 1e-3 is a number or text, None is None or text. Hand over what has one reading in both
# (`-y "x: 'NO'"`, 0.001), or check the type in the notebook.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check papermill==2.7.0 nbformat==5.11.1 PyYAML==6.0.3 2> "$folder/pip.log" \
  || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat > compare.py <<'PYTHON'
import subprocess
import sys

import nbformat

cell = nbformat.v4.new_code_cell("x = 0", metadata={"tags": ["parameters"]})
kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
nb = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
nbformat.write(nb, "in.ipynb")


def injected(*options):
    command = [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "--prepare-only", "--no-progress-bar", *options]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return nbformat.read("out.ipynb", as_version=4).cells[1].source.splitlines()[-1].removeprefix("x = ")


found = {}
print("expected: -p, -y and -f agree on every value")
for value in ("010", "NO", "1e-3", "None"):
    with open("x.yaml", "w") as file:
        file.write(f"x: {value}\n")
    found[value] = [injected("-p", "x", value), injected("-y", f"x: {value}"), injected("-f", "x.yaml")]
    found[value].append(injected("-r", "x", value))
    print("seen: {}: -p {}, -y {}, -f {}, -r {}".format(value, *found[value]))
assert found["010"] == ["10", "8", "8", '"010"']
assert found["NO"] == ['"NO"', "False", "False", '"NO"']
assert found["1e-3"] == ["0.001", '"1e-3"', '"1e-3"', '"1e-3"']
assert found["None"] == ["None", '"None"', '"None"', '"None"']
PYTHON
venv/bin/papermill --version | cut -d ' ' -f 1 | sed 's/^/papermill /'
venv/bin/python compare.py
