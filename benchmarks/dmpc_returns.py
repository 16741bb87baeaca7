"""Returns on the walker of diffusion MPC, of what it is compared with, and of what is left when one part is replaced.

    python benchmarks/dmpc_returns.py data/medium data/mixed --runs runs/dmpc
    python benchmarks/dmpc_returns.py data/medium --runs runs/dmpc --seeds 0 --only d-mpc "behaviour cloning"

Each cell is one agent on one data folder with one training seed: episodes side by side, all agents from the same first
poses, other poses for each seed. Parts that are not in `--runs` are trained first. Finished cells are in the JSON file
and are not run again; several processes may share it. The table of all finished cells is printed at the end.

The data's own policy is not run: its returns are those of the recorded episodes, which must be as long as `--steps`.
"""

# pyright: reportMissingImports=false

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from dmpc_common import (
    PARTS,
    RESULTS,
    Cells,
    Planning,
    cell_of_returns,
    load_part,
    play,
    settings_of,
    summary,
    train_part,
    with_steps,
)

from wmkit.contracts import Planner, WorldModel
from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import load_task
from wmkit.evaluation.agents import Agent, HoldAgent, RandomAgent
from wmkit.models import SimulatorModel
from wmkit.planners import CEM, MPPI, GaussianProposal, ProposalPlanner, RandomShooting
from wmkit.planners.proposals import SteppedProposal
from wmkit.tasks import Task

_ONE_STEP = "one-step proposal"
_MPPI: dict[str, Any] = {"horizon": 10, "knots": 5, "std": 0.8, "temperature": 0.1}
"""Settings of MPPI, those of the expert that recorded the data: half a second ahead."""


@dataclass(frozen=True)
class Args:
    """What to run."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of episodes, from `wmkit collect walker`; each is a column of the table."""
    runs: Path
    """Where trained parts are, and where missing ones go: RUNS/DATA/seedS/PART."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    only: tuple[str, ...] = ()
    """Agents to run, by name; none for all."""
    train: tuple[str, ...] = ()
    """Changes to every preset, each name=value."""
    reward: str = "walk"
    """What is planned for and counted."""
    episodes: int = 20
    """Side by side, for each cell."""
    steps: int = 250
    """Control steps of an episode, 0.025 s each."""
    planning: Planning = field(default_factory=Planning)
    """How plans are made."""
    iterations: int = 4
    """Refinements of a plan, for CEM."""
    elites: int = 8
    """For CEM."""
    knots: int = 8
    """Of the smooth noise of random shooting and CEM, which do far worse with a new draw every step."""
    out: Path = RESULTS / "dmpc_returns.json"
    """JSON file of the result."""


class Parts:
    """The trained parts of one data folder and seed, loaded or trained when first asked for.

    Args:
        args: the study's.
        data: folder of episodes.
        seed: of the training.
    """

    def __init__(self, args: Args, data: Path, seed: int) -> None:
        self.args, self.data, self.seed = args, data, seed

    def part(self, name: str, preset: str, settings: tuple[str, ...] = ()) -> Any:
        """Return a part by its folder's name, trained if need be."""
        folder = self.args.runs / self.data.name / f"seed{self.seed}" / name
        return load_part(train_part(preset, self.data, folder, self.seed, (*self.args.train, *settings)))

    @cached_property
    def dynamics(self) -> Any:
        """The diffusion dynamics."""
        return self.part("dynamics", PARTS["dynamics"])

    @cached_property
    def autoregressive(self) -> Any:
        """The autoregressive dynamics of the same size."""
        return self.part("autoregressive", PARTS["autoregressive"])

    @cached_property
    def causal(self) -> Any:
        """The diffusion dynamics with causal attention."""
        return self.part("dynamics_causal", PARTS["dynamics"], ("causal=true",))

    @cached_property
    def proposal(self) -> Any:
        """The diffusion proposal."""
        return self.part("proposal", PARTS["proposal"])

    @cached_property
    def regression(self) -> Any:
        """Behaviour cloning."""
        return self.part("regression", PARTS["regression"])

    @cached_property
    def one_step(self) -> Any:
        """A diffusion proposal of one control step."""
        part = self.part("proposal_one_step", PARTS["proposal"], ("horizon=1", "patch=1"))
        return with_steps(part, self.args.planning.proposal_steps)


def ranked(parts: Parts, model: WorldModel, proposal: Any) -> Planner:
    """Return sample, score, rank."""
    return parts.args.planning.ranked(model, proposal, parts.seed)


def alone(parts: Parts, model: WorldModel, proposal: Any) -> Planner:
    """Return a planner that executes a proposal's first candidate."""
    planning = parts.args.planning
    proposal = with_steps(proposal, planning.proposal_steps)
    return ProposalPlanner(model, proposal, horizon=planning.horizon, seed=parts.seed)


def shooting(parts: Parts) -> Planner:
    """Return random shooting on the autoregressive dynamics."""
    return RandomShooting(parts.autoregressive, **search(parts))


def cem(parts: Parts) -> Planner:
    """Return the cross-entropy method on the autoregressive dynamics."""
    args = parts.args
    return CEM(parts.autoregressive, iterations=args.iterations, elites=args.elites, **search(parts))


def mppi(parts: Parts, proposal: Any = None, share: float = 0.0) -> Planner:
    """Return MPPI on the autoregressive dynamics, a share of its candidates drawn by a proposal."""
    settings = search(parts) | {"horizon": _MPPI["horizon"], "noise_knots": _MPPI["knots"]}
    proposal = with_steps(proposal, parts.args.planning.proposal_steps)
    more: dict[str, Any] = {"proposal": proposal, "proposal_share": share, **settings}
    return MPPI(parts.autoregressive, iterations=1, std=_MPPI["std"], temperature=_MPPI["temperature"], **more)


def search(parts: Parts) -> dict[str, Any]:
    """Return the settings of planners that search by themselves."""
    planning = parts.args.planning
    sizes = {"samples": planning.samples, "horizon": planning.horizon}
    return sizes | {"noise_knots": parts.args.knots, "seed": parts.seed}


def stepped(parts: Parts) -> Any:
    """Return the proposal that makes a plan one step at a time, through the autoregressive dynamics."""
    return SteppedProposal(parts.one_step, parts.autoregressive)


def simulator(parts: Parts) -> WorldModel:
    """Return the true dynamics: what would be left to the proposal if the learned ones were right."""
    return SimulatorModel.from_task("walker", action_repeat=parts.proposal.config.action_repeat)


def gaussian(parts: Parts) -> Any:
    """Return independent Gaussian actions."""
    return GaussianProposal(parts.dynamics, std=1.0)


PLANNERS: dict[str, Callable[[Parts], Planner]] = {
    "behaviour cloning": lambda p: alone(p, p.autoregressive, p.regression),
    "random shooting, autoregressive": shooting,
    "CEM, autoregressive": cem,
    "MPPI, autoregressive": mppi,
    "MPPI, autoregressive, half diffusion proposal": lambda p: mppi(p, p.proposal, 0.5),
    "D-MPC": lambda p: ranked(p, p.dynamics, p.proposal),
    "D-MPC, autoregressive dynamics": lambda p: ranked(p, p.autoregressive, p.proposal),
    "D-MPC, true simulator": lambda p: ranked(p, simulator(p), p.proposal),
    "D-MPC, causal diffusion dynamics": lambda p: ranked(p, p.causal, p.proposal),
    "D-MPC, one-step proposal": lambda p: ranked(p, p.dynamics, stepped(p)),
    "D-MPC, one-step proposal, autoregressive dynamics": lambda p: ranked(p, p.autoregressive, stepped(p)),
    "D-MPC, Gaussian proposal": lambda p: ranked(p, p.dynamics, gaussian(p)),
    "diffusion proposal alone": lambda p: alone(p, p.autoregressive, p.proposal),
}
"""Agents that plan, or that only imagine once what they do anyway."""

FLOORS: dict[str, Callable[[Task], Agent]] = {"random": RandomAgent, "hold still": HoldAgent}
"""Agents that are not trained."""


def agent_of(args: Args, name: str, data: Path, seed: int) -> Agent:
    """Return an agent by name."""
    if name in FLOORS:
        return FLOORS[name](load_task("walker"))
    return args.planning.agent(PLANNERS[name](Parts(args, data, seed)), args.reward)


def recorded_returns(data: Path, steps: int) -> list[float]:
    """Return the returns of all recorded episodes over their first `steps`."""
    store = EpisodeStore.open(data, partial=True)
    if int(store.lengths.min()) < steps:
        raise SystemExit(f"{data}: an episode has {store.lengths.min()} steps; give --steps of at most so many")
    rewards = np.split(store.read("reward", range(len(store))), np.cumsum(store.lengths)[:-1])
    return [float(episode[:steps].sum()) for episode in rewards]


def table(cells: dict[str, Any], data: tuple[Path, ...], steps: int) -> dict[str, Any]:
    """Return and print the summary of all finished cells, over their seeds."""
    rows: dict[str, Any] = {}
    for folder in data:
        own = recorded_returns(folder, steps)
        rows[f"{folder.name}/data policy"] = summary([own], own) | {"episodes": len(own)}
        for agent in (*FLOORS, *PLANNERS):
            mine = [cells[n] for n in sorted(cells) if n.startswith(f"{folder.name}/{agent}/")]
            if mine:
                times = [cell["decision"]["p50"] for cell in mine if cell["decision"]]
                found = summary([cell["returns"] for cell in mine], own)
                rows[f"{folder.name}/{agent}"] = found | {
                    "seeds": len(mine),
                    "decision_p50": float(np.median(times)) if times else None,
                }
    for name, row in rows.items():
        low, high = row["interval"]
        less, more = row["ratio_interval"]
        print(f"{name:<62}{row['mean']:7.1f} [{low:5.1f}, {high:5.1f}]  x{row['ratio']:.2f} [{less:.2f}, {more:.2f}]")
    return rows


def main(args: Args) -> None:
    """Run the missing cells, one after another, and print the table."""
    torch.set_num_threads(1)
    agents = (*FLOORS, *PLANNERS)
    unknown = [name for name in args.only if name not in agents]
    if unknown:
        raise SystemExit(f"unknown agent {unknown[0]!r}; known: {', '.join(agents)}")
    apart = {"data", "runs", "seeds", "only", "out"}
    cells = Cells(args.out, settings_of(args, apart))
    for data, seed in ((data, seed) for seed in args.seeds for data in args.data):
        for label in args.only or agents:
            name = f"{data.name}/{label}/seed{seed}"
            if cells.missing(name):
                agent = agent_of(args, label, data, seed)
                found = play(agent, args.reward, args.episodes, args.steps, seed)
                cells.add(name, cell_of_returns(found))
                print(f"{name:<70}{found.mean:7.1f}, {found.seconds:.0f} s", flush=True)
    cells.put("table", table(cells.read(), args.data, args.steps))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
