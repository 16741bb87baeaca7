"""The parts of a run: dynamics, and perhaps a proposal and a terminal value; no command of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmkit import registry
from wmkit.diffusion.runs import PARTS
from wmkit.errors import UserError
from wmkit.model_folder import kind_of, resolve

__all__ = ["Parts", "load_run"]


@dataclass(frozen=True)
class Parts:
    """What a run's folder holds, loaded.

    Attributes:
        dynamics: a world model.
        proposal: a trained proposal, or None.
        value: a `TerminalValue`, or None.
        folder: of the run.
    """

    dynamics: Any
    proposal: Any
    value: Any
    folder: Path

    @property
    def proposal_folder(self) -> Path | None:
        """Where the proposal is, or None."""
        return None if self.proposal is None else self.folder / "proposal"

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the dynamics' folder says of training and planning."""
        return getattr(self.dynamics, "metadata", {})


def load_run(name: str, device: str = "cpu") -> Parts:
    """Load a run of `wmkit train dmpc`, or a model alone.

    Args:
        name: a folder with dynamics/, perhaps proposal/ and value/; or a model as for `wmkit.model_folder.resolve`.
        device: where the parts are to be.

    Raises:
        UserError: there is no such folder, the dynamics are missing, or the parts do not fit each other.
    """
    folder = resolve(name)
    if (folder / "config.json").is_file():
        return Parts(_part("dynamics", folder, device), None, None, folder)
    if not (folder / "dynamics" / "config.json").is_file():
        raise UserError(f"{folder} holds no finished dynamics/ and is no model; `wmkit train dmpc` makes a run")
    found = {part: folder / part for part in PARTS if (folder / part / "config.json").is_file()}
    parts = Parts(
        folder=folder, **{part: _part(part, found[part], device) if part in found else None for part in PARTS}
    )
    _check(parts)
    return parts


def _part(part: str, folder: Path, device: str) -> Any:
    """Load one part by the kind that its folder names."""
    kind, known = kind_of(folder), registry.names(PARTS[part])
    if kind not in known:
        raise UserError(f"{folder} holds a {kind}, which is no {part}; known: {', '.join(known)}")
    return registry.load(PARTS[part], kind).from_pretrained(folder, device)


def _check(parts: Parts) -> None:
    """Raise UserError where proposal or value are for another model than the dynamics."""
    for part in (parts.proposal, parts.value):
        try:
            if part is not None:
                part.check(parts.dynamics.spec)
        except ValueError as error:
            raise UserError(f"{parts.folder}: {error}") from error
