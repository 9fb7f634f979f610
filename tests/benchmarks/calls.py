"""A registration and a promotion on a server of a team, behind a proxy that adds 25 ms to each request; run as a script."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import proxies
import servers
import yaml
from synthetic import write_prices

from benchmarks.measuring import ROOT
from benchmarks.projects import bundle_maker
from fxhelpers import ModelRegistry
from fxhelpers.registry import _calls

_DELAY = 0.025
_SYMBOL = "S001"


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
