"""Training never saw the episodes that pairs come from."""

import types

import numpy as np
import pytest

from wmkit.errors import UserError
from wmkit.evaluation.held_out import check_held_out, read_recordings
from wmkit.evaluation.manifest import Manifest, Pair


def _manifest(split="heldout", fingerprint="a" * 64, split_hash="b" * 64):
    return Manifest("two-room", "short", "distance", 0, split, fingerprint, split_hash, (Pair((0,), (1,), 2),))


def test_recordings_are_those_of_the_split_with_their_scenes(store):
    splits = types.SimpleNamespace(episodes=lambda split: {"heldout": (10, 12)}[split])
    found = read_recordings(store, splits)
    assert [recording.index for recording in found] == [10, 12]
    assert [float(recording.states[0, 0]) for recording in found] == [0.0, 2.0]
    assert [recording.variation for recording in found] == [{"door.position": 0.3}, {"door.position": 0.5}]
    assert np.shape(found[1].actions) == (3, 2)


@pytest.mark.parametrize("split", ["train", "validation", "all", ""])
def test_pairs_from_any_other_split_are_refused(split):
    with pytest.raises(UserError, match="training may see") as caught:
        check_held_out(_manifest(split), {})
    assert "\n" not in str(caught.value)


def test_the_same_data_split_otherwise_is_refused():
    training = {"fingerprint": "a" * 64, "splits": {"heldout": "c" * 64}}
    with pytest.raises(UserError, match="another split"):
        check_held_out(_manifest(), training)
    with pytest.raises(UserError, match="another split"):
        check_held_out(_manifest(), {"fingerprint": "a" * 64})


def test_what_is_allowed_is_labelled():
    own = {"fingerprint": "a" * 64, "splits": {"heldout": "b" * 64}}
    assert "model's own data (aaaaaaaa)" in check_held_out(_manifest(), own)
    assert "other data (aaaaaaaa)" in check_held_out(_manifest(), {"fingerprint": "d" * 64})
    assert "does not say" in check_held_out(_manifest(), {})
    assert "environment's own" in check_held_out(_manifest("reset", "", ""), own)
