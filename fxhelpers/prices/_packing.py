"""Numbers by day as a text for JSON: days, then each column, as bytes, compressed."""

import base64
import zlib

import numpy as np
import pandas as pd

_DAY = "<i4"


def day_bytes(days: pd.Index, values: np.ndarray, dtype: str) -> bytes:
    """Return days and values, of shape (n_days, n_columns), as bytes, one column after the other."""
    counted = days.to_numpy().astype("datetime64[D]").astype(_DAY)
    return counted.tobytes() + np.ascontiguousarray(values.astype(dtype).T).tobytes()


def as_days(content: bytes, columns: int, dtype: str) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Read what :func:`day_bytes` returned; :class:`ValueError` if the bytes are not so many columns."""
    count, rest = divmod(len(content), np.dtype(_DAY).itemsize + columns * np.dtype(dtype).itemsize)
    if rest:
        msg = f"{len(content)} bytes are not {columns} columns"
        raise ValueError(msg)
    days = pd.DatetimeIndex(np.frombuffer(content, _DAY, count).astype("datetime64[D]"), name="Date").as_unit("us")
    values = np.frombuffer(content, dtype, offset=days.size * np.dtype(_DAY).itemsize).reshape(columns, count).T.astype(float)
    return days, values


def pack(content: bytes) -> str:
    """Return bytes as compressed text."""
    return base64.b64encode(zlib.compress(content, 9)).decode()


def unpack(text: str, most: int) -> bytes:
    """Read what :func:`pack` returned; :class:`ValueError` if it is anything else, or more than ``most`` bytes."""
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(base64.b64decode(text, validate=True), most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if reader.unconsumed_tail or not reader.eof:
        msg = f"{len(content)} bytes"
        raise ValueError(msg)
    return content
