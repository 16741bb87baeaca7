"""Run pytorch-mppi's MPPI on its own pendulum for `mppi_pendulum.py`: `python pytorch_mppi_pendulum.py SEEDS STEPS`.

It runs under a Python that has pytorch-mppi 0.9.1. Problem and settings are those of its example: Gymnasium's pendulum
from hanging at 1 rad/s, 100 candidates of 15 steps, noise of variance 10, lambda 1; the torque is clipped to its limits
by the controller. Each seed is run twice: from a plan of zeros, and from random torques, the library's default. The
last line printed is JSON: the total costs of the seeds from either, and versions.
"""

import importlib.metadata
import json
import math
import sys
import time

import torch
from pytorch_mppi import MPPI
from torch import Tensor

_LIMIT = torch.tensor(2.0, dtype=torch.float64)


def step(state: Tensor, torque: Tensor) -> Tensor:
    """Return the states (K, 2), angle and angular velocity, 0.05 s after states (K, 2) under torques (K, 1)."""
    angle, speed = state[:, :1], state[:, 1:]
    speed = speed + 0.05 * (15 * torch.sin(angle) + 3 * torque.clamp(-_LIMIT, _LIMIT))
    return torch.cat([angle + 0.05 * speed, speed.clamp(-8, 8)], dim=1)


def cost(state: Tensor, torque: Tensor) -> Tensor:
    """Return (K,): the squared angle from upright and a tenth of the squared speed, after the step."""
    angle = (state[:, 0] + math.pi) % (2 * math.pi) - math.pi
    return angle**2 + 0.1 * state[:, 1] ** 2


def episode(seed: int, steps: int, first_plan: Tensor | None) -> float:
    """Return the total cost of one episode, given the plan (15, 1) that its first decision improves."""
    torch.manual_seed(seed)
    variance, limits = torch.tensor(10.0, dtype=torch.float64), {"u_min": -_LIMIT, "u_max": _LIMIT}
    planner = MPPI(step, cost, 2, variance, 100, 15, lambda_=1.0, U_init=first_plan, **limits)
    state, total = torch.tensor([[math.pi, 1.0]], dtype=torch.float64), 0.0
    for _ in range(steps):
        action = planner.command(state[0]).reshape(1, 1)
        state = step(state, action)
        total += float(cost(state, action))
    return total


def main() -> None:
    """Run seeds 0, 1, ... and print their total costs."""
    torch.set_num_threads(1)
    seeds, steps = (int(argument) for argument in sys.argv[1:3])
    start = time.perf_counter()
    rest = torch.zeros(15, 1, dtype=torch.float64)
    costs = {
        "from_rest": [episode(seed, steps, rest.clone()) for seed in range(seeds)],
        "from_random": [episode(seed, steps, None) for seed in range(seeds)],
    }
    versions = {name: importlib.metadata.version(name) for name in ("pytorch-mppi", "torch")}
    print(json.dumps({"costs": costs, "seconds": (time.perf_counter() - start) / 2, "versions": versions}))


if __name__ == "__main__":
    main()
