"""Compare wmkit's MPPI with pytorch-mppi's on pytorch-mppi's own pendulum.

    python benchmarks/mppi_pendulum.py --mppi-python MPPI/bin/python

The peer lives in an environment of its own:

    python3 -m venv MPPI && MPPI/bin/pip install torch==2.13.0 pytorch-mppi==0.9.1

Both swing Gymnasium's pendulum up, from hanging at 1 rad/s, with 100 candidates of 15 steps of 0.05 s, one iteration a
step, temperature 1 in the unit of the cost, noise of variance 10 on a torque of at most 2, and the control cost of the
paper. An episode's cost is the sum of the running costs of its steps. The two agree if the interval of the difference
of their means contains zero.

Both execute the first action of the weighted mean, clip candidates to the bounds before they are simulated and
averaged, take what the clipping left for the noise, and compute in float64. What differs, beside the random numbers:

- wmkit counts the mean itself among the 100 candidates; pytorch-mppi has 100 noisy ones.
- wmkit's warm start repeats the last action by default; here a zero is appended, as pytorch-mppi does.
- pytorch-mppi starts an episode from random torques by default, wmkit from rest. Compared is from rest; the result
  also holds pytorch-mppi's costs from random torques.
- pytorch-mppi's noise is a covariance in the unit of the torque; wmkit's a standard deviation as a fraction of half
  the range of the torque.
"""

# pyright: reportMissingImports=false

import json
import math
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from wmkit.contracts import Context
from wmkit.models import SimulatorModel
from wmkit.planners import MPPI, DecodedObjective
from wmkit.provenance import provenance

_HERE = Path(__file__).resolve().parent
_LIMIT, _SECONDS = 2.0, 0.05


@dataclass(frozen=True)
class Args:
    """What to compare.

    Attributes:
        mppi_python: Python of the environment with pytorch-mppi; without it, wmkit alone is run.
        seeds: episodes of each.
        steps: of an episode.
        out: JSON file of the result.
    """

    mppi_python: Path | None = None
    seeds: int = 100
    steps: int = 200
    out: Path = _HERE / "results" / "mppi_pendulum.json"


def simulate(states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Return the angle and angular velocity (B, N, R, 2) after each torque (B, N, R, 1), from states (B, 2)."""
    shape = actions.shape[:3]
    angle, speed = (np.broadcast_to(states[:, None, number], shape[:2]) for number in (0, 1))
    found = np.empty((*shape, 2))
    for step in range(shape[2]):
        speed = speed + _SECONDS * (15 * np.sin(angle) + 3 * actions[:, :, step, 0])
        angle = angle + _SECONDS * speed
        speed = speed.clip(-8, 8)
        found[:, :, step, 0], found[:, :, step, 1] = angle, speed
    return found


def cost(states: Tensor, actions: Tensor) -> Tensor:
    """Return the running cost (B, N, R) of states (B, N, R, 2): squared angle, and a tenth of squared speed."""
    angle = (states[..., 0] + math.pi) % (2 * math.pi) - math.pi
    return angle.square() + 0.1 * states[..., 1].square()


def build() -> MPPI:
    """Return wmkit's planner with pytorch-mppi's settings."""
    model = SimulatorModel(
        simulate, state_size=2, action_low=(-_LIMIT,), action_high=(_LIMIT,), seconds_per_step=_SECONDS, cost=cost
    )
    std = math.sqrt(10) / _LIMIT
    return MPPI(
        model,
        horizon=15,
        samples=100,
        iterations=1,
        temperature=1.0,
        temperature_unit="absolute",
        std=std,
        control_cost=1,
    )


def episode(planner: MPPI, seed: int, steps: int) -> float:
    """Return the total cost of one episode."""
    objective = DecodedObjective(lambda values, actions: values, "cost")
    generator = torch.Generator().manual_seed(seed)
    state = torch.tensor([[math.pi, 1.0]], dtype=torch.float64)
    none = state.new_zeros(1, 0, 1)
    warm, total = state.new_zeros(1, 15, 1), 0.0
    for _ in range(steps):
        plan = planner.plan(Context(state.unsqueeze(1), none), objective, warm, generator=generator)
        warm = torch.cat([plan.actions[:, 1:], plan.actions.new_zeros(1, 1, 1)], dim=1)
        after = torch.from_numpy(simulate(state.numpy(), plan.actions[:, None, :1].double().numpy()))
        total += float(cost(after, plan.actions))
        state = after[:, 0, 0]
    return total


def interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of `ours` minus that of `theirs`, both (seeds,)."""
    generator = np.random.default_rng(0)
    means = [generator.choice(costs, (20_000, len(costs))).mean(axis=1) for costs in (ours, theirs)]
    low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
    return float(low), float(high)


def run_peer(args: Args) -> dict[str, Any]:
    """Return what pytorch-mppi's side prints."""
    script = str(_HERE / "peers" / "pytorch_mppi_pendulum.py")
    command = [str(args.mppi_python), "-W", "ignore", script, str(args.seeds), str(args.steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(costs: np.ndarray) -> dict[str, Any]:
    """Return mean, standard deviation and all costs."""
    return {"mean": float(costs.mean()), "std": float(costs.std(ddof=1)), "costs": costs.tolist()}


def main(args: Args) -> None:
    """Run both, compare, print and write the result."""
    torch.set_num_threads(1)
    began, planner = time.perf_counter(), build()
    ours = np.array([episode(planner, seed, args.steps) for seed in range(args.seeds)])
    result: dict[str, Any] = {"machine": provenance(), "settings": {k: str(v) for k, v in asdict(args).items()}}
    result["wmkit"] = summary(ours) | {"seconds": time.perf_counter() - began}
    print(f"wmkit        mean cost {ours.mean():8.2f}, standard deviation {ours.std(ddof=1):.2f}")
    if args.mppi_python is not None:
        peer = run_peer(args)
        theirs, default = (np.array(peer["costs"][start]) for start in ("from_rest", "from_random"))
        low, high = interval(ours, theirs)
        result["pytorch-mppi"] = summary(theirs) | {"seconds": peer["seconds"], "versions": peer["versions"]}
        result["pytorch-mppi from random torques"] = summary(default)
        result["difference"] = {"mean": float(ours.mean() - theirs.mean()), "interval_95": [low, high]}
        result["agree"] = low <= 0 <= high
        print(f"pytorch-mppi mean cost {theirs.mean():8.2f}, standard deviation {theirs.std(ddof=1):.2f}")
        print(f"  from random torques {default.mean():9.2f}, standard deviation {default.std(ddof=1):.2f}")
        print(f"difference {ours.mean() - theirs.mean():+.2f}, 95 % interval {low:+.2f} to {high:+.2f}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
