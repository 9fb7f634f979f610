"""The whole `fx demo`, side by side with the build before it was made faster; this takes half an hour."""

import secrets
import shutil
from pathlib import Path

from benchmarks.before import against_before, both_builds, fx, project_of
from benchmarks.measuring import Cost, Row


def rows(folder: Path, *, quick: bool) -> list[Row]:
    with both_builds(folder) as builds:

        def demo(name: str, *, polls: bool = False) -> Cost:
            project = project_of(folder / f"{name}-{secrets.token_hex(4)}", builds[name])
            try:
                return fx(builds[name], project, "demo", polls=polls)
            finally:
                shutil.rmtree(project)

        return [against_before("fx demo", demo, 1 if quick else 5, "at most 0.5")]
