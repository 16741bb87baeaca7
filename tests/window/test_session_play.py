"""`Play`: what commands change, and how goals follow each other."""

from dataclasses import replace

import numpy as np
import pytest

from wmkit.monitor.reactions import hold, log
from wmkit.monitor.report import Surprise
from wmkit.window.planning import ReactionSwitch
from wmkit.window.play import Perturbation
from wmkit.window.snapshot import Command

STEPS_A_SECOND = 20


def ask(play, name, **what):
    """Let a person do something; return how things are then."""
    play.perform([Command(name, **what)])
    return play.shown()


def advance(play, steps):
    """Do control steps; return how things are then."""
    for _ in range(steps):
        play.advance()
    return play.shown()


def test_the_start_shows_scene_and_goal(play_of, near):
    play = play_of()
    shown = play.shown()
    assert shown.picture.dtype == np.uint8
    assert shown.picture.shape == (224, 224, 3)
    assert shown.goal_picture.shape == (224, 224, 3)
    assert not np.array_equal(shown.picture, shown.goal_picture)
    (outline,) = shown.goal_outline
    assert near(outline.mean(axis=0), play._pair.goal)
    assert near(shown.state, play._pair.start)
    assert (shown.tick, shown.episodes, shown.reached, shown.planner, shown.protocol) == (0, 1, 0, "one", "short")


def test_one_plan_for_each_model_step(play_of, readout):
    play = play_of(readout=readout)
    assert play.shown().costs == ()
    shown = advance(play, 11)
    assert shown.tick == 11
    assert len(shown.costs) == 3
    assert shown.decision_ms > 0
    assert shown.decision_p99_ms > 0
    assert len(shown.futures) == 3, "as many as the planner shows"
    assert shown.futures[0][0][0].shape == (24, 2)


def test_what_was_shown_never_changes(play_of):
    play = play_of()
    before = play.shown()
    kept = before.picture.copy(), before.state.copy()
    advance(play, 5)
    assert np.array_equal(before.picture, kept[0])
    assert np.array_equal(before.state, kept[1])
    assert not np.array_equal(before.state, play.shown().state)


def test_dragging_moves_and_lets_the_horizon_count_anew(play_of, readout, near):
    play = play_of(readout=readout)
    assert len(advance(play, 1).futures[0]) == 5
    assert len(advance(play, 15).futures[0]) == 2, "the horizon shrinks towards the recording's arrival"
    shown = ask(play, "drag", handle="agent", x=0.8, y=0.4)
    assert near(shown.state, (0.8, 0.4))
    assert shown.text == "agent moved"
    assert len(advance(play, 5).futures[0]) == 5


def test_the_horizon_counts_anew_when_the_steps_have_run_out(play_of, readout):
    play = play_of(readout=readout)
    assert len(advance(play, 21).futures[0]) == 1
    assert len(advance(play, 5).futures[0]) == 5


def test_only_the_last_of_many_drags_is_done(play_of, monkeypatch):
    play, seen = play_of(), []
    monkeypatch.setattr(play._scene, "drag", lambda handle, x, y: seen.append(x))
    play.perform([Command("drag", "agent", x, 0.5) for x in (0.1, 0.2, 0.3)])
    assert seen == [0.3]


def test_a_goal_put_on_the_agent_is_reached_and_another_follows_a_second_later(play_of, near):
    play = play_of()
    x, y = play.shown().state
    before = play.shown().goal_picture
    shown = ask(play, "goal", x=x, y=y)
    assert near(shown.goal_outline[0].mean(axis=0), (x, y))
    assert not np.array_equal(before, shown.goal_picture)
    assert np.array_equal(shown.goal_picture, shown.picture), "the goal looks like the scene as it is"
    assert shown.success
    shown = advance(play, 1)
    assert (shown.reached, shown.episodes, shown.text) == (1, 1, "goal reached")
    assert advance(play, STEPS_A_SECOND - 1).episodes == 1
    shown = advance(play, 1)
    assert (shown.reached, shown.episodes) == (1, 2)


def test_a_goal_counts_once_however_often_it_is_reached(play_of):
    play = play_of()
    x, y = play.shown().state
    ask(play, "goal", x=x, y=y)
    assert (advance(play, 3).reached, play.shown().episodes) == (1, 1)
    shown = ask(play, "drag", handle="agent", x=0.8, y=0.4)
    assert not shown.success
    ask(play, "drag", handle="agent", x=x, y=y)
    shown = advance(play, STEPS_A_SECOND)
    assert (shown.reached, shown.episodes) == (1, 1), "a second from the last time on"
    assert advance(play, 1).episodes == 2
    x, y = play.shown().state
    assert ask(play, "goal", x=x, y=y).episodes == 2, "what was put elsewhere before it was reached was no goal"
    advance(play, 1)
    shown = ask(play, "goal", x=0.8, y=0.8)
    assert (shown.reached, shown.episodes) == (2, 3)


def test_a_goal_that_takes_too_long_is_given_up(play_of, task):
    play = play_of()
    play._task = replace(task, max_steps=7, success=lambda *_: np.array([False]))
    assert advance(play, 6).episodes == 1
    shown = advance(play, 1)
    assert (shown.episodes, shown.reached) == (2, 0)


def test_recolouring_is_a_toggle(play_of):
    play = play_of()
    before = play.shown().picture
    shown = ask(play, "recolour")
    assert shown.changes == ("colour",)
    assert not np.array_equal(before, shown.picture)
    shown = ask(play, "recolour")
    assert shown.changes == ()
    assert np.array_equal(before, shown.picture)


def test_a_weak_motor_stays_weak_in_the_next_episode_until_the_reset(play_of):
    play = play_of()
    assert ask(play, "weaken").changes == ("weak-actuator",)
    play._begin()
    assert play._scene._env.active == ({"weak-actuator": 0.5},)
    assert ask(play, "reset").changes == ()
    assert play._scene._env.active == ({},)


def test_a_planner_that_fails_is_left_out(play_of):
    play = play_of()
    assert ask(play, "planner").planner == "three"
    assert play._controller.planner.iterations == 2
    assert advance(play, 5).tick == 5
    assert ask(play, "planner").planner == "one"


def test_protocols_follow_each_other_and_begin_an_episode(play_of):
    play = play_of()
    seen = [ask(play, "protocol") for _ in range(4)]
    assert [shown.protocol for shown in seen] == ["long50", "long75", "full", "short"]
    assert [shown.episodes for shown in seen] == [2, 3, 4, 5]


def test_a_protocol_whose_manifest_is_damaged_is_left_out(play_of, folder):
    play = play_of()
    (folder / "manifest-two-room-long50.json").write_text("{}")
    shown = ask(play, "protocol")
    assert (shown.protocol, shown.episodes) == ("short", 1)
    assert "is no manifest" in shown.text


def test_the_picture_is_what_the_model_gets_where_that_was_tampered_with(play_of):
    play = play_of(planned=[Perturbation("sensor-noise", 1.0, 0.0)])
    assert play.shown().picture.shape == (224, 224, 3)
    play.advance()
    assert np.array_equal(play.shown().picture, play._scene.observation["pixels"][0])


def test_a_key_teleports(play_of):
    play = play_of()
    before = play.shown().state
    shown = ask(play, "teleport")
    assert not np.array_equal(before, shown.state)
    assert shown.changes == ()


def test_what_cannot_be_done_is_said(play_of):
    assert "unknown handle" in ask(play_of(), "drag", handle="block", x=0.5, y=0.5).text
    assert "no monitor" in ask(play_of(), "reaction").text


def test_planned_perturbations_come_in_time(play_of):
    play = play_of(planned=[Perturbation("weak-actuator", 0.5, 0.5), Perturbation("teleport", 1.0, 0.25)])
    before = advance(play, 5).state
    shown = advance(play, 1)
    assert np.linalg.norm(shown.state - before) > 0.06, "further than it can walk"
    assert (shown.changes, shown.text) == ((), "teleport 1")
    assert advance(play, 4).changes == ()
    assert advance(play, 1).changes == ("weak-actuator",)


class Alarmed:
    """A monitor that is alarmed from its third report on."""

    def __init__(self):
        self.steps = 0

    def update(self, latents, blocks, observation=None, rows=None, batch=None):
        self.steps += 1
        alarm = self.steps > 2
        return [Surprise(0, self.steps - 1, 2.0 if alarm else 0.5, alarm, self.steps == 3, "state", text="it jumped")]

    def reset(self, mask=None):
        self.steps = 0


@pytest.fixture
def watched(play_of):
    """Return a `Play` with a monitor, that logs at first."""
    reactions = ReactionSwitch({"log": log(), "hold": hold()}, "log")
    monitor = Alarmed()

    def make(name):
        return play_of.controller(name, monitor=monitor, reaction=reactions)

    return play_of(make, reactions=reactions)


def test_surprises_are_shown(watched):
    shown = advance(watched, 6)
    assert (shown.scores, shown.alarms, shown.kind) == ((0.5, 0.5), (False, False), None)
    shown = advance(watched, 5)
    assert (shown.scores, shown.alarms) == ((0.5, 0.5, 2.0), (False, False, True))
    assert (shown.kind, shown.text) == ("state", "it jumped")


def test_the_reaction_that_was_chosen_acts(watched):
    assert watched.shown().reaction == "log"
    before = advance(watched, 15).state
    assert not np.array_equal(before, advance(watched, 1).state), "logging does not stop it"
    assert ask(watched, "reaction").reaction == "hold"
    advance(watched, 5)
    before = watched.shown().state
    assert np.array_equal(before, advance(watched, 3).state)


def test_another_planner_starts_the_monitor_anew(watched):
    advance(watched, 12)
    ask(watched, "planner")
    shown = advance(watched, 1)
    assert (shown.scores[-1], shown.alarms[-1]) == (0.5, False)
