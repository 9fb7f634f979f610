"""Evidence: what a decision rests on, kept with it so that it can be computed anew years later."""

import json
import tempfile
from pathlib import Path
from typing import Any

from fxhelpers.comparison import EvaluationFrame
from fxhelpers.files import sha256
from fxhelpers.ledger import Decision
from fxhelpers.registry import RegistryClient
from fxhelpers.registry.ledgers import attach

EVIDENCE = "evidence"
"""Folder of a decision's run that holds what it rests on."""

FRAME, COMPARISON = "frame.csv", "comparison.json"
"""Daily forecasts; measures, tests, gates and the policy itself."""


def keep_evidence(registry: RegistryClient, decision: Decision, frame: EvaluationFrame, told: dict[str, Any]) -> dict[str, str]:
    """Store the daily forecasts and what was made of them with the decision's run; return the SHA-256 of each file."""
    files = {
        FRAME: frame.to_csv().encode(),
        COMPARISON: json.dumps(told, indent=1, allow_nan=False).encode(),
    }
    with tempfile.TemporaryDirectory(prefix="fx-evidence-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        attach(registry, decision.model_name, decision.run_id, Path(folder), EVIDENCE)
    return {name: sha256(content) for name, content in files.items()}


def frame_in(files: dict[str, bytes]) -> tuple[EvaluationFrame, dict[str, Any]]:
    """Return the frame and what was made of it, from the files that :func:`keep_evidence` wrote."""
    told = json.loads(files[COMPARISON])
    judged, champion = int(told["challenger"]), told["champion"]
    others = tuple(version for version in told["challengers"] if version != judged)
    frame = EvaluationFrame.from_csv(
        files[FRAME].decode(), symbol=told["symbol"], challenger=judged, champion=champion, others=others
    )
    return frame, told
