"""Collected episodes hold the right steps of the right rows, survive what may happen, and can be adapted to."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "diffusion"))
import cart_task

from wmkit.data.episodes import EpisodeStore
from wmkit.data.metadata import Metadata
from wmkit.data.validate import validate
from wmkit.diffusion.adapt import AdaptSettings, adapt
from wmkit.errors import UserError
from wmkit.monitor.reactions import ask_for_adaptation
from wmkit.monitor.report import Surprise


@pytest.fixture(scope="module")
def cart_run(tmp_path_factory):
    """Folders of a run and of its data."""
    torch.set_num_threads(1)
    return cart_task.make_run(tmp_path_factory.mktemp("cart"))


def collector(folder, **options):
    return ask_for_adaptation(folder, cart_task.CART, **({"steps": 6, "before": 2, "enough": 3} | options))


def play(reaction, alarms, rows=1, repeat=1, start=0):
    """Run rows through environment steps; the state of row r at step t is (t, r), an alarm where there is a 1."""
    for step, mark in enumerate(alarms):
        if step % repeat == 0:
            for row in range(rows):
                on = (mark if isinstance(mark, str) else mark[row]) == "1"
                reaction(Surprise(row, step // repeat, 2.0 * on, on, on))
        states = np.array([[start + step, row] for row in range(rows)], float)
        reaction.record({"state": states}, np.full((rows, 2), 0.001 * (start + step), np.float32))


def times(store):
    """Return for each episode its first and last step, its row, and the step at which its alarm began."""
    found = []
    for position in range(len(store)):
        columns = store.episode(position).columns
        steps = columns["state"][:, 0].astype(int)
        np.testing.assert_array_equal(steps, np.arange(steps[0], steps[0] + len(steps)))
        np.testing.assert_allclose(columns["action"], 0.001 * steps[:-1, None] * np.ones(2), atol=1e-7)
        began = int(steps[columns["alarm"].argmax()]) if columns["alarm"].any() else None
        found.append((steps[0], steps[-1], int(columns["state"][0, 1]), began))
    return found


def test_episodes_begin_before_the_alarm_and_follow_one_another(tmp_path):
    reaction = collector(tmp_path)
    play(reaction, "0000" + "1" * 9 + "0" * 20)
    reaction.close()
    store = EpisodeStore.open(tmp_path)
    assert times(store) == [(2, 8, 0, 4), (8, 14, 0, 8)]
    assert validate(tmp_path) == []
    assert store.metadata.policy == "controller"
    assert store.metadata.column("state").labels == ("x", "y")


def test_rows_are_recorded_apart_and_nothing_without_an_alarm(tmp_path):
    reaction = collector(tmp_path)
    play(reaction, [(a, b, "0") for a, b in zip("0001100000000000", "0000000111000000", strict=True)], rows=3)
    reaction.close()
    assert times(EpisodeStore.open(tmp_path)) == [(1, 7, 0, 3), (5, 11, 1, 7)]
    quiet = collector(tmp_path / "quiet")
    play(quiet, "0" * 30)
    quiet.close()
    assert not (tmp_path / "quiet" / "meta.json").exists()


def test_alarms_come_with_model_steps(tmp_path):
    reaction = collector(tmp_path)
    play(reaction, "0" * 5 + "1" * 5 + "0" * 20, repeat=5)
    reaction.close()
    assert times(EpisodeStore.open(tmp_path)) == [(3, 9, 0, 5), (9, 15, 0, 9)]


def test_a_second_alarm_right_after_an_episode_repeats_none_of_it(tmp_path):
    reaction = collector(tmp_path, before=4)
    play(reaction, "001000010000000")
    reaction.close()
    assert times(EpisodeStore.open(tmp_path)) == [(0, 6, 0, 2), (6, 12, 0, 7)]


def test_a_reset_cuts_an_episode_and_never_joins_two(tmp_path):
    reaction = collector(tmp_path)
    play(reaction, "0111111")
    play(reaction, "01" + "0" * 9, start=100)
    play(reaction, "00001", start=200)
    reaction.close()
    assert times(EpisodeStore.open(tmp_path)) == [(0, 6, 0, 1), (100, 106, 0, 101)]


def test_half_an_episode_is_kept_and_less_is_not(tmp_path):
    for count, kept in (("0011", [(0, 3, 0, 2)]), ("001", None)):
        reaction = collector(tmp_path / count)
        play(reaction, count)
        reaction.close()
        assert (tmp_path / count / "meta.json").exists() == (kept is not None)
        if kept:
            assert times(EpisodeStore.open(tmp_path / count)) == kept


def test_an_observation_that_is_not_finite_is_never_in_the_data(tmp_path):
    reaction = collector(tmp_path)
    for step in range(20):
        reaction(Surprise(0, step, 2.0, step > 3, step == 4))
        lost = step in (3, 9)
        reaction.record({"state": np.array([[np.nan if lost else step, 0.0]])}, np.full((1, 2), 0.001 * step))
    reaction.close()
    assert validate(tmp_path) == []
    assert times(EpisodeStore.open(tmp_path)) == [(4, 8, 0, 4), (10, 16, 0, 10), (16, 19, 0, 16)]


def test_the_arrays_may_be_reused_by_who_hands_them_in(tmp_path):
    reaction, state = collector(tmp_path), np.zeros((1, 2))
    for step in range(9):
        reaction(Surprise(0, step, 2.0, step > 0, step == 1))
        state[0, 0] = step
        reaction.record({"state": state}, np.full((1, 2), 0.001 * step))
    reaction.close()
    assert times(EpisodeStore.open(tmp_path))[0] == (0, 6, 0, 1)


def test_it_asks_once_with_the_command(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    reaction = collector(tmp_path, run="runs/walker", most=4)
    play(reaction, "0" + "1" * 60)
    reaction.close()
    asked = [record.getMessage() for record in caplog.records]
    command = f"wmkit adapt runs/walker --data {tmp_path} --out runs/walker-adapted"
    assert asked == [f"3 episodes since the alarm; adapt to them with: {command}"]
    assert len(EpisodeStore.open(tmp_path)) == 4


def test_what_was_collected_can_be_adapted_to(cart_run, tmp_path):
    reaction = ask_for_adaptation(tmp_path / "data", cart_task.CART, steps=12, before=2)
    random, states = np.random.default_rng(0), np.zeros((4, 2))
    for step in range(40):
        for row in range(4):
            reaction(Surprise(row, step, 2.0, step > 3, step == 4))
        actions = random.uniform(-1, 1, (4, 2)).astype(np.float32)
        reaction.record({"state": states}, actions)
        states = states + 0.1 * 0.3 * actions
    reaction.close()
    settings = AdaptSettings(steps=40, lr=3e-3, batch=32, ema=0.9)
    report = adapt(cart_run[0], tmp_path / "data", tmp_path / "new", settings, show=False).report
    assert report["after"]["open_loop"] < 0.7 * report["before"]["open_loop"]


def test_a_later_collection_goes_on_and_counts_what_a_killed_one_left(tmp_path):
    first = collector(tmp_path)
    play(first, "0" + "1" * 12 + "0" * 9)
    first.close()
    whole = times(EpisodeStore.open(tmp_path))
    metadata = Metadata.load(tmp_path)
    type(metadata)(**{**vars(metadata), "episodes": metadata.episodes - 1}).save(tmp_path)
    (tmp_path / ".shard-00007.h5.1.tmp").write_bytes(b"half")
    second = collector(tmp_path)
    assert second.episodes == len(whole)
    play(second, "01" + "0" * 9, start=50)
    second.close()
    assert times(EpisodeStore.open(tmp_path)) == [*whole, (50, 56, 0, 51)]
    assert not list(tmp_path.glob(".*.tmp"))


PROGRAM = """
import sys
sys.path[:0] = [{paths}]
from test_episode_collector import collector, play
reaction = collector({folder!r})
play(reaction, "0" + "1" * 10)
{end}
"""


@pytest.mark.parametrize(("end", "expected"), [("raise KeyboardInterrupt", 2), ("import os; os._exit(1)", 1)])
def test_an_interrupt_loses_nothing_and_a_kill_only_what_is_not_finished(tmp_path, end, expected):
    if "exit" in end:
        end = f"import time\nwhile not reaction._writer._next: time.sleep(0.01)\n{end}"
    paths = ", ".join(repr(str(path)) for path in (Path(__file__).parent, Path(cart_task.__file__).parent))
    text = PROGRAM.format(paths=paths, folder=str(tmp_path), end=end)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env={**os.environ}, timeout=60)
    assert done.returncode != 0
    assert len(EpisodeStore.open(tmp_path)) == expected
    collector(tmp_path).close()


def test_other_data_and_other_writers_are_refused(tmp_path):
    cart_task.record(tmp_path / "expert", episodes=3)
    with pytest.raises(UserError, match="holds other data"):
        collector(tmp_path / "expert")
    reaction = collector(tmp_path / "mine")
    with pytest.raises(UserError, match="another process is writing"):
        collector(tmp_path / "mine")
    reaction.close()
    collector(tmp_path / "mine").close()


@pytest.mark.parametrize("wrong", [{"steps": 1}, {"before": 6}, {"before": -1}, {"enough": 2}, {"most": 2}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(UserError, match=rf"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        collector(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_written_is_said_and_does_not_stop_the_loop(tmp_path, caplog):
    reaction = collector(tmp_path)
    play(reaction, "01" + "0" * 9)
    reaction.record({"state": np.zeros((1, 3))}, np.zeros((1, 2)))
    reaction._writer.put({"state": np.zeros((3, 3)), "action": np.zeros((2, 2))})
    reaction.close()
    assert "no longer recorded" in caplog.text
    assert len(EpisodeStore.open(tmp_path)) == 1
