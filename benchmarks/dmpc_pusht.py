"""Proposals ranked by a JEPA beside CEM, on the same pairs: success, rollouts and time of a decision.

    wmkit train diffusion-proposal --data data/pusht --out runs/pusht-proposal --set encoder=pretrained:pusht-tiny ...
    python benchmarks/dmpc_pusht.py --proposal runs/pusht-proposal
    python benchmarks/dmpc_pusht.py --proposal runs/room-proposal --model runs/quickstart/model --env two-room \
        --protocol cross --manifest runs/quickstart/model/eval/two-room-cross/manifest.json

Every row plans through the same world model. "rollouts" are measured: model steps imagined in a decision, over the
length of its plan, so that the walk of the inverse dynamics counts too. Settings are chosen with `--split validation
--data data/pusht`, whose pairs are from other episodes than the held-out ones. Each row is written when it is done, and
a row that is in the file is not run again.
"""

# pyright: reportMissingImports=false

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from dmpc_common import Cells
from torch import Tensor

from wmkit.contracts import Context, Rollout
from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import load_task
from wmkit.data.splits import load_splits
from wmkit.errors import UserError
from wmkit.evaluation import Manifest, ModelAgent, decision_times, evaluate, needs_motion, suite
from wmkit.evaluation.held_out import read_recordings
from wmkit.evaluation.protocols import PROTOCOLS, draw_manifest
from wmkit.evaluation.statistics import compare, percentiles, wilson
from wmkit.scripts.assembly import controller_maker, load_model, resolve_planning
from wmkit.tasks import Task

_HERE = Path(__file__).resolve().parent

REFERENCES = ("gaussian, CEM 64x10", "inverse, CEM 64x4")
"""Rows that the others are compared with, pair by pair."""


@dataclass(frozen=True)
class Args:
    """What to run."""

    proposal: Path
    """Folder of a trained goal-conditioned proposal."""
    model: str = "pretrained:pusht-tiny"
    """Folder of a world model with inverse dynamics, or pretrained:NAME."""
    env: str = "pusht"
    """Environment."""
    protocol: str = "short"
    """Protocol of the pairs."""
    episodes: int = 200
    """Pairs."""
    seeds: int = 1
    """Runs of each row, with planner seeds 0, 1, ..."""
    samples: int = 64
    """Candidates that are ranked."""
    sampler: str | None = None
    """Of the proposal; by default as it was saved."""
    sampling_steps: int | None = None
    """Of the proposal; by default as it was saved."""
    gaussian_std: float = 1.0
    """First spread of Gaussian CEM, as a fraction of half the action range."""
    split: Literal["heldout", "validation"] = "heldout"
    """Episodes that the pairs are from; settings are chosen on "validation"."""
    data: Path | None = None
    """Data set whose episodes give the pairs, where the model's folder has none."""
    manifest: Path | None = None
    """File of held-out pairs drawn before."""
    rows: tuple[str, ...] = ()
    """Rows to run; all by default."""
    timed: int = 20
    """Episodes whose decisions are timed one at a time; 0 for none."""
    retime: bool = False
    """Time the decisions of the rows that are in the file anew, compare these anew, and run nothing else."""
    threads: int = 1
    """Of torch; several make short decisions no faster."""
    out: Path | None = None
    """JSON file of the result; by default results/dmpc_ENV.json."""


class Counted:
    """Counts the model steps that a model imagines, while it lasts.

    Attributes:
        steps: B x N x H summed over the rollouts.
    """

    def __init__(self, model: Any) -> None:
        self.steps = 0
        self._model = model

    def __enter__(self) -> "Counted":
        """Put the counter before the model's `rollout`."""
        inner = self._model.rollout

        def rollout(context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
            self.steps += actions.shape[0] * actions.shape[1] * actions.shape[2]
            return inner(context, actions, generator)

        self._model.rollout = rollout
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        del self._model.rollout


def variants(args: Args) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each row and the settings that make it, beside the model's own."""
    gaussian = {"planner": "cem", "proposal": "gaussian", "std": args.gaussian_std}
    ranked = {"planner": "sample-score-rank", "samples": args.samples}
    alone = ranked | {"samples": 1, "warm_start": False}
    folder = str(args.proposal)
    yield REFERENCES[0], gaussian | {"samples": 64, "iterations": 10, "elites": 8}
    yield REFERENCES[1], {"planner": "cem", "proposal": "inverse", "samples": 64, "iterations": 4, "elites": 8}
    yield "inverse alone", alone | {"proposal": "inverse"}
    yield "diffusion alone", alone | {"proposal": folder}
    yield "gaussian, ranked", ranked | {"proposal": "gaussian"}
    yield "inverse, ranked", ranked | {"proposal": "inverse"}
    yield "diffusion, ranked", ranked | {"proposal": folder}
    yield "inverse + diffusion, ranked", ranked | {"proposal": f"inverse:0.5+{folder}:0.5"}
    yield "gaussian + diffusion, ranked", ranked | {"proposal": f"gaussian:0.5+{folder}:0.5"}
    yield "diffusion, CEM 64x4", {"planner": "cem", "proposal": folder, "samples": 64, "iterations": 4, "elites": 8}


def pairs_of(args: Args, task: Task, folder: Path) -> Manifest:
    """Return the pairs: held-out ones as `wmkit eval` finds them, or from the episodes of the validation split."""
    if args.split == "heldout":
        return suite.obtain(
            task, args.protocol, args.episodes, data=args.data, path=args.manifest, folder=folder
        ).manifest
    if args.data is None:
        raise UserError("--split validation needs --data")
    store = EpisodeStore.open(args.data)
    splits = load_splits(store)
    recordings = read_recordings(store, splits, args.split)
    return draw_manifest(
        task,
        PROTOCOLS[args.protocol],
        args.episodes,
        recordings=recordings,
        fingerprint=store.fingerprint,
        split_hash=splits.hashes[args.split],
        split=args.split,
    )


def measure(args: Args, task: Task, manifest: Manifest, model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row: outcomes of each seed, rollouts and times of a decision, and the settings."""
    planning, outcomes, strict = planning_of(args, model, given), [], []
    for seed in range(args.seeds):
        found = evaluate(task, manifest, agent_of(model, planning, seed), image_size=_size(model))
        outcomes.append(found.first_success.tolist())
        strict.append(int(found.strict.sum()))
    shown = planning | {"proposal": str(planning["proposal"]).replace(str(args.proposal), "diffusion")}
    return {
        **summary(outcomes, needs_motion(task, manifest.starts, manifest.goals)),
        "strict": strict,
        "rollouts": rollouts(task, manifest, agent_of(model, planning), model),
        **timing(args, task, manifest, model, planning),
        "planning": shown,
        "outcomes": outcomes,
    }


def planning_of(args: Args, model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the planner's settings of a row."""
    learned = str(args.proposal) in given["proposal"]
    sampling = {"sampler": args.sampler, "sampling_steps": args.sampling_steps} if learned else {}
    return resolve_planning(model.metadata, {**sampling, **given})


def agent_of(model: Any, planning: Mapping[str, Any], seed: int = 0) -> ModelAgent:
    """Return who acts."""
    return ModelAgent(controller_maker(model, planning, seed), shrink=planning["shrink"])


def timing(args: Args, task: Task, manifest: Manifest, model: Any, planning: Mapping[str, Any]) -> dict[str, Any]:
    """Return percentiles of the seconds of a decision, the threads, and the machine's load meanwhile."""
    agent = agent_of(model, planning)
    seen = {"image_size": _size(model), "episodes": args.timed, "decided": lambda: agent.controller.plan}
    times = decision_times(task, manifest, agent, **seen) if args.timed else []
    found = percentiles(times) if times else None
    return {"decision": found, "threads": args.threads, "load": os.getloadavg()[0]}


def _size(model: Any) -> int:
    return int(model.spec.observations["pixels"].shape[0])


def summary(outcomes: list[list[int]], moved: np.ndarray | None) -> dict[str, Any]:
    """Return the share of pairs solved over all seeds, Wilson's interval, and the share where the block must move."""
    solved = np.array(outcomes) > 0
    hits = int(solved.sum())
    groups = {} if moved is None else {"block_must_move": [int(solved[:, moved].sum()), int(moved.sum()) * len(solved)]}
    return {
        "success": hits / solved.size,
        "interval": list(wilson(hits, solved.size)),
        "by_seed": solved.sum(axis=1).tolist(),
        "pairs": solved.shape[1],
        **groups,
    }


def rollouts(task: Task, manifest: Manifest, agent: ModelAgent, model: Any) -> float:
    """Return the rollouts of a decision, each as long as the plan, over a few episodes one at a time."""
    plans: list[Any] = []

    def decided() -> Any:
        plan = agent.controller.plan
        if plan is not None and (not plans or plan is not plans[-1]):
            plans.append(plan)
        return plan

    with Counted(model) as counted:
        decision_times(task, manifest, agent, image_size=_size(model), episodes=3, warm_up=0, decided=decided)
    return counted.steps / sum(plan.actions.shape[1] for plan in plans)


def comparisons(name: str, outcomes: list[list[int]], cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return McNemar's test against the CEM rows that are there, over the same pairs and seeds."""
    solved = (np.array(outcomes) > 0).ravel().tolist()
    found = [other for other in REFERENCES if other in cells and other != name]
    others = {other: (np.array(cells[other]["outcomes"]) > 0).ravel().tolist() for other in found}
    return {other: asdict(compare(solved, theirs)) for other, theirs in others.items()}


def show(name: str, cell: Mapping[str, Any]) -> None:
    """Print one row."""
    low, high = cell["interval"]
    times = "".join(f", {key} {1000 * cell['decision'][key]:.1f} ms" for key in ("p50", "p99") if cell["decision"])
    print(f"{name:<30}{cell['success']:7.1%} ({low:.1%} to {high:.1%}), {cell['rollouts']:6.1f} rollouts{times}")
    for other, found in cell["against"].items():
        difference = f"+{found['only_first']} -{found['only_second']}"
        print(f"    against {other}: {difference}, p = {found['p_value']:.3g}", flush=True)


def main(args: Args) -> None:
    """Run the rows that are missing, print each, and write the JSON."""
    torch.set_num_threads(args.threads)
    task = load_task(args.env)
    model, folder = load_model(args.model)
    manifest = pairs_of(args, task, folder)
    rows = dict(variants(args))
    unknown = sorted(set(args.rows) - set(rows))
    if unknown:
        raise UserError(f"--rows {', '.join(unknown)}: known are {'; '.join(rows)}")
    named = {"proposal": args.proposal.name, "model": Path(args.model).name, "manifest": manifest.sha256}
    settings = {name: getattr(args, name) for name in ("env", "protocol", "episodes", "seeds", "split")} | named
    cells = Cells(args.out or _HERE / "results" / f"dmpc_{args.env}.json", settings)
    for name in args.rows or rows:
        began = time.perf_counter()
        if cells.missing(name) == args.retime:
            continue
        if args.retime:
            cell = cells.read()[name]
            cell |= timing(args, task, manifest, model, planning_of(args, model, rows[name]))
        else:
            cell = measure(args, task, manifest, model, rows[name])
            cell["seconds"] = time.perf_counter() - began
        cell["against"] = comparisons(name, cell["outcomes"], cells.read())
        cells.add(name, cell)
        show(name, cell)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
