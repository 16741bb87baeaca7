"""A small TwoRoom that a small untrained model plays in."""

import numpy as np
import pytest
import torch

from wmkit.control import Controller
from wmkit.data.recording import load_task
from wmkit.envs.perturbations import PerturbedVectorEnv
from wmkit.evaluation.manifest import Manifest, Pair, save_manifest
from wmkit.models import LeWM, LeWMConfig
from wmkit.planners import CEM, GoalObjective
from wmkit.window.goals import Goals
from wmkit.window.play import Play

SIZE = 32


@pytest.fixture(scope="session")
def task():
    return load_task("two-room")


@pytest.fixture(scope="session")
def tiny():
    """Return an untrained model of TwoRoom that something makes walk, five environment steps a model step."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    options = {"channels": (8, 8, 8), "hidden": 16}
    model = LeWM(LeWMConfig(SIZE, 8, 5, (-1, -1), (1, 1), 0.25, history=1, encoder_options=options))
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.set_action_statistics([0, 0], [0.5, 0.5])
    return model.eval()


def pairs(count=4):
    """Return recorded pairs, 25 environment steps from start to goal."""
    door = {"door.position": 0.5}
    places = [((0.2, 0.2 + 0.1 * k), (0.3, 0.8 - 0.1 * k)) for k in range(count)]
    return tuple(Pair(start, goal, 50, k, 0, 25, variation=door) for k, (start, goal) in enumerate(places))


@pytest.fixture
def folder(tmp_path):
    """Return a model's folder with the pairs of the protocol "short"."""
    manifest = Manifest("two-room", "short", "distance", 0, "heldout", "f", "s", pairs())
    save_manifest(manifest, tmp_path / "manifest-two-room-short.json")
    return tmp_path


@pytest.fixture
def play_of(task, tiny, folder):
    """Return a function that makes a `Play`; what it made is closed in the end."""
    made = []

    def controller(name, **options):
        if name == "broken":
            raise ValueError("this planner is broken")
        planner = CEM(tiny, horizon=5, samples=8, elites=2, iterations=1 + len(name) % 2, candidates=3)
        return Controller(planner, GoalObjective, **options)

    def function(make=controller, **options):
        def env():
            return task.make_vector(num_envs=1, obs_type="pixels", image_size=SIZE, render_mode="rgb_array")

        options = {"planners": ["one", "broken", "three"]} | options
        parts = (PerturbedVectorEnv(env(), task), env(), Goals(task, folder))
        made.append(Play(task, task.playground(), make, *parts, **options))
        return made[-1]

    function.controller = controller
    yield function
    for play in made:
        play.close()


@pytest.fixture
def readout(tiny):
    """Return what reads an agent's place out of latents: the same place, whatever they are."""
    return lambda latents: {"agent": torch.full((*latents.shape[:-1], 2), 0.5)}


@pytest.fixture
def near():
    """Return a function that tells whether two places are the same."""
    return lambda first, second: bool(np.allclose(first, second, atol=1e-6))
