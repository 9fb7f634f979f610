"""The same work for many symbols, on all cores."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import joblib

from fxhelpers.params import Params
from fxhelpers.registry import RegistryClient

_PARALLEL = 40  # items: for fewer, other processes do not pay
_CHUNK = 10  # items of one task

T = TypeVar("T")
R = TypeVar("R")


def each(
    registry: RegistryClient,
    work: Callable[[RegistryClient, T], R],
    items: Sequence[T],
    progress: Callable[[int, int], None] | None = None,
) -> list[R]:
    """Return what the work makes of each item, in order; each other process has a registry client of its own."""
    chunks = [items[n : n + _CHUNK] for n in range(0, len(items), _CHUNK)]
    if len(items) < _PARALLEL:
        made = ([work(registry, item) for item in chunk] for chunk in chunks)
    else:
        tasks = (joblib.delayed(_of_process)(registry.params, work, chunk) for chunk in chunks)
        made = joblib.Parallel(joblib.cpu_count(), return_as="generator")(tasks)
    found: list[R] = []
    for some in made:
        found += some
        if progress:
            progress(len(found), len(items))
    return found


def _of_process(params: Params, work: Callable[[RegistryClient, T], R], chunk: Sequence[T]) -> list[R]:
    registry = RegistryClient(params)
    return [work(registry, item) for item in chunk]
