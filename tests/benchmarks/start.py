"""What each way to start sooner gains: the same imports without it, in processes of their own."""

import sys
from pathlib import Path
from statistics import median

from benchmarks.measuring import Row, interleaved, progress, run_command, shown, spread

_QUICK = "from fxhelpers.kernels import quick; "
_WAYS = {
    "a kernel's imports, skops without its scan of scikit-learn": (
        f"{_QUICK}\nwith quick.frozen(): quick.import_all(figures=False)",
        f"{_QUICK}\nwith quick.frozen():\n    import skops.io\n    quick.import_all(figures=False)",
    ),
    "papermill without jsonschema's grammar of addresses": (
        f"{_QUICK}quick.without_address_grammar(); import papermill",
        "import papermill",
    ),
    "a kernel's imports without what figures need": (
        f"{_QUICK}quick.import_all(figures=False)",
        f"{_QUICK}quick.import_all(figures=True)",
    ),
    "a kernel's imports without collecting garbage": (
        f"{_QUICK}\nwith quick.frozen(): quick.import_all(figures=True)",
        f"{_QUICK}quick.import_all(figures=True)",
    ),
}


def rows(folder: Path, *, quick: bool) -> list[Row]:
    made = []
    for what, codes in _WAYS.items():
        progress(f"  {what}")
        calls = {
            name: lambda code=code: run_command([sys.executable, "-c", code], folder).wall
            for name, code in zip(("ours", "rival"), codes, strict=True)
        }
        found = interleaved(calls, 2 if quick else 5)
        gain = f"{shown(median(found['rival']) - median(found['ours']))} less"
        ours, rival = spread(found["ours"]), spread(found["rival"])
        made.append(Row(what=f"{what} / with it", ours=ours, rival=rival, ratio=gain, goal="at least 0.3 s", memory=""))
    return made
