"""A noisy linear robot that does as its model says, or not, and the raw signals of its episodes."""

import numpy as np
import torch

from wmkit.linear_model import LinearModel
from wmkit.monitor.signals import Signals

REPEAT, SIZE, NOISE = 2, 3, 0.02
MODEL = LinearModel(
    torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.95, 0.1], [0.05, 0.0, 0.9]]),
    torch.tensor([[0.5, 0.0, 0.2], [0.0, 0.4, 0.1]]),
    action_repeat=REPEAT,
    history=2,
)


def episodes(count, steps, seed=0, *, change=None, at=10, noise=NOISE):
    """Return latents (count, steps + 1, SIZE) and the blocks sent (count, steps, A).

    `noise` is of each number, or a matrix that mixes them. `change(states, actions (count, steps, REPEAT, 2), step)`
    returns the states and actions that hold from model step `at` on.
    """
    rng = np.random.default_rng(seed)
    sent = rng.uniform(-1, 1, (count, steps, REPEAT, 2))
    mixed = noise * np.eye(SIZE) if np.ndim(noise) == 0 else noise
    a, b = MODEL._transition.double().numpy(), MODEL._control.double().numpy()
    state = rng.normal(size=(count, SIZE))
    found = [state]
    for step in range(steps):
        done = sent[:, step]
        if change is not None and step >= at:
            state, done = change(state, sent, step)
        for part in range(REPEAT):
            state = state @ a + done[:, part] @ b
        state = state + rng.normal(size=state.shape) @ mixed
        found.append(state)
    return torch.from_numpy(np.stack(found, axis=1)).float(), torch.from_numpy(sent.reshape(count, steps, -1)).float()


def raw_episodes(count, steps, seed=0, model=MODEL, k=3, noise=NOISE):
    """Return the raw signals of nominal episodes, each apart."""
    latents, blocks = episodes(count, steps, seed, noise=noise)
    found = []
    for row in range(count):
        signals = Signals(model, k=k)
        found.append(
            [
                signals.update(latents[row : row + 1, t], blocks[row : row + 1, t - 1] if t else None, None, ROW, 1)
                for t in range(steps + 1)
            ]
        )
    return found


ROW = np.array([0])


def watch(monitor, latents, blocks):
    """Return the reports of all rows, [step][row]."""
    monitor.reset()
    return [monitor.update(latents[:, t], blocks[:, t - 1] if t else None) for t in range(latents.shape[1])]


def alarms(reports):
    """Return (rows, steps) bool."""
    return np.array([[one.alarm for one in rows] for rows in reports]).T
