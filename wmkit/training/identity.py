"""What makes two calls the same run, and refusing a folder that holds another."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .records import plain
from .stage import Stage

__all__ = ["OWN_FILES", "plain_identity", "refuse_other_files", "refuse_other_run"]

OWN_FILES = {"checkpoints", "metrics.jsonl", "run.json", "tensorboard"}
"""What an unfinished run leaves in its folder."""


def plain_identity(
    seed: int, config: Mapping[str, Any], stages: Sequence[Stage], patience: int | None, keep: str
) -> dict[str, Any]:
    """Return what makes two calls the same run, as JSON would give it back."""
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ValueError(f"stages must have names of their own, not {names}")
    steps = {stage.name: stage.steps for stage in stages}
    identity = {"seed": seed, "config": dict(config), "steps": steps, "patience": patience, "keep": keep}
    return json.loads(json.dumps(plain(identity)))


def refuse_other_run(out: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UserError naming the first settings that differ between the run in `out` and this call."""
    before, after = _flatten(saved), _flatten(now)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if names:
        shown = ", ".join(f"{name} was {before.get(name)!r} and is now {after.get(name)!r}" for name in names[:4])
        raise UserError(f"cannot resume {out}: {shown}; give the settings as they were, or another folder")


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    joined = prefix + "." if prefix else ""
    return {name: leaf for key, entry in tree.items() for name, leaf in _flatten(entry, joined + key).items()}


def refuse_other_files(out: Path) -> None:
    """Raise UserError where `out` is a file, or a folder with files that no unfinished run leaves."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder")
    others = sorted(path.name for path in out.glob("*") if path.name not in OWN_FILES and not path.name.startswith("."))
    if others:
        raise UserError(f"{out} already holds {', '.join(others[:3])} and no checkpoint; give another folder")
