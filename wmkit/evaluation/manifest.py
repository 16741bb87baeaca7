"""Manifests: the pairs of start and goal of one evaluation, in a file with a hash.

A manifest holds the states themselves, so it needs no data set: two agents are compared on exactly the same pairs, and
a shipped checkpoint can be evaluated where only wmkit is installed. The environment draws the pictures from the states.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

__all__ = ["HELD_OUT", "KEPT", "Manifest", "Pair", "load_manifest", "reset_options", "save_manifest"]

VERSION = 1
HELD_OUT = "heldout"
"""Name of the split that no training step may see."""
KEPT = " (kept)"
"""Ends the reason for which candidates were counted and kept."""


@dataclass(frozen=True)
class Pair:
    """A start, a goal and how they were found.

    Attributes:
        start: (S,), the state to start from.
        goal: (S,), the state to reach.
        budget: environment steps allowed.
        episode: the recorded episode, -1 where the environment drew the pair itself.
        start_row: row of the start in the episode, -1 without an episode.
        goal_row: row of the goal in the episode, -1 without an episode.
        actions: (goal_row - start_row, action_size), recorded between start and goal, environment units; may be empty.
        variation: the scene: variation name -> value.
    """

    start: Sequence[float]
    goal: Sequence[float]
    budget: int
    episode: int = -1
    start_row: int = -1
    goal_row: int = -1
    actions: Sequence[Sequence[float]] = ()
    variation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """All pairs of one evaluation.

    Attributes:
        environment: name of the task.
        protocol: name of the protocol.
        rule: success rule that excluded the trivial pairs; the default rule of the evaluation.
        seed: seed of the draw.
        split: the split of the episodes, "heldout", or "reset" where the environment drew the pairs.
        fingerprint: of the data set, "" without one.
        split_hash: of the data set's split, "" without one.
        pairs: the pairs, P.
        excluded: reason -> how many drawn candidates were left out for it; those of a reason that ends in " (kept)", as
            in "trivial (kept)", were counted and became pairs.
    """

    environment: str
    protocol: str
    rule: str
    seed: int
    split: str
    fingerprint: str
    split_hash: str
    pairs: tuple[Pair, ...]
    excluded: Mapping[str, int] = field(default_factory=dict)

    @property
    def starts(self) -> np.ndarray:
        """(P, S) float64."""
        return np.array([pair.start for pair in self.pairs], np.float64)

    @property
    def goals(self) -> np.ndarray:
        """(P, S) float64."""
        return np.array([pair.goal for pair in self.pairs], np.float64)

    @property
    def budgets(self) -> np.ndarray:
        """(P,) int64, environment steps."""
        return np.array([pair.budget for pair in self.pairs], np.int64)

    @property
    def remark(self) -> str:
        """How many candidates were left out, and kept, for which reason, as one clause for tables."""
        found: dict[str, list[str]] = {}
        for reason, count in self.excluded.items():
            found.setdefault("kept" if reason.endswith(KEPT) else "left out", []).append(
                f"{count} {reason.removesuffix(KEPT)}"
            )
        return "; ".join(f"{verb}: {', '.join(counts)}" for verb, counts in found.items())

    @property
    def sha256(self) -> str:
        """Hash of everything in the manifest."""
        return hashlib.sha256(_canonical(self).encode()).hexdigest()

    def first(self, count: int) -> "Manifest":
        """Return the manifest of the first `count` pairs.

        Raises:
            UserError: there are fewer pairs.
        """
        if not 1 <= count <= len(self.pairs):
            raise UserError(f"--episodes {count}: the manifest has {len(self.pairs)} pairs; ask for at most that many")
        return replace(self, pairs=self.pairs[:count])


def save_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest as JSON, with its hash."""
    content = {"version": VERSION, "sha256": manifest.sha256} | asdict(manifest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def load_manifest(path: Path) -> Manifest:
    """Read a manifest and check its hash.

    Raises:
        UserError: the file is missing, is no manifest, has another version, or was changed after it was written.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read the manifest {path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path} is no manifest: not JSON; draw a new one with --data") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"{path} is no manifest of version {VERSION}; draw a new one with --data")
    return _parse(content, path)


def _parse(content: Mapping[str, Any], path: Path) -> Manifest:
    names = [f.name for f in fields(Manifest) if f.name != "pairs"]
    try:
        values: dict[str, Any] = {name: content[name] for name in names}
        manifest = Manifest(**values, pairs=tuple(Pair(**pair) for pair in content["pairs"]))
        found = manifest.sha256
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path} is no complete manifest; draw a new one with --data") from None
    if found != content.get("sha256"):
        raise UserError(f"{path} was changed after it was written: its sha256 does not fit; draw a new one with --data")
    if not manifest.pairs:
        raise UserError(f"{path} holds no pairs; draw a new one with --data")
    return manifest


def _canonical(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), sort_keys=True, separators=(",", ":"), allow_nan=False)


def reset_options(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return the ways to write the pairs' scenes as reset options of a vector environment, to be tried in this order.

    One scene for all is one mapping. Scenes that differ are a mapping of arrays, (P,) or (P, size), for environments
    that are batched in arrays, or P mappings for those that keep one scene after another.

    Raises:
        UserError: the pairs vary different things.
    """
    scenes = [dict(pair.variation) for pair in pairs]
    if any(set(scene) != set(scenes[0]) for scene in scenes):
        raise UserError("the pairs of a manifest must all name the same variations; draw a new one with --data")
    if not scenes[0]:
        return [{}]
    if all(scene == scenes[0] for scene in scenes):
        return [{"variation": scenes[0]}]
    stacked = {name: np.array([scene[name] for scene in scenes]) for name in scenes[0]}
    return [{"variation": stacked}, {"variation": scenes}]
