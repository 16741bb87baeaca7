"""Splits: every episode once, the same each time, and stable when data are added."""

import json

import numpy as np
import pytest
from counting_store import write_counting_store

from wmkit.data.splits import SPLITS, load_splits, make_splits, save_splits
from wmkit.errors import UserError


def _store(folder, count, seed=0):
    return write_counting_store(folder, [1] * count, per_shard=50, seed=seed)


@pytest.mark.parametrize("count", [3, 10, 49, 50, 120])
def test_every_episode_is_in_exactly_one_split(tmp_path, count):
    splits = make_splits(_store(tmp_path, count))
    parts = [splits.episodes(name) for name in SPLITS]
    assert min(map(len, parts)) >= 1
    assert sorted(sum(parts, ())) == list(range(count)) == list(splits.episodes("all"))


def test_shares_are_exact_in_full_blocks(tmp_path):
    splits = make_splits(_store(tmp_path, 100))
    assert [len(splits.episodes(name)) for name in SPLITS] == [90, 2, 8]
    splits = make_splits(_store(tmp_path / "other", 100), (70, 10, 20))
    assert [len(splits.episodes(name)) for name in SPLITS] == [70, 10, 20]


def test_more_episodes_move_none(tmp_path):
    small, large = (make_splits(_store(tmp_path / str(count), count)) for count in (60, 120))
    for name in SPLITS:
        assert set(small.episodes(name)) == {index for index in large.episodes(name) if index < 60}


def test_seed_decides(tmp_path):
    splits = [make_splits(_store(tmp_path / str(k), 100, seed)) for k, seed in enumerate((0, 0, 1))]
    assert splits[0].heldout == splits[1].heldout != splits[2].heldout


def test_manifest_reads_back(tmp_path):
    store = _store(tmp_path, 50)
    chosen = make_splits(store, (80, 10, 10))
    save_splits(store, chosen)
    assert load_splits(store) == chosen != make_splits(store)


def test_manifest_of_other_data_is_refused(tmp_path):
    store, other = _store(tmp_path / "a", 50), _store(tmp_path / "b", 60)
    save_splits(store, make_splits(other))
    with pytest.raises(UserError, match="belongs to other data"):
        load_splits(store)


def test_manifest_with_a_doubled_episode_is_refused(tmp_path):
    store = _store(tmp_path, 50)
    save_splits(store, make_splits(store))
    path = tmp_path / "splits.json"
    content = json.loads(path.read_text())
    content["train"][0] = content["heldout"][0]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="each of 50 episodes once"):
        load_splits(store)


def test_hashes_follow_the_content(tmp_path):
    a = make_splits(_store(tmp_path / "a", 50))
    lengths = np.ones(50, int)
    lengths[a.heldout[0]] = 2
    b = make_splits(write_counting_store(tmp_path / "b", lengths.tolist(), per_shard=50))
    assert a.hashes["heldout"] != b.hashes["heldout"]
    assert a.hashes["train"] == b.hashes["train"]


def test_bad_requests(tmp_path):
    with pytest.raises(UserError, match="needs at least 3"):
        make_splits(_store(tmp_path / "a", 2))
    with pytest.raises(UserError, match="100 together"):
        make_splits(_store(tmp_path / "b", 5), (90, 5, 8))
    with pytest.raises(UserError, match=r"unknown split 'test'; known: train"):
        make_splits(_store(tmp_path / "c", 5)).episodes("test")
