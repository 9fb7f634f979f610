"""How far a reader walks: the modules that three operations enter, and how often a call goes from one module to another.

Run it with ``python tests/walks.py``. It takes the embedded registry in a
temporary folder and real prices.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = f"{ROOT / 'fxhelpers'}{os.sep}"
SYMBOL = "AAPL"


@contextmanager
def walked(name: str) -> Iterator[None]:
    """Print how many modules of fxhelpers are entered, and how many calls cross from one to another."""
    entered: set[str] = set()
    moves = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal moves
        if event != "call" or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        entered.add(frame.f_code.co_filename)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        moves += caller is not None and caller.f_code.co_filename != frame.f_code.co_filename

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        print(f"{name:>10}: {len(entered):3} modules, {moves:5,} moves")


def walk() -> None:
    """Register two models, compare the second, and propose it with ``apply``, in the current folder."""
    from fxhelpers import ModelRegistry, load_params, load_prices, train_model, write_bundle

    params, registry = load_params(), ModelRegistry()
    prices = load_prices(SYMBOL, params.prices)

    def trained(model: str) -> Any:
        fitted = train_model(SYMBOL, prices, params.training, model=model, source=params.prices.source)
        return write_bundle(fitted.model, fitted.scaler, fitted.metadata, params.paths)

    steps: dict[str, Callable[[], object]] = {
        "register": lambda: registry.register_model(registry.load_model_info(symbol=SYMBOL)),
        "compare": lambda: registry.compare(SYMBOL),
        "propose": lambda: registry.propose(SYMBOL, apply=True),
    }
    trained("original")
    registry.register_model(registry.load_model_info(symbol=SYMBOL), stage="Production")
    trained("regularised")
    for step in steps.values():  # what is imported and set up once is no part of a walk
        step()
    trained("lighter")
    for name, step in steps.items():
        with walked(name):
            step()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        walk()
