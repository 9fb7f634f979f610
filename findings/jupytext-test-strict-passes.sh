#!/usr/bin/env bash
# jupytext's strictest round-trip test passes a notebook that does not survive the round trip.
#
# `--test-strict` is to "test that the notebook is strictly stable under a round trip conversion". On the way to py:percent
# jupytext keeps all the metadata of the cells, tags and own keys alike, and of the notebook's only kernelspec and its own: even
# the title and authors that nbformat defines are gone. But the test filters both sides alike before it compares them. Name
# them in notebook_metadata_filter, use --update or pair the files, and compare the notebooks yourself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupytext==1.19.6 nbformat==5.11.1 2> "$folder/pip.log" \
  || { cat "$folder/pip.log"; exit 2; }
cd "$folder"
cat > make.py <<'PYTHON'
import nbformat

cell = nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"], "owner": "desk"})
kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
data = {"kernelspec": kernel, "title": "Risk", "authors": [{"name": "A"}], "owner": "desk"}
nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=data), "default.ipynb")
data["jupytext"] = {"notebook_metadata_filter": "title,authors,owner"}
nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=data), "named.ipynb")
PYTHON
cat > compare.py <<'PYTHON'
import sys

import nbformat

before, after = (nbformat.read(f"{name}.ipynb", as_version=4) for name in (sys.argv[1], "back"))
gone = sorted(set(before.metadata) - set(after.metadata))
print(f"seen: {sys.argv[1]}.ipynb: strict test passed, gone: {', '.join(gone) or 'nothing'}")
assert before.cells[0].metadata == after.cells[0].metadata
assert gone == (["authors", "owner", "title"] if sys.argv[1] == "default" else [])
PYTHON
venv/bin/python make.py
echo "jupytext $(venv/bin/jupytext --version)"
echo "expected: a notebook that loses its title fails the strict test"
for name in default named; do
  venv/bin/jupytext --quiet --to py:percent --test-strict "$name.ipynb"
  venv/bin/jupytext --quiet --to py:percent --output back.py "$name.ipynb"
  venv/bin/jupytext --quiet --to ipynb --output back.ipynb back.py
  venv/bin/python compare.py "$name"
done
