"""Validation: a sound store gives no line, and each defect gives exactly one."""

import h5py
import numpy as np
import pytest
from counting_store import write_counting_store

from wmkit.data.shards import shard_path
from wmkit.data.splits import make_splits, save_splits
from wmkit.data.validate import validate

LENGTHS = [3, 5, 4, 2, 6, 3]


@pytest.fixture
def store(tmp_path):
    store = write_counting_store(tmp_path, LENGTHS, per_shard=3)
    save_splits(store, make_splits(store))
    return store


def _replace(file, name, rows):
    del file[name]
    file[name] = rows


def _set(name, row, value):
    def change(file):
        file[name][row] = value

    return change


def test_sound_store_has_no_defect_and_every_episode_is_read(store):
    counts = []
    assert validate(store.folder, counts.append) == []
    assert sum(counts) == len(LENGTHS)


DEFECTS = {
    "missing column": (lambda file: file.__delitem__("state"), ["missing column 'state'"]),
    "missing bookkeeping": (lambda file: file.__delitem__("length"), ["missing column 'length'"]),
    "wrong shape": (
        lambda file: _replace(file, "pixels", file["pixels"][:, :3]),
        ["column 'pixels' has shape (14, 3, 4, 3), expected (14, 4, 4, 3)"],
    ),
    "too few rows": (
        lambda file: _replace(file, "state", file["state"][:-1]),
        ["column 'state' has shape (13, 2), expected (14, 2)"],
    ),
    "wrong dtype": (
        lambda file: _replace(file, "action", file["action"][:].astype(np.float64)),
        ["column 'action' is float64, expected float32"],
    ),
    "NaN": (
        _set("state", (7, 1), np.nan),
        ["episode 4: column 'state', row 4 number 1: found nan, expected a finite number (1 such)"],
    ),
    "infinite goal": (
        _set("goal_state", (2, 0), np.inf),
        ["episode 5: column 'goal_state', its row number 0: found inf, expected a finite number"],
    ),
    "action out of bounds": (
        _set("action", (9, 0), 1.5),
        ["episode 5: column 'action', row 1 number 0: found 1.5, expected -1 to 1 (1 such)"],
    ),
    "NaN action": (_set("action", (0, 1), np.nan), ["episode 3: column 'action', row 0 number 1: found nan"]),
    "changed pixel": (_set("pixels", (13, 2, 2, 1), 77), ["episode 5: the content does not match its fingerprint"]),
    "changed success": (_set("success", 0, True), ["episode 3: the content does not match its fingerprint"]),
    "repeated number": (_set("episode", 1, 3), ["episodes [3, 3, 5], expected [3, 4, 5]"]),
    "lost episode": (
        lambda file: _replace(file, "episode", file["episode"][:2]),
        ["episodes [3, 4], expected [3, 4, 5]"],
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_gives_one_line(store, name):
    change, expected = DEFECTS[name]
    path = shard_path(store.folder, 1)
    with h5py.File(path, "r+") as file:
        change(file)
    problems = validate(store.folder)
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: ")
    assert expected[0] in problems[0]
    assert "\n" not in problems[0]


def test_defects_of_several_files_are_all_named(store):
    for shard in (0, 1):
        with h5py.File(shard_path(store.folder, shard), "r+") as file:
            file["state"][0] = np.nan
    assert [line.split(": ")[1] for line in validate(store.folder)] == ["episode 0", "episode 3"]


def test_truncated_file(store):
    path = shard_path(store.folder, 0)
    path.write_bytes(path.read_bytes()[:-500])
    assert len(validate(store.folder)) == 1
    assert f"{path}: unreadable or truncated" in validate(store.folder)[0]


def test_damaged_bytes_are_noticed(tmp_path):
    store = write_counting_store(tmp_path, [300] * 3)
    path = shard_path(tmp_path, 0)
    with h5py.File(path) as file:
        place = file["pixels"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    middle = place.byte_offset + place.size // 2
    content[middle : middle + 40] = bytes(40)
    store.close()
    path.write_bytes(content)
    problems = validate(tmp_path)
    assert problems
    assert all(str(path) in line and "\n" not in line for line in problems)


def test_missing_and_superfluous_files(store):
    shard_path(store.folder, 1).rename(shard_path(store.folder, 2))
    problems = validate(store.folder)
    assert len(problems) == 2
    assert "shard-00002.h5: superfluous; 6 episodes fill 2 shards" in problems[0]
    assert "shard-00001.h5: missing, with the episodes 3 to 5" in problems[1]


def test_repeated_content(store):
    first, second = (shard_path(store.folder, shard) for shard in (0, 1))
    second.write_bytes(first.read_bytes())
    with h5py.File(second, "r+") as file:
        file["episode"][:] = [3, 4, 5]
    assert validate(store.folder)[0] == f"{second}: episode 3: repeats the content of {first}: episode 0"


def test_splits_of_other_data_and_no_metadata(store):
    path = store.folder / "splits.json"
    path.write_text(path.read_text().replace(store.fingerprint, "0" * 64))
    assert len(validate(store.folder)) == 1
    assert "belongs to other data" in validate(store.folder)[0]
    (store.folder / "meta.json").write_text("{")
    assert "cannot read" in validate(store.folder)[0]
