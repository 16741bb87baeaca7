"""Pairs: deterministic, held out, nontrivial."""

import dataclasses

import numpy as np
import pytest

from wmkit.errors import UserError
from wmkit.evaluation.protocols import PROTOCOLS, Recording, draw_manifest, needs_motion
from wmkit.tasks import Column


def test_the_same_seed_draws_the_same_manifest(task, recordings):
    drawn = [draw_manifest(task, PROTOCOLS["short"], 20, seed, recordings=recordings) for seed in (0, 0, 1)]
    assert drawn[0].sha256 == drawn[1].sha256 != drawn[2].sha256


@pytest.mark.parametrize(("name", "offset"), [("short", 25), ("long50", 50)])
def test_windows_are_rows_of_their_episode(task, recordings, name, offset):
    manifest = draw_manifest(task, PROTOCOLS[name], 10, recordings=recordings)
    by_index = {recording.index: recording for recording in recordings}
    for pair in manifest.pairs:
        recording = by_index[pair.episode]
        assert pair.goal_row - pair.start_row == offset
        assert pair.budget == 2 * offset
        np.testing.assert_array_equal(pair.start, recording.states[pair.start_row])
        np.testing.assert_array_equal(pair.goal, recording.states[pair.goal_row])
        np.testing.assert_array_equal(np.float32(pair.actions), recording.actions[pair.start_row : pair.goal_row])


def test_pairs_that_are_solved_at_the_start_are_left_out_and_counted(task, recordings):
    manifest = draw_manifest(task, PROTOCOLS["short"], 30, recordings=recordings)
    assert not task.success(manifest.starts, manifest.goals, "distance", False).any()
    assert manifest.excluded["trivial"] > 0
    still = [Recording(0, np.full((60, 2), 0.25), np.zeros((59, 2)))]
    with pytest.raises(UserError, match=r"only 0 of 1 .* 35 trivial"):
        draw_manifest(task, PROTOCOLS["short"], 1, recordings=still)


def test_pairs_are_spread_over_the_episodes_and_differ(task, recordings):
    manifest = draw_manifest(task, PROTOCOLS["short"], 8, recordings=recordings)
    keys = [(pair.episode, pair.start_row) for pair in manifest.pairs]
    assert len(set(keys)) == 8
    assert len({episode for episode, _ in keys}) >= 6


def test_cross_takes_whole_episodes_between_rooms_only(task, recordings):
    crossing = [r.index for r in recordings if (r.states[0, 0] > 0.5) != (r.states[-1, 0] > 0.5)]
    assert {0, 2, 4, 6, 8, 10} <= set(crossing) < set(range(12))
    manifest = draw_manifest(task, PROTOCOLS["cross"], len(crossing), recordings=recordings)
    assert sorted(pair.episode for pair in manifest.pairs) == crossing
    assert set(manifest.budgets.tolist()) == {120}
    with pytest.raises(UserError, match=rf"only {len(crossing)} of .*{12 - len(crossing)} same room"):
        draw_manifest(task, PROTOCOLS["cross"], len(crossing) + 1, recordings=recordings)


def test_full_needs_no_recordings_and_takes_the_tasks_budget(task):
    manifest = draw_manifest(task, PROTOCOLS["full"], 5, seed=4, fingerprint="x")
    assert manifest.split == "reset"
    assert manifest.fingerprint == ""
    assert manifest.budgets.tolist() == [60] * 5
    assert len(np.unique(manifest.starts, axis=0)) == 5


def test_full_uses_coverage_where_the_task_knows_it(task):
    assert PROTOCOLS["full"].default_rule(task) == "distance"
    pusht = dataclasses.replace(task, rules=("pose", "coverage"))
    assert PROTOCOLS["full"].default_rule(pusht) == "coverage"
    assert PROTOCOLS["short"].default_rule(pusht) == "pose"


def test_mistakes_are_named(task, recordings):
    with pytest.raises(UserError, match=r"--rule 'pose'.*known: distance"):
        draw_manifest(task, PROTOCOLS["short"], 1, recordings=recordings, rule="pose")
    with pytest.raises(UserError, match="--data DIR or --manifest"):
        draw_manifest(task, PROTOCOLS["short"], 1)
    with pytest.raises(UserError, match="only 0 of 1"):
        draw_manifest(task, PROTOCOLS["long75"], 1, recordings=recordings)
    with pytest.raises(UserError, match="rooms"):
        draw_manifest(dataclasses.replace(task, name="other"), PROTOCOLS["cross"], 1, recordings=recordings)


def test_needs_motion_looks_at_the_block_alone_and_wraps_angles(task):
    columns = [("agent x", "px"), ("block x", "px"), ("block angle", "rad"), ("block velocity x", "px/s")]
    pusht = dataclasses.replace(task, state=[Column(*column) for column in columns])
    starts = np.zeros((5, 4))
    goals = np.array([[99, 0, 0, 99], [0, 6, 0, 0], [0, 4, 0, 0], [0, 0, 2 * np.pi, 0], [0, 0, 2 * np.pi - 0.2, 0]])
    assert needs_motion(pusht, starts, goals).tolist() == [False, True, False, False, True]
    assert needs_motion(task, starts[:, :2], goals[:, :2]) is None


def test_papers_keeps_and_counts_what_short_leaves_out(task, recordings):
    short, papers = (draw_manifest(task, PROTOCOLS[name], 40, 2, recordings=recordings) for name in ("short", "papers"))
    solved = task.success(papers.starts, papers.goals, "distance", False)
    assert 0 < solved.sum() < 40
    assert papers.excluded == {"trivial (kept)": solved.sum()}
    assert papers.remark == f"kept: {solved.sum()} trivial"
    assert short.remark == f"left out: {short.excluded['trivial']} trivial"
    assert set(papers.budgets.tolist()) == {50}
    kept = [pair for pair, trivial in zip(papers.pairs, solved, strict=True) if not trivial]
    assert kept == list(short.pairs[: len(kept)])


def test_papers_draws_from_episodes_in_which_nothing_happens(task):
    still = [Recording(0, np.full((60, 2), 0.25), np.zeros((59, 2)))]
    manifest = draw_manifest(task, PROTOCOLS["papers"], 20, recordings=still)
    assert len({pair.start_row for pair in manifest.pairs}) == 20
    assert manifest.excluded == {"trivial (kept)": 20}
    assert "kept" in PROTOCOLS["papers"].text
