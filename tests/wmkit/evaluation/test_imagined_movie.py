"""The panels show what was planned, what came, start and goal, each at its time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wmkit.evaluation import agents
from wmkit.evaluation.imagined_movie import imagined_movie, plan_shown, run_imagining
from wmkit.evaluation.movie import render_pairs
from wmkit.evaluation.protocols import PROTOCOLS, draw_manifest
from wmkit.evaluation.runner import evaluate

SIZE = 64


def test_a_plan_is_shown_to_its_end():
    plans = {0: torch.tensor([[1.0], [2.0]]), 3: torch.tensor([[3.0], [4.0]]), 6: torch.tensor([[5.0]])}
    shown = plan_shown(plans, 11, action_repeat=3)[:, 0].tolist()
    assert shown == [1, 1, 1, 2, 2, 2, 5, 5, 5, 5, 5]


class Replay:
    """A controller of one environment that replays recordings, and claims to imagine how far it has come."""

    def __init__(self, recorded):
        self.model, self.plan = SimpleNamespace(spec=SimpleNamespace(action_repeat=5)), None
        self._recorded, self._step = recorded, 0

    def set_goal(self, observation, steps=None):
        self._goal = observation

    def act(self, observation):
        if self._step % 10 == 0:
            ahead = torch.tensor([[self._step + 5.0], [self._step + 10.0]])
            self.plan = SimpleNamespace(latents=ahead[None])
        action = self._recorded[self._step] if self._step < len(self._recorded) else np.zeros(2)
        self._step += 1
        return np.asarray(action)[None]


class Grey:
    """A decoder that shows a latent as a grey level."""

    def pictures(self, latents):
        return latents[..., None, None, :].expand(*latents.shape[:-1], 64, 64, 3).to(torch.uint8)


@pytest.fixture(scope="module")
def seen(task, recordings):
    manifest = draw_manifest(task, PROTOCOLS["short"], 3, recordings=recordings)
    waiting = [pair.actions for pair in manifest.pairs]
    agent = agents.ModelAgent(lambda batch: Replay(waiting.pop(0)))
    return manifest, run_imagining(task, manifest, agent)


def test_the_run_is_an_evaluation(task, seen):
    manifest, found = seen
    replayed = evaluate(task, manifest, agents.ReplayAgent(task))
    np.testing.assert_array_equal(found.outcomes.first_success, replayed.first_success)
    assert found.action_repeat == 5
    assert [sorted(plans) for plans in found.plans] == [[0, 10, 20, 30, 40]] * 3


@pytest.mark.parametrize("stride", [1, 4])
def test_each_panel_shows_its_own(task, seen, stride):
    manifest, found = seen
    movie = imagined_movie(task, manifest, found, Grey(), image_size=SIZE, stride=stride)
    real, goals = render_pairs(task, manifest, [0], found.outcomes.states[:1], SIZE)
    top = (movie[0].shape[0] - SIZE) // 2

    def panel(frame, column):
        left = 6 + column * (SIZE + 6)
        return frame[top + 1 : top + SIZE - 1, left + 1 : left + SIZE - 1]

    inner = np.s_[1:-1, 1:-1]
    end = int(found.outcomes.first_success[0])
    for index, frame in enumerate(movie[: end // stride]):
        step = index * stride
        assert (panel(frame, 1) == 5 * (step // 5) + 5).all(), "what is expected at the model step's end"
        np.testing.assert_array_equal(panel(frame, 0), real[0, 0][inner])
        np.testing.assert_array_equal(panel(frame, 2), real[0, step][inner])
        np.testing.assert_array_equal(panel(frame, 3), goals[0][inner])


def test_every_pair_ends_with_its_success_and_stays(task, seen):
    manifest, found = seen
    movie = imagined_movie(task, manifest, found, Grey(), image_size=SIZE)
    assert len(movie) == sum(found.outcomes.first_success + 1) + 3 * 20
    end = found.outcomes.first_success[0]
    assert (movie[end - 1] != movie[end]).any()
    assert all((frame == movie[end]).all() for frame in movie[end : end + 21])
    assert (movie[end + 21] != movie[end]).any()
