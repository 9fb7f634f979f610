"""From versions in the registry to one evaluation frame: same days, and only days that none of them has seen."""

from fxhelpers.scoring._framing import Selection, evaluation_frame

__all__ = ["Selection", "evaluation_frame"]
