"""Which symbols a batch is about."""

from collections import Counter
from pathlib import Path

from fxhelpers.errors import ParamsError, PriceDataError, TooFewDaysError
from fxhelpers.naming import bundled_symbols
from fxhelpers.params import Params, check_symbol


def read_symbols(text: str, reads: list[str], params: Params, notes: list[str] | None = None) -> list[str]:
    """Return the symbols that ``--symbols`` names, each once, in its order.

    They are named as ``AAPL,MSFT``; as ``@file``, with symbols between commas,
    blanks or lines, and comments after #; or as ``all``: those that have the
    first of what the notebook reads, prices, a bundle, or versions in the
    registry. ``notes`` gets what is to be known of them: which are listed
    more than once, and which ``all`` leaves out, as their prices are too few.
    """
    notes = [] if notes is None else notes
    where = "--symbols"
    if text == "all":
        return _all(reads, params, notes)
    if text.startswith("@"):
        where = text.removeprefix("@")
        try:
            text = Path(where).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"--symbols {text}: {where} cannot be read: {error}"
            raise ParamsError(msg) from error
        text = "\n".join(line.partition("#")[0] for line in text.splitlines())
    listed = Counter(text.replace(",", " ").split())
    notes += [f"{symbol} is listed {count} times in {where}, and run once" for symbol, count in listed.items() if count > 1]
    symbols = list(listed)
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


def _all(reads: list[str], params: Params, notes: list[str]) -> list[str]:
    first = reads[0] if reads else "versions"
    if first == "prices":
        from fxhelpers.prices import known_symbols

        found = known_symbols(params.prices)
        if found is None:
            msg = f"--symbols all: prices.source {params.prices.source} cannot list its symbols; name them, or give @file"
            raise ParamsError(msg)
        where = f"prices.source: {params.prices.source}"
        unfit = {symbol: why for symbol in found if (why := _unfit(symbol, params))}
        notes += [f"--symbols all leaves out {symbol}: {why}" for symbol, why in unfit.items()]
        found = [symbol for symbol in found if symbol not in unfit]
    elif first == "bundle":
        found, where = bundled_symbols(params.paths), str(params.paths.models)
    else:
        from fxhelpers.registry import RegistryClient
        from fxhelpers.registry.storage import registered_symbols

        found, where = registered_symbols(RegistryClient(params)), params.mlflow.tracking_uri
    if not found:
        msg = "; ".join([f"--symbols all: there is none in {where}", *notes])
        raise ParamsError(msg)
    return found


def _unfit(symbol: str, params: Params) -> str:
    """Return why a symbol's prices are of no use to any notebook; "" where they are, or are broken, which its run has to say."""
    from fxhelpers.prices import load_prices

    try:
        load_prices(symbol, params.prices)
    except (ParamsError, TooFewDaysError) as error:
        return str(error)
    except PriceDataError:
        pass
    return ""
