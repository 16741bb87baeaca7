"""Show versions, hardware, what is registered, and what a model folder holds.

For example:

    wmkit info
    wmkit info runs/pusht
    wmkit info --json
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from wmkit import registry
from wmkit.errors import UserError
from wmkit.provenance import provenance

__all__ = ["Info", "run"]


@dataclass(frozen=True)
class Info:
    """What `wmkit info` is asked for."""

    model: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = None
    """A model to describe too: a folder, pretrained:NAME, or owner/name on the Hugging Face hub; or the folder of a
    published LeWM checkpoint."""
    json: bool = False
    """Print JSON instead of text."""


def run(config: Info) -> None:
    """Print what this installation is and has.

    Raises:
        UserError: there is no such model, or its files are damaged.
    """
    kinds = ("models", "presets", "planners", "environments")
    facts: dict[str, Any] = provenance() | {kind: registry.names(kind) for kind in kinds}
    if config.model is not None:
        facts["model"] = _model(_folder(config.model))
    print(json.dumps(facts, indent=2) if config.json else "\n".join(_lines(facts)))


def _folder(name: str) -> Path:
    """Return the folder of a model; what is no folder here is looked for among the packaged ones and on the hub."""
    if Path(name).is_dir():
        return Path(name)
    from wmkit.model_folder import resolve

    return resolve(name)


def _model(folder: Path) -> dict[str, Any]:
    """Return what a model folder says of itself, with its number of parameters, size and fingerprint."""
    settings, weights = folder / "config.json", folder / "model.safetensors"
    published = _published(folder, settings)
    if published is not None:
        return published
    if not (settings.exists() and weights.exists()):
        inner = sorted(str(path.parent) for path in folder.glob("*/model.safetensors"))
        hint = f"; try {', '.join(inner)}" if inner else ""
        raise UserError(f"{folder} is no model folder: it lacks config.json or model.safetensors{hint}")
    try:
        document = dict(json.loads(settings.read_text()))
    except (TypeError, ValueError) as error:
        raise UserError(f"{settings} is not readable JSON: {error}") from error
    own = {"folder": str(folder), "parameters": _parameters(weights), "bytes": weights.stat().st_size}
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    if document.setdefault("sha256", sha256) != sha256:
        raise UserError(f"{weights} is not what {settings.name} names by its SHA-256; save or download the model again")
    return own | document


def _published(folder: Path, settings: Path) -> dict[str, Any] | None:
    """Describe the folder of a published LeWM checkpoint, which `LeWM.from_lewm` reads; None for other folders."""
    if not settings.exists() or "_target_" not in settings.read_text(errors="replace"):
        return None
    from ..models.lewm.official import describe

    found = describe(folder)
    how = f"LeWM.from_lewm({str(folder)!r})"
    return None if found is None else {"folder": str(folder), "holds": "a LeWM checkpoint", "load": how} | found


def _parameters(weights: Path) -> int:
    """Count the numbers in a safetensors file, buffers included, by its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy") as tensors:
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{weights} is damaged: {error}; save or download the model again") from error


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Lay out nested facts, one a line, in two columns."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<{max(24 - len(indent), 1)}} {_text(value)}")
    return lines


def _text(value: Any) -> str:
    """Write one value; lists with commas, and nothing as a dash."""
    if isinstance(value, list):
        return ", ".join(map(_text, value)) if len(value) <= 32 else f"{len(value)} values"
    return "-" if value in (None, {}, "") else str(value)
