#!/usr/bin/env bash
# exchange_calendars gives other sessions of Bombay and Moscow on pandas 3 than on pandas 2, without an error.
#
# A calendar is a list of days; the version of the library that holds dates in memory can be expected not to matter. On
# pandas 3.1.1 release 4.13.2 loses extra sessions on Saturdays of XBOM and XMOS, which it has on 2.3.3, and XTAE cannot be
# made at all. Whoever holds prices against these calendars refuses days on which shares were traded.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for pandas in 2.3.3 3.1.1; do
  python3 -m venv "$folder/$pandas"
  "$folder/$pandas/bin/pip" install --quiet --disable-pip-version-check "pandas==$pandas" numpy==2.3.5 exchange_calendars==4.13.2 \
    2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 2; }
  "$folder/$pandas/bin/python" -W ignore - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import exchange_calendars
import pandas as pd

found = {}
for name in ("XNYS", "XBOM", "XMOS", "XTAE"):
    try:
        calendar = exchange_calendars.get_calendar(name, start="2010-01-01", end="2024-12-31")
        found[name] = [f"{day:%Y-%m-%d}" for day in calendar.sessions]
    except ValueError as error:
        found[name] = str(error)[:60]
Path(sys.argv[1], f"{pd.__version__}.json").write_text(json.dumps(found))
PYTHON
done
python3 - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

two, three = (json.loads(Path(sys.argv[1], f"{version}.json").read_text()) for version in ("2.3.3", "3.1.1"))
print("exchange_calendars 4.13.2, sessions of 2010 to 2024; expected: the same on pandas 2.3.3 and 3.1.1")
for name in two:
    if isinstance(three[name], str):
        print(f"seen: {name}: {len(two[name])} sessions on 2.3.3; on 3.1.1 an error: {three[name]}…")
        continue
    more, fewer = sorted(set(three[name]) - set(two[name])), sorted(set(two[name]) - set(three[name]))
    print(f"seen: {name}: {len(more)} sessions more on 3.1.1, first {more[:3]}; {len(fewer)} fewer, first {fewer[:3]}")
    assert bool(more or fewer) == (name != "XNYS")
assert isinstance(three["XTAE"], str) and not isinstance(two["XTAE"], str)
PYTHON
