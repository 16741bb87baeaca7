"""`wmkit data` as a user runs it."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from wmkit.errors import UserError
from wmkit.scripts.data import Data, run

sys.path.insert(0, str(Path(__file__).parents[1] / "wmkit" / "data"))
from counting_store import write_counting_store

LENGTHS = [3, 5, 4, 2, 6]


@pytest.fixture
def store(tmp_path):
    return write_counting_store(tmp_path, LENGTHS, per_shard=2)


def test_info_tells_what_is_there(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    run(Data("info", store.folder))
    text = capsys.readouterr().out
    for expected in ("counting", "5 of 5", "25", "2 to 6, mean 4.0", "5 of 5 (100.0 %)", store.fingerprint, "pixels"):
        assert expected in text
    assert "train 3, validation 1, heldout 1" in text


def test_info_of_an_unfinished_store(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    (store.folder / "shard-00001.h5").unlink()
    run(Data("info", store.folder))
    text = capsys.readouterr().out
    assert "3 of 5" in text
    assert "heldout" not in text


def test_validate_says_that_all_is_well(store, capsys):
    run(Data("validate", store.folder))
    assert f"5 episodes are sound, fingerprint {store.fingerprint}" in capsys.readouterr().out


def test_validate_prints_a_line_for_each_defect_and_exits_with_2(store, capsys):
    for shard in (0, 2):
        with h5py.File(store.folder / f"shard-{shard:05d}.h5", "r+") as file:
            file["state"][0] = np.nan
    with pytest.raises(SystemExit) as caught:
        run(Data("validate", store.folder))
    assert caught.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "shard-" in line]
    assert len(lines) == 2
    assert "episode 4: column 'state', row 0 number 0: found nan" in lines[1]


@pytest.mark.parametrize("action", ["info", "validate"])
def test_no_data_is_a_users_mistake(tmp_path, action):
    with pytest.raises(UserError, match="holds no data"):
        run(Data(action, tmp_path))
