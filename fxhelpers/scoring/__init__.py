"""Versions of the registry on one evaluation frame: the same days, and only days that none of them has seen."""

from fxhelpers.scoring._frame import Selection, evaluation_frame

__all__ = ["Selection", "evaluation_frame"]
