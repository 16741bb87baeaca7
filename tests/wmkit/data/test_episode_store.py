"""The store: what is written is what is read, and half a file is never there."""

import json
from dataclasses import asdict

import h5py
import numpy as np
import pytest
from counting_store import counting_episode, counting_metadata, write_counting_store

from wmkit.data.episodes import EpisodeStore
from wmkit.data.metadata import ColumnSpec, Metadata
from wmkit.data.shards import Episode, shard_path, write_shard
from wmkit.errors import UserError

LENGTHS = [3, 1, 7, 2, 5]


@pytest.fixture
def store(tmp_path):
    return write_counting_store(tmp_path / "data", LENGTHS, per_shard=2)


def test_reads_back_every_episode(store):
    for index, length in enumerate(LENGTHS):
        expected = counting_episode(index, length).columns
        found = store.episode(index).columns
        assert set(found) == set(expected)
        for name, rows in expected.items():
            np.testing.assert_array_equal(found[name], rows)
            assert found[name].dtype == rows.dtype, name


def test_reads_chosen_episodes_in_the_order_asked_for(store):
    rows = store.read("state", [3, 0])
    np.testing.assert_array_equal(rows[:, 0], [3] * 3 + [0] * 4)
    np.testing.assert_array_equal(rows[:, 1], [0, 1, 2, 0, 1, 2, 3])


def test_rows_stay_within_the_episode(store):
    np.testing.assert_array_equal(store.rows("state", 2, 2, 4), [[2, 2], [2, 3]])
    with pytest.raises(UserError, match="episode 1 has 2 rows"):
        store.rows("state", 1, 0, 3)


def test_values_are_one_row_an_episode(store):
    np.testing.assert_array_equal(store.values("goal_state")[:, 1], LENGTHS)
    with pytest.raises(UserError, match="per frame"):
        store.values("state")


def test_fingerprint_ignores_sharding_and_notices_content(tmp_path):
    texts = {write_counting_store(tmp_path / str(size), LENGTHS, size).fingerprint for size in (1, 2, 5)}
    assert len(texts) == 1
    assert write_counting_store(tmp_path / "other", [*LENGTHS[:-1], 6]).fingerprint not in texts
    assert write_counting_store(tmp_path / "order", LENGTHS[::-1]).fingerprint not in texts


def test_an_interrupted_shard_leaves_nothing(tmp_path):
    def episodes():
        yield counting_episode(0, 4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, 0, counting_metadata(2), episodes())
    assert list(tmp_path.iterdir()) == []


def test_unfinished_store_opens_only_when_asked_for(store):
    shard_path(store.folder, 1).unlink()
    with pytest.raises(UserError, match="3 of 5 episodes"):
        EpisodeStore.open(store.folder)
    partial = EpisodeStore.open(store.folder, partial=True)
    assert partial.episodes.tolist() == [0, 1, 4]
    np.testing.assert_array_equal(partial.read("state", [2])[:, 0], [4] * 6)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_truncated_file_is_named_in_one_line(store, keep):
    path = shard_path(store.folder, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match=rf"^{path}: unreadable or truncated") as caught:
        EpisodeStore.open(store.folder)
    assert "\n" not in str(caught.value)


def test_a_shard_in_the_place_of_another_is_refused(store):
    shard_path(store.folder, 1).write_bytes(shard_path(store.folder, 0).read_bytes())
    with pytest.raises(UserError, match=r"episodes \[0, 1\], expected \[2, 3\]"):
        EpisodeStore.open(store.folder)


def test_no_store_at_all(tmp_path):
    with pytest.raises(UserError, match=r"there is no meta\.json"):
        EpisodeStore.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"colums": []}, "colums"),
        ({"columns": [{"name": "x"}]}, "not the metadata"),
    ],
)
def test_foreign_metadata_is_refused(store, change, message):
    path = store.folder / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        Metadata.load(store.folder)


def test_metadata_survives_a_round_trip(store):
    assert Metadata.load(store.folder) == store.metadata


def test_column_names_are_unique_and_free():
    fields = asdict(counting_metadata(1))
    for name in ("pixels", "length"):
        columns = (*counting_metadata(1).columns, ColumnSpec(name, "frame", "uint8", (), ""))
        with pytest.raises(ValueError, match=name):
            Metadata(**(fields | {"columns": columns}))


def test_unknown_column_lists_the_known_ones(store):
    with pytest.raises(UserError, match=r"no column 'depth'; known: pixels, state"):
        store.read("depth", [0])


def test_episode_that_does_not_fit_is_refused(tmp_path):
    good = counting_episode(0, 4).columns
    for name, rows in (("state", np.zeros((5, 3))), ("action", np.zeros((5, 2))), ("goal_state", np.zeros(3))):
        with pytest.raises(ValueError, match=f"column '{name}' has shape"):
            write_shard(tmp_path, 0, counting_metadata(1), [Episode(0, {**good, name: rows})])
    with pytest.raises(ValueError, match="columns"):
        write_shard(tmp_path, 0, counting_metadata(1), [Episode(0, {"state": good["state"]})])


def test_pixels_are_compressed(tmp_path):
    store = write_counting_store(tmp_path, [200])
    with h5py.File(shard_path(store.folder, 0)) as file:
        assert file["pixels"].compression == "gzip"
