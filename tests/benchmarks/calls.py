"""A registration and a promotion on a server of a team, behind a proxy that adds 25 ms to each request.

Run as a script, it measures the fxhelpers that it imports.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import proxies
import servers
import yaml
from synthetic import write_prices

from benchmarks.before import both_builds
from benchmarks.measuring import ROOT, Row, compared, progress, using
from benchmarks.projects import bundle_maker
from fxhelpers import ModelRegistry
from fxhelpers.registry import _calls

_DELAY = 0.025
_SYMBOL = "S001"


def rows(folder: Path, *, quick: bool) -> list[Row]:
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with both_builds(folder) as builds:
        for turn, name in [(turn, name) for turn in range(2 if quick else 5) for name in builds]:
            progress(f"  {turn + 1}, the build {name}")
            for what, values in _by_a_build(folder / f"{name}-{turn}", builds[name]).items():
                for key, value in values.items():
                    found.setdefault(what, {}).setdefault(key, {}).setdefault(name, []).append(value)
    made = []
    for what, keys in found.items():
        counts = {name: f"{values[0]:.0f} calls" for name, values in keys["calls"].items()}
        ratio = f"{keys['calls']['now'][0] / keys['calls']['before'][0]:.2f}"
        text = f"{what}: calls of MLflow / by the build before"
        made.append(Row(what=text, ours=counts["now"], rival=counts["before"], ratio=ratio, goal="at most 15 calls", memory=""))
        ours, rival = ((keys["seconds"][name], 0.0) for name in ("now", "before"))
        made.append(compared(f"{what}, 25 ms more a request / the build before", ours, rival, goal="at most 0.55"))
    return made


def _by_a_build(folder: Path, build: Path) -> dict[str, dict[str, float]]:
    folder.mkdir()
    log = folder / "log"
    with using(build) as environment, log.open("w") as errors:
        command = [sys.executable, __file__, str(folder)]
        done = subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=errors, check=False)
    if done.returncode:
        raise RuntimeError(log.read_text()[-3000:])
    return dict(json.loads(done.stdout))


def main(folder: Path) -> None:
    server = servers.Server(folder / "server").start()
    try:
        with proxies.proxy_to(server.uri) as proxy:
            os.environ["MLFLOW_TRACKING_URI"] = proxy.uri
            print(json.dumps(measured(folder, proxy)))
    finally:
        server.stop()


def measured(folder: Path, proxy: proxies.Proxy) -> dict[str, dict[str, float]]:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["prices"]["source"], settings["training"]["refit"] = "csv", False
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    registry = ModelRegistry(folder / "params.yaml")
    write_prices(registry.params.prices.folder, 1)
    new_bundle = bundle_maker(registry.params, _SYMBOL)
    registry.register_model(new_bundle(), stage="Production")
    bundle = new_bundle()
    proxy.fault, proxy.delay = lambda *_: "late", _DELAY
    made = {"a registration": counted(lambda: registry.register_model(bundle))}
    proposal = registry.propose(_SYMBOL, apply=True, override=True, reason="a measurement")
    return {**made, "a promotion": counted(lambda: registry.promote(proposal))}


def counted(work: Callable[[], object]) -> dict[str, float]:
    """Do it once; return how many calls of MLflow it makes, and the seconds."""
    count, call = [0], _calls.Calls._repeated

    def repeated(*arguments: object) -> object:
        count[0] += 1
        return call(*arguments)

    _calls.Calls._repeated = repeated
    start = time.perf_counter()
    try:
        work()
    finally:
        _calls.Calls._repeated = call
    return {"calls": count[0], "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
