"""Which symbols a batch is about."""

from pathlib import Path

from fxhelpers.errors import ParamsError
from fxhelpers.naming import bundled_symbols
from fxhelpers.params import MODEL_PREFIX, Params, check_symbol, is_symbol


def read_symbols(text: str, reads: list[str], params: Params) -> list[str]:
    """Return the symbols that ``--symbols`` names, each once, in its order.

    They are named as ``AAPL,MSFT``; as ``@file``, with symbols between commas,
    blanks or lines, and comments after #; or as ``all``: those that have the
    first of what the notebook reads, prices, a bundle, or versions in the
    registry.
    """
    where = "--symbols"
    if text == "all":
        return _all(reads, params)
    if text.startswith("@"):
        where = text.removeprefix("@")
        try:
            text = Path(where).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"--symbols {text}: {where} cannot be read: {error}"
            raise ParamsError(msg) from error
        text = "\n".join(line.partition("#")[0] for line in text.splitlines())
    symbols = list(dict.fromkeys(text.replace(",", " ").split()))
    if not symbols:
        msg = f"{where}: no symbol; AAPL,MSFT or @file or all is expected"
        raise ParamsError(msg)
    wrong = []
    for symbol in symbols:
        try:
            check_symbol(symbol)
        except ParamsError as error:
            wrong.append(str(error))
    if wrong:
        msg = f"{where}: {'; '.join(wrong[:5])}{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}; nothing was run"  # noqa: PLR2004 (the first few)
        raise ParamsError(msg)
    return symbols


def _all(reads: list[str], params: Params) -> list[str]:
    first = reads[0] if reads else "versions"
    if first == "prices":
        from fxhelpers.prices import known_symbols

        found = known_symbols(params.prices)
        if found is None:
            msg = f"--symbols all: prices.source {params.prices.source} cannot list its symbols; name them, or give @file"
            raise ParamsError(msg)
        where = f"prices.source: {params.prices.source}"
    elif first == "bundle":
        found, where = bundled_symbols(params.paths), str(params.paths.models)
    else:
        from fxhelpers.registry import RegistryClient
        from fxhelpers.registry.storage import registered_models

        models = registered_models(RegistryClient(params))
        names = (name.removeprefix(MODEL_PREFIX) for name in models if name.startswith(MODEL_PREFIX))
        found = sorted(name for name in names if is_symbol(name))  # others were registered under names of somebody's own
        where = params.mlflow.tracking_uri
    if not found:
        msg = f"--symbols all: there is none in {where}"
        raise ParamsError(msg)
    return found
