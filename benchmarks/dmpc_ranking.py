"""How well dynamics rank what a proposal offers on the walker, judged by the true simulator.

    python benchmarks/dmpc_ranking.py data/medium --runs runs/dmpc

From states of held-out episodes the diffusion proposal draws candidates; the simulator says what each returns, and
every dynamics what it believes. A planner that executes the best of them gets "chosen", believes "believed", and could
have had "best". The open-loop error is given for the recorded actions and for the proposal's: a dynamics that has
learned what usually followed, rather than what an action does, is worse on the second.
"""

# pyright: reportMissingImports=false

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from dmpc_common import RESULTS, Cells, load_part, settings_of, with_steps
from scipy import stats
from torch import Tensor

from wmkit.contracts import Context
from wmkit.data.episodes import EpisodeStore
from wmkit.data.latents import LatentWindows
from wmkit.envs.walker.rewards import get_reward
from wmkit.models import SimulatorModel


@dataclass(frozen=True)
class Args:
    """What to measure."""

    data: tyro.conf.Positional[Path]
    """Folder of episodes, from `wmkit collect walker`."""
    runs: Path
    """Where trained parts are: RUNS/DATA/seedS/PART."""
    parts: tuple[str, ...] = ("dynamics", "dynamics_causal", "autoregressive")
    """Dynamics to compare; those that are not there are left out."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    states: int = 200
    """Held-out states, evenly spread."""
    candidates: int = 64
    """Of each state."""
    horizons: tuple[int, ...] = (4, 8, 16)
    """Model steps that are summed."""
    proposal_steps: int = 3
    """Denoising steps of the proposal."""
    dynamics_steps: int = 2
    """Denoising steps of the dynamics."""
    reward: str = "walk"
    """What is ranked by."""
    out: Path = RESULTS / "dmpc_ranking.json"
    """JSON file of the result."""


def ranking(true: Tensor, believed: Tensor) -> dict[str, float]:
    """Return how the believed returns (W, N) order the true ones; returns are a step's mean."""
    pairs = zip(true.numpy(), believed.numpy(), strict=True)
    return {
        "spearman": float(np.nanmean([np.asarray(stats.spearmanr(*pair))[0] for pair in pairs])),
        "best": float(true.max(dim=1).values.mean()),
        "chosen": float(true.gather(1, believed.argmax(dim=1, keepdim=True)).mean()),
        "mean": float(true.mean()),
        "believed": float(believed.max(dim=1).values.mean()),
        "believed_mean": float(believed.mean()),
    }


@torch.inference_mode()
def measure(args: Args, model: Any, proposal: Any) -> dict[str, Any]:
    """Return the ranking at each horizon, and the open-loop errors by model step in variances of the change."""
    store, features = EpisodeStore.open(args.data), proposal.config.features
    batch = LatentWindows(store, "heldout", features, proposal.config.action_repeat).all(stride=7, most=args.states)
    past = features.history
    context = Context(batch.latents[:, :past], batch.actions[:, : past - 1])
    generator = torch.Generator().manual_seed(0)
    actions = proposal.propose(context, args.candidates, features.horizon, generator)
    simulator = SimulatorModel.from_task("walker", action_repeat=proposal.config.action_repeat)
    truth = simulator.rollout(Context(context.latents.double(), context.actions.double()), actions.double()).latents
    imagined = model.rollout(context, actions, generator).latents
    recorded = model.rollout(context, batch.actions[:, None, past - 1 :], generator).latents[:, 0]
    reward = get_reward(args.reward)
    true, believed = reward(truth).float(), reward(imagined).float()
    scale = model.features.change_std
    return {
        "ranking": {str(h): ranking(true[..., :h].mean(dim=-1), believed[..., :h].mean(dim=-1)) for h in args.horizons},
        "error_recorded": ((recorded - batch.latents[:, past:]) / scale).square().mean(dim=(0, 2)).tolist(),
        "error_proposed": ((imagined - truth.float()) / scale).square().mean(dim=(0, 1, 3)).tolist(),
    }


def main(args: Args) -> None:
    """Measure what is missing and print it."""
    torch.set_num_threads(1)
    cells = Cells(args.out, settings_of(args, {"runs", "seeds", "parts", "out"}))
    for seed in args.seeds:
        folder = args.runs / args.data.name / f"seed{seed}"
        for part in (p for p in args.parts if (folder / p / "config.json").exists()):
            if cells.missing(f"{part}/seed{seed}"):
                proposal = with_steps(load_part(folder / "proposal"), args.proposal_steps)
                cell = measure(args, with_steps(load_part(folder / part), args.dynamics_steps), proposal)
                cells.add(f"{part}/seed{seed}", cell)
                for horizon, found in cell["ranking"].items():
                    numbers = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
                    print(f"{part}/seed{seed} {horizon:>2} steps: {numbers}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
