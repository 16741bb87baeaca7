"""What the studies of diffusion MPC share: results that survive a kill, parts on demand, episodes, intervals."""

# pyright: reportMissingImports=false

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from wmkit import registry
from wmkit.contracts import Planner
from wmkit.control.controller import Controller
from wmkit.data.files import write_json
from wmkit.data.recording import load_task
from wmkit.evaluation.agents import Agent
from wmkit.evaluation.returns import ControllerAgent, Returns, evaluate_returns
from wmkit.evaluation.rewards import find_reward
from wmkit.model_folder import kind_of
from wmkit.planners import RewardObjective, SampleScoreRank
from wmkit.planners.sample_score_rank import WarmStart
from wmkit.provenance import provenance
from wmkit.training.loop import Trainer
from wmkit.training.overrides import parse_assignments
from wmkit.training.randomness import derive_seed

__all__ = [
    "PARTS",
    "RESULTS",
    "Cells",
    "Planning",
    "bootstrap",
    "cell_of_returns",
    "in_turn",
    "load_part",
    "play",
    "pose_seed",
    "recipe_of",
    "settings_of",
    "summary",
    "train_part",
    "trained",
    "with_steps",
]

RESULTS = Path(__file__).resolve().parent / "results"
"""Where results go by default."""

PARTS = {
    "dynamics": "diffusion-dynamics",
    "autoregressive": "autoregressive-dynamics",
    "proposal": "diffusion-proposal",
    "regression": "regression-proposal",
}
"""Name of a part of a run -> preset that trains it."""


def settings_of(args: Any, apart: set[str]) -> dict[str, Any]:
    """Return the settings that all cells of a study share, as plain JSON values; `apart` names those that are not."""
    return {name: value for name, value in asdict(args).items() if name not in apart}


def play(agent: Agent, reward: str, episodes: int, steps: int, seed: int, variation: Any = None) -> Returns:
    """Run episodes of the walker side by side, from dm-control's random poses.

    Args:
        agent: acts in all of them.
        reward: what counts, by name.
        episodes: E.
        steps: control steps of an episode.
        seed: training seed; it chooses the first poses.
        variation: of the robot, names and strengths.
    """
    task = load_task("walker")
    numbers: dict[str, Any] = {"episodes": episodes, "steps": steps, "seed": pose_seed(seed), "variation": variation}
    found = evaluate_returns(task, agent, find_reward(task, reward), **numbers)
    return found.timed(getattr(agent, "decisions", ())[1:])


def cell_of_returns(found: Returns) -> dict[str, Any]:
    """Return what a result file keeps of episodes: returns, statistics, and seconds of a decision for all together."""
    statistics = {name: values.round(4).tolist() for name, values in found.statistics.items()}
    numbers = {"decision": found.decision, "seconds": round(found.seconds, 1)}
    return {"returns": found.returns.round(4).tolist(), "statistics": statistics, **numbers}


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder, so that processes side by side take turns; it is hidden beside `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Cells:
    """A JSON file of finished cells, which several processes may add to.

    Attributes:
        path: of the file.
        settings: that all cells share; a file with others is refused, so that no table mixes them.
    """

    path: Path
    settings: Mapping[str, Any]

    def read(self) -> dict[str, Any]:
        """Return the cells that are there, by name.

        Raises:
            SystemExit: the file was made with other settings.
        """
        if not self.path.exists():
            return {}
        found = json.loads(self.path.read_text())
        now = json.loads(json.dumps(self.settings, default=str))
        if found["settings"] != now:
            names = [name for name in {**found["settings"], **now} if found["settings"].get(name) != now.get(name)]
            raise SystemExit(f"{self.path} was made with other settings ({', '.join(names)}); give another --out")
        return found["cells"]

    def missing(self, name: str) -> bool:
        """Return whether a cell is still to be measured."""
        return name not in self.read()

    def add(self, name: str, cell: Mapping[str, Any]) -> None:
        """Write one finished cell beside the others."""
        self._write(lambda document: document["cells"].update({name: dict(cell)}))

    def put(self, key: str, value: Any) -> None:
        """Write something else at the top level of the file, e.g. a table of the cells."""
        self._write(lambda document: document.update({key: value}))

    def _write(self, change: Callable[[dict[str, Any]], Any]) -> None:
        with in_turn(self.path):
            cells = self.read()
            document = json.loads(self.path.read_text()) if self.path.exists() else {}
            document |= {"settings": dict(self.settings), "cells": cells, "provenance": provenance()}
            change(document)
            write_json(self.path, json.loads(json.dumps(document, default=str)))


def recipe_of(preset: str, data: Path, seed: int, settings: Sequence[str] = ()) -> Any:
    """Return the recipe of a preset on a folder of episodes, its weights drawn from the seed as `wmkit train` does.

    Args:
        preset: registered name.
        data: folder of episodes.
        seed: of the initial weights.
        settings: changes to the preset, each name=value.
    """
    torch.manual_seed(derive_seed(seed, "build"))
    return registry.load("presets", preset).recipe(data, "cpu", parse_assignments(tuple(settings)))


def trained(folder: Path) -> bool:
    """Return whether a folder holds a finished part."""
    return (folder / "config.json").exists()


def train_part(preset: str, data: Path, folder: Path, seed: int, settings: Sequence[str] = ()) -> Path:
    """Train a preset into a folder unless it is there already; killed, the same call goes on.

    The folder's own record of settings refuses a resume with others, but a finished folder is taken as it is.

    Returns:
        The folder.
    """
    with in_turn(folder):
        if not trained(folder):
            recipe = recipe_of(preset, data, seed, settings)
            identity = {"preset": preset, **recipe.settings}
            result = Trainer(recipe, folder, seed, identity, show=False).run()
            if not result.finished:
                raise SystemExit(130)
            print(f"{folder}: trained in {sum(result.seconds.values()):.0f} s, {dict(result.scores)}", flush=True)
    return folder


def load_part(folder: Path, device: str = "cpu") -> Any:
    """Return the model or proposal of a folder, ready to use."""
    kind = kind_of(folder)
    plural = next(plural for plural in ("models", "proposals", "values") if kind in registry.names(plural))
    part: nn.Module = registry.load(plural, kind).from_pretrained(folder)
    return part.to(device).eval()


@dataclass(frozen=True)
class Planning:
    """How plans are made by sampling, scoring and ranking.

    Attributes:
        samples: candidates of a plan.
        horizon: model steps of a plan, two control steps each.
        execute: model steps of a plan that are executed before planning anew.
        proposal_steps: denoising steps of the proposal; None leaves the trained part's own.
        dynamics_steps: denoising steps of the dynamics; None leaves the trained part's own.
        warm_start: what becomes of the last plan: none, shift or renoise.
        bfloat16: roll out in bfloat16, which is faster on processors that have it.
    """

    samples: int = 64
    horizon: int = 16
    execute: int = 1
    proposal_steps: int | None = 3
    dynamics_steps: int | None = 2
    warm_start: WarmStart = "renoise"
    bfloat16: bool = False

    def ranked(self, model: Any, proposal: Any, seed: int) -> SampleScoreRank:
        """Return the planner of a model and a proposal."""
        proposal = with_steps(proposal, self.proposal_steps)
        model = with_steps(model, self.dynamics_steps)
        model.rollout_dtype = torch.bfloat16 if self.bfloat16 else None
        shared: dict[str, Any] = {"samples": self.samples, "horizon": self.horizon, "seed": seed}
        return SampleScoreRank(model, proposal=proposal, warm_start=self.warm_start, **shared)

    def agent(self, planner: Planner, reward: str) -> ControllerAgent:
        """Return what acts by a planner for a reward by name."""
        function = find_reward(load_task("walker"), reward).function
        objective = RewardObjective(function, "state", planner.model)  # pyright: ignore[reportArgumentType]
        return ControllerAgent(lambda rows: Controller(planner, objective, execute=self.execute))


def with_steps(part: Any, steps: int | None) -> Any:
    """Return a part, one with a sampling set to so many steps."""
    if steps is not None and hasattr(part, "sampling"):
        part.sampling = replace(part.sampling, steps=steps)
    return part


def pose_seed(seed: int) -> int:
    """Return the environment's seed of a training seed: the same first poses for all agents, others for each seed."""
    return 100_000 + 1_000 * seed


def bootstrap(groups: Sequence[Sequence[float]], draws: int = 4000, seed: int = 0) -> np.ndarray:
    """Return means (draws,) of resampled groups, e.g. training seeds, with their members, e.g. episodes, resampled too.

    Args:
        groups: the members of each; one group resamples its members alone.
        draws: how many.
        seed: of the draws.
    """
    random, arrays = np.random.default_rng(seed), [np.asarray(group, float) for group in groups]
    means = np.stack([values[random.integers(len(values), size=(draws, len(values)))].mean(1) for values in arrays], 1)
    return np.take_along_axis(means, random.integers(len(arrays), size=(draws, len(arrays))), axis=1).mean(axis=1)


def summary(groups: Sequence[Sequence[float]], against: Sequence[float] | None = None) -> dict[str, Any]:
    """Return what a table says of groups of numbers: means and 95 % intervals.

    Args:
        groups: the episodes' returns of each training seed.
        against: returns of the policy behind the data; adds the ratio of the means.

    Returns:
        "mean"; "interval", from the two-level bootstrap; "by_seed", the seeds' means; "t_interval", Student's of these
        where there are several; with `against`, "ratio" and "ratio_interval".
    """
    by_seed = [float(np.mean(group)) for group in groups]
    drawn = bootstrap(groups)
    mean = float(np.mean(by_seed))
    found = {"mean": mean, "interval": _ends(drawn), "by_seed": by_seed, "t_interval": _student(by_seed)}
    if against is not None:
        below = bootstrap([against], seed=1)
        found |= {"ratio": mean / float(np.mean(against)), "ratio_interval": _ends(drawn / below)}
    return found


def _ends(draws: np.ndarray) -> list[float]:
    return [float(end) for end in np.quantile(draws, [0.025, 0.975])]


def _student(means: Sequence[float]) -> list[float] | None:
    """Return Student's interval of the mean of several seeds' means."""
    if len(means) < 2:
        return None
    half = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)
    return [float(np.mean(means) - half), float(np.mean(means) + half)]
