"""A notebook-driven model registry for stock-return models.

What is listed in ``__all__`` is the public interface; each name is imported
when it is first used, so that ``import fxhelpers`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxhelpers import errors, plots
    from fxhelpers.bundles import write_bundle, write_evaluation
    from fxhelpers.evaluation import evaluate_bundle
    from fxhelpers.model_registry import ModelRegistry
    from fxhelpers.params import load_params
    from fxhelpers.portfolio import read_portfolio
    from fxhelpers.prices import describe_prices, load_prices
    from fxhelpers.processes import utc_now
    from fxhelpers.records import summary
    from fxhelpers.serving import Champions
    from fxhelpers.tables import table
    from fxhelpers.training import train_model

__all__ = [
    "Champions",
    "ModelRegistry",
    "describe_prices",
    "errors",
    "evaluate_bundle",
    "load_params",
    "load_prices",
    "plots",
    "read_portfolio",
    "summary",
    "table",
    "train_model",
    "utc_now",
    "write_bundle",
    "write_evaluation",
]

_HOMES = {
    "Champions": "serving",
    "ModelRegistry": "model_registry",
    "describe_prices": "prices",
    "evaluate_bundle": "evaluation",
    "load_params": "params",
    "load_prices": "prices",
    "read_portfolio": "portfolio",
    "summary": "records",
    "table": "tables",
    "train_model": "training",
    "utc_now": "processes",
    "write_bundle": "bundles",
    "write_evaluation": "bundles",
}


def __getattr__(name: str) -> object:
    if name in __all__:
        from fxhelpers.processes import gc_paused

        with gc_paused():
            home = import_module(f"fxhelpers.{_HOMES.get(name, name)}")
            return getattr(home, name) if name in _HOMES else home
    msg = f"module 'fxhelpers' has no attribute {name!r}; it offers {', '.join(__all__)}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
