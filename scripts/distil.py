"""Distil a run's diffusion models into students that sample in a few steps, and say what is lost.

For example:

    wmkit distil runs/walker --data data/walker --out runs/walker-2 --steps 2
    wmkit distil runs/walker --data data/walker --out runs/walker-1 --steps 1 --updates 800 --only proposal

Progressive distillation halves the steps in rounds, from 8 by default down to --steps. Killed or interrupted at any
moment, the same command goes on where it stood. The folder gets dynamics, proposal and value, and distil.json: energy
score against held-out data, distance from the teacher's samples, and milliseconds. The original run is only read.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from wmkit.errors import UserError

__all__ = ["Distil", "run"]


@dataclass(frozen=True)
class Distil:
    """Options of `wmkit distil`."""

    run: tyro.conf.Positional[Path]
    """Folder of the run to start from, from `wmkit train dmpc`."""
    data: Path
    """Folder of the episodes that the run was trained on."""
    out: Path
    """Folder of the new run."""
    steps: int = 2
    """Sampling steps of the students."""
    teacher_steps: int | None = None
    """Steps of the first teacher, --steps times a power of two; by default the least of those from 8 on."""
    updates: int = 400
    """Optimiser steps of each round."""
    lr: float = 3e-4
    """Highest learning rate of each round."""
    batch: int = 128
    """Windows of an optimiser step."""
    only: tuple[Literal["dynamics", "proposal"], ...] = ("dynamics", "proposal")
    """Parts to distil; the others are copied."""
    seed: int = 0
    """What all randomness derives from."""
    threads: int | None = None
    """Threads for PyTorch; by default its own choice."""


def run(config: Distil) -> None:
    """Distil, with a progress bar.

    Raises:
        UserError: see `wmkit.diffusion.distil.distil`.
        SystemExit: 130 after Ctrl-C or SIGTERM; the run is saved.
    """
    import torch

    from wmkit.diffusion.distil import distil
    from wmkit.diffusion.progressive import DistilSettings

    if config.threads is not None:
        if config.threads < 1:
            raise UserError(f"--threads must be 1 or more, not {config.threads}")
        torch.set_num_threads(config.threads)
    settings = DistilSettings(config.steps, config.teacher_steps, config.updates, config.batch, config.lr)
    result = distil(config.run, config.data, config.out, settings, only=config.only, seed=config.seed)
    if not result.finished:
        print(f"stopped and saved in {config.out}; the same command goes on", file=sys.stderr)
        raise SystemExit(130)
    for part, rows in result.report["parts"].items():
        print(f"{config.out}/{part}: energy score, distance from the teacher (normalised units), ms for 64 samples")
        for row in rows:
            print(
                f"  {row['who']:<8} {row['sampler']} {row['steps']:>3}   {row['energy_score']:.4f} "
                f"+- {row['energy_error']:.4f}   {row['distance']:.4f}   {row['milliseconds']:.1f} ms"
            )
