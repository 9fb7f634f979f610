"""What an operation did is what it returns: frozen dataclasses that are also mappings."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any


class Keyed(Mapping[str, Any]):
    """Mixin for a dataclass whose public fields and properties are read as ``x["field"]`` too."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 (fields differ in type)
        if key not in self._keys():
            msg = f"{key!r} is not a key of {type(self).__name__}; keys: {', '.join(self._keys())}"
            raise KeyError(msg)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())

    @classmethod
    def _keys(cls) -> tuple[str, ...]:
        own = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        derived = [name for name, value in vars(cls).items() if isinstance(value, property)]
        return tuple(name for name in own + derived if not name.startswith("_"))
