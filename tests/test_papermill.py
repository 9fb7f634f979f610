"""Papermill's own command, as users type it: on a terminal, in a pipe, from any folder. And papermill's own notebooks."""

import copy

from papermill.engines import papermill_engines


def test_every_engine_can_be_copied_as_papermills_own_tests_do() -> None:
    copied = copy.deepcopy(papermill_engines)
    assert copied.get_engine("fxhelpers") is copied.get_engine() is papermill_engines.get_engine()
    assert all(isinstance(engine, type) for engine in copied._engines.values())
