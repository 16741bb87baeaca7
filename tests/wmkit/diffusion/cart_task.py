"""A robot small enough to learn in a second, and a run of diffusion models that have learned it.

A cart in the plane moves by a tenth of its gain times the action; its expert pushes left or right for a whole episode,
so that a proposal has two modes. The gain is what changes when the robot does.
"""

import importlib

import gymnasium as gym
import numpy as np
import torch

from wmkit import registry
from wmkit.data.collect import collect
from wmkit.data.episodes import EpisodeStore
from wmkit.data.latents import LatentWindows
from wmkit.data.recording import Settings
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig
from wmkit.tasks import Column, Task

NETWORK = {"width": 16, "depth": 1, "heads": 2, "mlp_size": 32, "patch": 2}


class CartEnv(gym.Env):
    """State (x, y); an action in [-1, 1] moves by a tenth of the gain."""

    def __init__(self, obs_type="state", gain=1.0, image_size=8):
        self._gain = gain
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._state = self.np_random.uniform(-1, 1, 2)
        return {"state": self._state.copy()}, {"state": self._state.copy()}

    def step(self, action):
        self._state = self._state + 0.1 * self._gain * np.asarray(action, np.float64)
        return {"state": self._state.copy()}, 0.0, False, False, {"state": self._state.copy()}


class CartExpert:
    """Pushes to one side of x."""

    def __init__(self, seed):
        self._side = np.random.default_rng(seed).choice([-0.7, 0.7])

    def reset(self, state, goal, variation):
        pass

    def act(self, state):
        return np.array([self._side, 0.0])


CART = Task(
    name="cart",
    env_id="test/Cart-v0",
    make=CartEnv,
    make_vector=lambda num_envs, **options: gym.vector.SyncVectorEnv([lambda: CartEnv(**options)] * num_envs),
    expert=CartExpert,
    state=(Column("x", "m"), Column("y", "m")),
    probes={},
    valid=lambda states: np.asarray(np.isfinite(states).all(axis=-1)),
    seconds_per_step=0.1,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    records="state",
    action_repeat=1,
    max_steps=12,
)


def record(folder, episodes=20, gain=1.0, seed=0):
    """Record episodes of a cart."""
    settings = Settings("cart_task:CART", noise=0.2, env={"gain": gain}, seed=seed)
    return collect(settings, folder, episodes).store


def features(**changes):
    """Return the features' configuration."""
    return FeatureConfig(**({"latent_size": 2, "block_size": 2, "horizon": 4, "invariant": (0, 1)} | changes))


def build(name, **changes):
    """Return an untrained "diffusion" dynamics or "diffusion-proposal", with changes to its configuration."""
    torch.manual_seed(0)
    found = registry.load("models" if name == "diffusion" else "proposals", name)
    module = importlib.import_module(found.__module__)
    config = getattr(module, "SequenceConfig", None) or module.ProposalConfig
    values = {
        "features": features(),
        "action_low": (-1.0, -1.0),
        "action_high": (1.0, 1.0),
        "action_repeat": 1,
        "seconds_per_step": 0.1,
        "network": NETWORK,
        "diffusion": DiffusionConfig(),
    }
    return found(config(**(values | changes)))


def trained(part, store, steps=250):
    """Fit the statistics and train for a second."""
    windows = LatentWindows(store, "train", part.config.features, 1)
    everything = windows.all()
    part.features.fit(everything.latents, everything.actions)
    optimizer = torch.optim.Adam(part.parameters(), lr=5e-3)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        loss, _ = part.training_loss(windows.sample(64, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return part.eval()


def make_run(folder):
    """Record data and train a run of dynamics and proposal; return the run's folder and the data's."""
    store = record(folder / "data")
    trained(build("diffusion", task="cart"), store).save_pretrained(folder / "run" / "dynamics")
    trained(build("diffusion-proposal"), store).save_pretrained(folder / "run" / "proposal")
    return folder / "run", EpisodeStore.open(folder / "data").folder
