"""What lets commands start sooner, besides preloading kernels; ``make bench ONLY=start`` measures what each gains."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from fxhelpers.system import gc_paused

COMMON = (
    *("fxhelpers.audit.history", "fxhelpers.audit.verify", "fxhelpers.decisions", "fxhelpers.model_registry"),
    *("fxhelpers.registry.models", "ipykernel.ipkernel", "ipykernel.kernelapp", "ipykernel.zmqshell"),
)
"""What every kernel needs."""

FIGURES = ("arch.bootstrap", "fxhelpers.evaluation", "fxhelpers.plots", "fxhelpers.training", "statsmodels.tsa.stattools")
"""What only figures and tests need; notebooks without them do without."""


def import_all(*, figures: bool) -> None:
    """Import what kernels need."""
    import_skops()
    for name in (*COMMON, *(FIGURES if figures else ())):
        import_module(name)


def import_skops() -> None:
    """Import skops without its scan of all of scikit-learn for estimators.

    In this process it then trusts by default those that our models are made of, and no others.
    """
    import sklearn.utils

    from fxhelpers.params import MODEL_PARTS

    scan, names = sklearn.utils.all_estimators, [name.rpartition(".") for name in MODEL_PARTS]
    sklearn.utils.all_estimators = lambda: [(name, type(name, (), {"__module__": module})) for module, _, name in names]
    try:
        import_module("skops.io")
    finally:
        sklearn.utils.all_estimators = scan


def without_address_grammar() -> None:
    """Let jsonschema do without a grammar of addresses, for a check that no notebook needs."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # Python then takes it for not installed


@contextmanager
def frozen() -> Iterator[None]:
    """Collect nothing while all is imported, which takes a third of the time; and none of it afterwards.

    A kernel would walk it, and copy its pages.
    """
    with gc_paused():
        yield
        gc.freeze()
