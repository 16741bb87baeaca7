"""Milliseconds of a plan against sampling steps and candidates, for the walker's diffusion dynamics and proposal.

    python benchmarks/sampling_cost.py
    python benchmarks/sampling_cost.py --run runs/walker

One plan is, say, 64 candidates that the proposal draws over the presets' horizon, the dynamics roll out, the reward
scores and the planner ranks, from one state, cold. What it costs does not depend on the weights, so without `--run`
they are random; with it the sizes are those of the run. "autoregressive" rolls the same candidates out with
autoregressive dynamics of as many parameters. Cost depends on the number of steps alone: a distilled student of 1, 2 or
4 steps costs what its teacher does with as many. Leave the machine alone while it runs: the result carries the load.
"""

# pyright: reportMissingImports=false

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from dmpc_common import Cells

from wmkit import registry
from wmkit.contracts import Context
from wmkit.data.recording import load_task
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig, Sampling
from wmkit.models import AutoregressiveDynamics, DiffusionDynamics, SequenceConfig
from wmkit.models.autoregressive import matched
from wmkit.planners import DiffusionProposal, RewardObjective, SampleScoreRank
from wmkit.planners.proposals.learned import ProposalConfig
from wmkit.scripts.parts import load_run
from wmkit.tasks import Task

_HERE = Path(__file__).resolve().parent

Kind = Literal["diffusion", "autoregressive"]


@dataclass(frozen=True)
class Args:
    """What to time."""

    run: str | None = None
    """Folder of a run with dynamics/ and proposal/; without it, sizes of the presets and random weights."""
    steps: tuple[int, ...] = (1, 2, 4, 8, 10, 16, 32)
    """Sampling steps, of both."""
    candidates: tuple[int, ...] = (16, 64, 256)
    """Candidates of a plan."""
    sampler: str = "ddim"
    """Of both."""
    plans: int = 20
    """Plans timed for each cell, after two that are not."""
    threads: int = 2
    """Of torch."""
    out: Path = _HERE / "results" / "sampling_cost.json"
    """JSON file of the result."""


@dataclass(frozen=True)
class Parts:
    """What is timed.

    Attributes:
        dynamics: imagines.
        autoregressive: the same, one step after another.
        proposal: draws.
    """

    dynamics: Any
    autoregressive: Any
    proposal: Any


def build(args: Args, task: Task) -> Parts:
    """Return the parts of a run, or new ones of the presets' sizes."""
    if args.run is not None:
        found = load_run(args.run)
        return Parts(found.dynamics, _fitted(AutoregressiveDynamics(matched(found.dynamics.config))), found.proposal)
    torch.manual_seed(0)
    dynamics, proposal = (
        registry.load("presets", f"diffusion-{name}")._resolved(None) for name in ("dynamics", "proposal")
    )
    block = len(task.action_low) * task.action_repeat
    features = FeatureConfig(
        len(task.state),
        block,
        horizon=dynamics.horizon,
        invariant=task.columns(task.invariant),
        angles=task.columns(task.angles),
    )
    common = {
        "features": features,
        "action_low": tuple(task.action_low),
        "action_high": tuple(task.action_high),
        "action_repeat": task.action_repeat,
        "seconds_per_step": task.seconds_per_step * task.action_repeat,
        "diffusion": DiffusionConfig(),
    }
    config = SequenceConfig(**common, network=dynamics._network(), task=task.name)
    made = (
        DiffusionDynamics(config),
        AutoregressiveDynamics(matched(config)),
        DiffusionProposal(ProposalConfig(**common, network=proposal._network())),
    )
    return Parts(*map(_fitted, made))


def _fitted(part: Any) -> Any:
    """Give a new part statistics, and its last layer weights other than zero."""
    config, generator = part.config.features, torch.Generator().manual_seed(0)
    span = config.history + config.horizon
    latents = torch.randn(64, span, config.latent_size, generator=generator)
    part.features.fit(latents, torch.randn(64, span - 1, config.block_size, generator=generator).clamp(-1, 1))
    for parameter in part.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    return part.eval()


def timed(action: Callable[[], object], count: int) -> list[float]:
    """Return the milliseconds of `count` calls, after two more."""
    times = []
    for _ in range(count + 2):
        began = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - began))
    return times[2:]


def measure(args: Args, task: Task, parts: Parts, kind: Kind, steps: int, candidates: int) -> dict[str, float]:
    """Return the median and the 99th percentile of a plan, and the medians of its drawing and its imagining."""
    model = parts.dynamics if kind == "diffusion" else parts.autoregressive
    parts.proposal.sampling = parts.dynamics.sampling = Sampling(sampler=args.sampler, steps=steps)
    horizon = parts.proposal.config.features.horizon
    planner = SampleScoreRank(model, proposal=parts.proposal, samples=candidates, horizon=horizon)
    objective = RewardObjective(task.rewards["walk"], "state")
    state = torch.zeros(1, 1, model.spec.latent_size)
    context, generator = Context(state, torch.zeros(1, 0, model.spec.block_size)), torch.Generator().manual_seed(0)
    drawn = parts.proposal.propose(context, candidates, horizon, generator)
    plans = timed(lambda: planner.plan(context, objective, generator=generator), args.plans)
    with torch.inference_mode():
        draws = timed(lambda: parts.proposal.propose(context, candidates, horizon, generator), args.plans)
        rolls = timed(lambda: model.rollout(context, drawn, generator), args.plans)
    return {
        "plan_p50": statistics.median(plans),
        "plan_p99": float(np.percentile(plans, 99)),
        "draw_p50": statistics.median(draws),
        "imagine_p50": statistics.median(rolls),
        "load": os.getloadavg()[0],
    }


def main(args: Args) -> None:
    """Time every cell, print it, and write the JSON."""
    torch.set_num_threads(args.threads)
    task = load_task("walker")
    parts = build(args, task)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in vars(parts).items()}
    settings = asdict(replace(args, out=Path(), run=None, steps=(), candidates=())) | {
        "parameters": counts,
        "horizon": parts.proposal.config.features.horizon,
        "network": dict(parts.dynamics.config.network),
    }
    cells = Cells(args.out, settings)
    for kind in ("diffusion", "autoregressive"):
        for steps in args.steps:
            for candidates in args.candidates:
                name = f"{kind}, {steps} steps, {candidates} candidates"
                if not cells.missing(name):
                    continue
                cell = measure(args, task, parts, kind, steps, candidates)
                cells.add(name, {"dynamics": kind, "steps": steps, "candidates": candidates, **cell})
                print(
                    f"{name:<44}{cell['plan_p50']:8.1f} ms ({cell['draw_p50']:.1f} drawing, "
                    f"{cell['imagine_p50']:.1f} imagining), p99 {cell['plan_p99']:.1f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
