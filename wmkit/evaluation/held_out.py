"""Held-out episodes, and the check that a model's training never saw them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.episodes import EpisodeStore
from ..data.splits import Splits
from ..errors import UserError
from .manifest import HELD_OUT, Manifest
from .protocols import Recording

__all__ = ["check_held_out", "describe_origin", "read_recordings"]

_STATE, _ACTION = "state", "action"


def read_recordings(store: EpisodeStore, splits: Splits, split: str = HELD_OUT) -> list[Recording]:
    """Read states, actions and scenes of all episodes of a split.

    Raises:
        UserError: the split is unknown, or the store lacks a column.
    """
    wanted = set(splits.episodes(split))
    positions = [position for position, index in enumerate(store.episodes.tolist()) if index in wanted]
    scenes = {name: store.values(name) for name in store.metadata.scene}
    return [
        Recording(
            index=int(store.episodes[position]),
            states=np.asarray(store.read(_STATE, [position]), np.float64),
            actions=store.read(_ACTION, [position]),
            variation={name: values[position] for name, values in scenes.items()},
        )
        for position in positions
    ]


def check_held_out(manifest: Manifest, training: Mapping[str, Any]) -> str:
    """Check that a model's training did not see the manifest's episodes; return one line for the table.

    Args:
        manifest: the pairs.
        training: what the model's folder says of its data: "fingerprint" and "splits" (split -> hash).

    Raises:
        UserError: the pairs come from a split that is not held out, or from the same data split differently.
    """
    if manifest.split == "reset":
        return "the environment's own starts and goals"
    if manifest.split != HELD_OUT:
        raise UserError(
            f"the manifest's pairs come from the {manifest.split!r} split, which training may see; "
            "draw one from held-out episodes with --data"
        )
    return describe_origin("pairs", manifest.fingerprint, manifest.split_hash, training)


def describe_origin(what: str, fingerprint: str, split_hash: str, training: Mapping[str, Any]) -> str:
    """Return one line on held-out episodes beside what a model says of its data.

    Args:
        what: is taken from the episodes, e.g. "pairs".
        fingerprint: of the data.
        split_hash: of the data's held-out split.
        training: "fingerprint" and "splits" (split -> hash) of what the model was trained on.

    Raises:
        UserError: the same data, split differently.
    """
    own, hashes = training.get("fingerprint"), training.get("splits") or {}
    if not own:
        return f"held-out {what}; the model does not say what it was trained on"
    if own != fingerprint:
        return f"held-out {what} of other data ({fingerprint[:8]}) than the model's ({own[:8]})"
    if hashes.get(HELD_OUT) != split_hash:
        raise UserError(
            f"the model was trained on another split of the same data, so these {what} may be among what it saw; "
            "draw new ones with the data's own splits.json"
        )
    return f"held-out {what} of the model's own data ({own[:8]})"
