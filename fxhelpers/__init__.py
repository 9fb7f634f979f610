"""A notebook-driven model registry for stock-return models.

``__all__`` is the public interface. Each name is imported when it is first
used, so that ``import fxhelpers`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the table below, for type checkers; a test holds the two equal
    from fxhelpers import errors as errors
    from fxhelpers import plots as plots
    from fxhelpers.backtest import run_backtest as run_backtest
    from fxhelpers.bundles import earlier_trainings as earlier_trainings
    from fxhelpers.bundles import write_bundle as write_bundle
    from fxhelpers.bundles import write_evaluation as write_evaluation
    from fxhelpers.display import table as table
    from fxhelpers.evaluation import evaluate_bundle as evaluate_bundle
    from fxhelpers.inputs import features_for as features_for
    from fxhelpers.model_registry import ModelRegistry as ModelRegistry
    from fxhelpers.params import load_params as load_params
    from fxhelpers.portfolio import read_portfolio as read_portfolio
    from fxhelpers.prices import describe_prices as describe_prices
    from fxhelpers.prices import largest_moves as largest_moves
    from fxhelpers.prices import load_prices as load_prices
    from fxhelpers.prices import read_prices as read_prices
    from fxhelpers.records import summary as summary
    from fxhelpers.serving import Champions as Champions
    from fxhelpers.system import utc_now as utc_now
    from fxhelpers.training import read_extra as read_extra
    from fxhelpers.training import train_model as train_model

_PUBLIC = {
    "Champions": "serving",
    "ModelRegistry": "model_registry",
    "describe_prices": "prices",
    "earlier_trainings": "bundles",
    "errors": "",
    "evaluate_bundle": "evaluation",
    "features_for": "inputs",
    "largest_moves": "prices",
    "load_params": "params",
    "load_prices": "prices",
    "plots": "",
    "read_extra": "training",
    "read_portfolio": "portfolio",
    "read_prices": "prices",
    "run_backtest": "backtest",
    "summary": "records",
    "table": "display",
    "train_model": "training",
    "utc_now": "system",
    "write_bundle": "bundles",
    "write_evaluation": "bundles",
}
"""Public names, and the module that defines each; "" for a module."""

__all__ = list(_PUBLIC)


if not TYPE_CHECKING:  # so that type checkers report other names

    def __getattr__(name: str) -> object:
        if name not in _PUBLIC:
            msg = f"module 'fxhelpers' has no attribute {name!r}; it has {', '.join(__all__)}"
            raise AttributeError(msg)
        from fxhelpers.system import gc_paused

        with gc_paused():
            if not _PUBLIC[name]:
                return import_module(f"fxhelpers.{name}")
            return getattr(import_module(f"fxhelpers.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
