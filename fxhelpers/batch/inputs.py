"""What a run reads, as one digest, so that a batch can go on where it ended."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fxhelpers.bundles import bundle_files, evaluation_files
from fxhelpers.files import sha256
from fxhelpers.params import Params, model_name
from fxhelpers.records import read_summary
from fxhelpers.registry import BUNDLE_DIGEST, RegistryClient
from fxhelpers.registry.ledgers import read_ledger


def inputs_digest(registry: RegistryClient, notebook: Path, reads: list[str], symbol: str, parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 over all that a run of a symbol starts from: the same inputs, the same digest.

    Which version is champion is not among them: that is what a run changes.

    Parameters
    ----------
    registry : RegistryClient
        The connection; asked only where the notebook reads versions.
    notebook : Path
        Its source.
    reads : list of str
        What it reads: prices, bundle, evaluation, versions.
    symbol : str
        Ticker.
    parameters : dict
        As given.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    params = registry.params
    facts: dict[str, Any] = {
        "notebook": sha256(notebook.read_bytes()),
        "params": sha256(params.file.read_bytes()),
        "registry": params.mlflow.tracking_uri,
        "symbol": symbol,
        "parameters": dict(parameters),
        **{kind: _state(registry, kind, symbol) for kind in reads},
    }
    return sha256(json.dumps(facts, sort_keys=True, default=str).encode())


def finished_run(registry: RegistryClient, kind: str, symbol: str, digest: str) -> tuple[Path, dict[str, Any]] | None:
    """Return the completed record of the same inputs and its summary; None where there is none.

    A record of decisions counts only if each is sealed with the record as it
    is now.

    Parameters
    ----------
    registry : RegistryClient
        The connection.
    kind : str
        The notebook's name, such as ``promote``.
    symbol : str
        Ticker.
    digest : str
        Of :func:`inputs_digest`.

    Returns
    -------
    tuple of (Path, dict) or None
    """
    for path in sorted((registry.params.paths.records / symbol).glob(f"*-{kind}-*.ipynb"), reverse=True):
        content = path.read_bytes()
        if digest.encode() not in content:
            continue
        try:
            nb = json.loads(content)
        except ValueError:
            continue
        told = nb["metadata"]["fxhelpers"]["record"]
        summary = read_summary(nb)
        if told.get("inputs_sha256") != digest or told["status"] != "completed" or summary is None:
            continue
        if all(_is_sealed(registry, name, run_id, sha256(content)) for name, run_id in told.get("decisions", [])):
            return path, summary
    return None


def _is_sealed(registry: RegistryClient, name: str, run_id: str, digest: str) -> bool:
    seals = [d.seal.facts for d in read_ledger(registry, name).decisions if d.run_id == run_id and d.seal]
    return any(facts.get("sha256") == digest for facts in seals)


def _state(registry: RegistryClient, kind: str, symbol: str) -> object:
    params = registry.params
    if kind == "prices":
        given = params.prices.model_dump(mode="json", exclude={"folder"})
        return [given, _price_data(params, symbol)]
    if kind == "versions":
        return [[v.version, v.tags.get(BUNDLE_DIGEST)] for v in registry.versions(model_name(symbol))]
    files: Iterator[Path] | list[Path] = (bundle_files if kind == "bundle" else evaluation_files)(params.paths, symbol)
    return sorted([path.name, sha256(path.read_bytes())] for path in files)


def _price_data(params: Params, symbol: str) -> str:
    """Return what tells these prices from others: the file's digest, or, where nobody can know before asking, the day."""
    if params.prices.source == "csv":
        path = params.prices.folder / f"{symbol}.csv"
        return sha256(path.read_bytes()) if path.is_file() else ""
    return version("bokeh_sampledata") if params.prices.source == "sample" else f"{datetime.now(UTC):%Y-%m-%d}"
