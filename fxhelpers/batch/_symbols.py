"""The symbols of a batch, and the inputs by which a run need not be repeated."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxhelpers.errors import ParamsError, PriceDataError, TooFewDaysError
from fxhelpers.files import UNREADABLE, sha256
from fxhelpers.foresightx import bundle_files, bundled_symbols, companion_folders, evaluation_files, features_files
from fxhelpers.params import Params, check_symbol, model_name
from fxhelpers.records import read_summary

if TYPE_CHECKING:
    from fxhelpers.registry import RegistryClient


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


class RunInputs:
    """What the runs of a notebook, of a kind such as ``promote``, start from: itself, all settings, and what it reads."""

    def __init__(self, params: Params, notebook: Path, kind: str, reads: list[str]) -> None:
        self._params, self._kind, self._reads = params, kind, reads
        self.params_sha256 = sha256(params.file.read_bytes())
        self._settings = {
            "notebook": sha256(notebook.read_bytes()),
            "params": self.params_sha256,
            "registry": params.mlflow.tracking_uri,
        }

    def digest(self, symbol: str, parameters: Mapping[str, Any]) -> str:
        """Return the SHA-256 over all that a run of a symbol starts from: the same inputs, the same digest.

        Which version is champion, and how many attempts there were, is among
        them for a look, but not where the run itself is to change that.
        """
        models = Path(parameters["model_path"]).parent if parameters.get("model_path") else self._params.paths.models
        state = {kind: self._state(kind, symbol, models) for kind in self._reads}
        if "versions" in state and not parameters.get("apply"):
            state["decided"] = self._decided(symbol)
        facts = {**self._settings, "symbol": symbol, "parameters": dict(parameters), **state}
        return sha256(json.dumps(facts, sort_keys=True, default=str).encode())

    def finished_run(self, symbol: str, digest: str) -> tuple[Path, dict[str, Any]] | None:
        """Return the completed record of the same inputs and its summary; None where there is none.

        A record of decisions counts only if each is sealed with the record as
        it is now, and, where the notebook decides about versions, if nothing
        was decided since.
        """
        for path in sorted((self._params.paths.records / symbol).glob(f"*-{self._kind}-*.ipynb"), reverse=True):
            try:
                content = path.read_bytes()
                if digest.encode() not in content:
                    continue
                nb = json.loads(content)
                told = nb["metadata"]["fxhelpers"]["record"]
                summary = read_summary(nb)
            except UNREADABLE:  # no record of anything
                continue
            if told.get("inputs_sha256") != digest or told.get("status") != "completed" or summary is None:
                continue
            if all(self._is_sealed(name, run_id, sha256(content)) for name, run_id in told.get("decisions", [])):
                return path, summary
        return None

    @cached_property
    def _registry(self) -> "RegistryClient":
        from fxhelpers.registry import RegistryClient

        return RegistryClient(self._params)

    def _is_sealed(self, name: str, run_id: str, digest: str) -> bool:
        from fxhelpers.registry.ledgers import read_ledger

        ledger = read_ledger(self._registry, name)
        if "versions" in self._reads and ledger.outcomes and ledger.outcomes[-1].run_id != run_id:
            return False
        return any(d.seal.facts.get("sha256") == digest for d in ledger.decisions if d.run_id == run_id and d.seal)

    def _decided(self, symbol: str) -> object:
        from fxhelpers.registry.ledgers import read_ledger

        name = model_name(symbol)
        champion = self._registry.champion_identity(name)
        serves = [champion.number, champion.bundle] if champion else None
        return [serves, read_ledger(self._registry, name).attempts]

    def _state(self, kind: str, symbol: str, models: Path) -> object:
        if kind == "prices":
            return [self._params.prices.model_dump(mode="json", exclude={"folder"}), self._price_data(symbol)]
        if kind == "versions":
            from fxhelpers.registry import BUNDLE_DIGEST

            return [[v.version, v.tags.get(BUNDLE_DIGEST)] for v in self._registry.versions(model_name(symbol))]
        folders = {what: companion_folders(what, models, self._params.paths) for what in ("metadata", "results", "features")}
        if kind == "bundle":
            files = bundle_files([models.absolute(), *folders["metadata"]], symbol) + features_files(folders["features"], symbol)
        else:
            files = evaluation_files(folders["results"], symbol)
        return sorted([path.name, sha256(path.read_bytes())] for path in files)

    def _price_data(self, symbol: str) -> str:
        """Return what tells these prices from others: the file's digest, or, where nobody can know before asking, the day."""
        prices = self._params.prices
        if prices.source == "csv":
            path = prices.folder / f"{symbol}.csv"
            return sha256(path.read_bytes()) if path.is_file() else ""
        return version("bokeh_sampledata") if prices.source == "sample" else f"{datetime.now(UTC):%Y-%m-%d}"
