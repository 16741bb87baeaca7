"""Fine-tune a run's dynamics on data of a changed robot; proposal and value stay byte for byte.

For example, after one ankle went weak:

    wmkit collect walker --proposal runs/walker --noise 0.2 --episodes 40 --out data/weak --env variation=weak_ankle
    wmkit adapt runs/walker --data data/weak --out runs/weak
    wmkit adapt runs/walker --data data/weak --out runs/weak-10 --episodes 10 --steps 400

Killed or interrupted at any moment, the same command goes on where it stood. The folder gets dynamics, proposal, value
and adapt.json, with the dynamics' errors on held-out episodes before and after. The original run is only read.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from wmkit.errors import UserError

__all__ = ["Adapt", "run"]


@dataclass(frozen=True)
class Adapt:
    """Options of `wmkit adapt`."""

    run: tyro.conf.Positional[Path]
    """Folder of the run to start from, from `wmkit train dmpc`."""
    data: Path
    """Folder of episodes of the changed robot, from `wmkit collect`."""
    out: Path
    """Folder of the new run."""
    episodes: int | None = None
    """Training episodes to use, a tenth of them to choose the best weights by; by default all."""
    steps: int = 600
    """Optimiser steps."""
    lr: float = 3e-4
    """Learning rate."""
    batch: int = 128
    """Windows of a step."""
    seed: int = 0
    """What all randomness derives from."""
    threads: int | None = None
    """Threads for PyTorch; by default its own choice."""


def run(config: Adapt) -> None:
    """Adapt, with a progress bar.

    Raises:
        UserError: see `wmkit.diffusion.adapt.adapt`.
        SystemExit: 130 after Ctrl-C or SIGTERM; the run is saved.
    """
    import torch

    from wmkit.diffusion.adapt import AdaptSettings, adapt

    if config.threads is not None:
        if config.threads < 1:
            raise UserError(f"--threads must be 1 or more, not {config.threads}")
        torch.set_num_threads(config.threads)
    settings = AdaptSettings(
        episodes=config.episodes, steps=config.steps, lr=config.lr, batch=config.batch, seed=config.seed
    )
    result = adapt(config.run, config.data, config.out, settings)
    if not result.finished:
        print(f"stopped and saved in {config.out}; the same command goes on", file=sys.stderr)
        raise SystemExit(130)
    before, after = result.report["before"], result.report["after"]
    used = result.report["episodes"]
    print(
        f"{config.out}: dynamics adapted on {used['train']} + {used['validation']} episodes in "
        f"{result.report['seconds']:.0f} s; copied: {', '.join(result.report['copied']) or 'nothing'}"
    )
    for name in before:
        print(f"  held-out {name:<14} {before[name]:10.4g} -> {after[name]:.4g}")
