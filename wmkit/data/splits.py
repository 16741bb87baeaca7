"""Which episodes are for training, for validation, and held out for evaluation.

Episodes are split, never frames. Within each block of 50 episodes a permutation drawn from the data's seed and the
block's number decides, so that adding episodes to a store of at least 50 moves none from one split to another.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from .episodes import EpisodeStore
from .files import read_json, write_json

__all__ = ["SPLITS", "Splits", "load_splits", "make_splits", "save_splits", "splits_path"]

SPLITS = ("train", "validation", "heldout")
"""Names of the splits."""


@dataclass(frozen=True)
class Splits:
    """The split of one store.

    Attributes:
        fingerprint: of the store that is split.
        train: indices of the episodes to train on, ascending.
        validation: indices for diagnostics during training.
        heldout: indices that no training step sees; evaluation takes starts and goals from them.
        hashes: split -> sha256 over its episodes' fingerprints, hexadecimal.
    """

    fingerprint: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    heldout: tuple[int, ...]
    hashes: dict[str, str]

    def episodes(self, name: str) -> tuple[int, ...]:
        """Return the episode indices of a split, or of "all".

        Raises:
            UserError: the name is unknown.
        """
        if name == "all":
            return tuple(sorted(self.train + self.validation + self.heldout))
        if name not in SPLITS:
            raise UserError(f"unknown split {name!r}; known: {', '.join(SPLITS)}, all")
        return getattr(self, name)


def make_splits(store: EpisodeStore, percent: tuple[int, int, int] = (90, 2, 8)) -> Splits:
    """Split a store by episodes.

    Args:
        store: what to split.
        percent: whole percentages for training, validation and held-out, 100 together.

    Raises:
        UserError: the percentages do not add up, or there are fewer episodes than splits.
    """
    if sum(percent) != 100 or min(percent) < 1:
        raise UserError(f"split percentages {percent} must be whole, at least 1, and 100 together")
    if len(store) < len(SPLITS):
        raise UserError(f"{store.folder} holds {len(store)} episodes; a split needs at least {len(SPLITS)}")
    names = _assign(store.episodes, store.metadata.seed, percent)
    chosen = {name: tuple(store.episodes[names == number].tolist()) for number, name in enumerate(SPLITS)}
    texts = dict(zip(store.episodes.tolist(), store.fingerprints, strict=True))
    hashes = {name: _hash([texts[index] for index in indices]) for name, indices in chosen.items()}
    return Splits(store.fingerprint, chosen["train"], chosen["validation"], chosen["heldout"], hashes)


def save_splits(store: EpisodeStore, splits: Splits) -> None:
    """Write `splits.json` beside the data, whole or not at all."""
    write_json(splits_path(store), vars(splits))


def load_splits(store: EpisodeStore) -> Splits:
    """Read `splits.json`; without the file, split as `wmkit collect` would.

    Raises:
        UserError: the file is unreadable, belongs to other data, or does not name every episode once.
    """
    path = splits_path(store)
    if not path.exists():
        return make_splits(store)
    content = read_json(path)
    try:
        lists = {name: tuple(int(index) for index in content[name]) for name in SPLITS}
        splits = Splits(str(content["fingerprint"]), **lists, hashes=dict(content["hashes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a split manifest ({error!r})") from error
    if splits.fingerprint != store.fingerprint:
        raise UserError(
            f"{path} belongs to other data (fingerprint {splits.fingerprint[:12]}, the data's is "
            f"{store.fingerprint[:12]}); delete it and repeat `wmkit collect`"
        )
    if list(splits.episodes("all")) != store.episodes.tolist():
        raise UserError(
            f"{path} does not name each of {len(store)} episodes once; delete it and repeat `wmkit collect`"
        )
    return splits


def _assign(episodes: np.ndarray, seed: int, percent: tuple[int, int, int]) -> np.ndarray:
    """Return the number of each episode's split, (E,), by its rank in its block's permutation."""
    block = 100 // math.gcd(*percent)
    if len(episodes) < block:
        return _assign_few(len(episodes), seed, percent)
    ranks = {number: _permutation(seed, number, block) for number in set((episodes // block).tolist())}
    rank = np.array([ranks[index // block][index % block] for index in episodes.tolist()])
    bounds = np.array([percent[2], percent[2] + percent[1]]) * block / 100
    return np.select([rank < bounds[0], rank < bounds[1]], [2, 1], 0)


def _assign_few(count: int, seed: int, percent: tuple[int, int, int]) -> np.ndarray:
    """Return the number of each episode's split where there is not even one full block: at least one in each."""
    heldout, validation = (max(1, round(share * count / 100)) for share in (percent[2], percent[1]))
    rank = _permutation(seed, 0, count)
    return np.select([rank < heldout, rank < heldout + validation], [2, 1], 0)


def _permutation(seed: int, block: int, size: int) -> np.ndarray:
    """Return a permutation (size,) that depends on the seed and the block alone."""
    return np.random.default_rng([seed, block, size]).permutation(size)


def _hash(texts: list[str]) -> str:
    """Return sha256 over lines of text, hexadecimal."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def splits_path(store: EpisodeStore) -> Path:
    """Return where a store's manifest stands."""
    return store.folder / "splits.json"
