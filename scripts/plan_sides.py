"""What `wmkit bench plan` times: one scene, planned by wmkit in several ways and by a peer; no command of its own."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wmkit.contracts import Context, Rollout, SupportsReference
from wmkit.errors import UserError
from wmkit.timing import Peer, per_unit, stopwatch

from ..models.parity import elite_agreement
from ..planners import GoalObjective
from .assembly import controller_maker
from .plan_scene import REACHABLE, Scene

if TYPE_CHECKING:
    from wmkit.contracts import Planner

__all__ = ["OurSide", "PeerSide", "Way", "agreement"]

_RUN_SECONDS = 0.05
"""Seconds of one timed run of iterations."""


@dataclass(frozen=True)
class Way:
    """How wmkit rolls out.

    Attributes:
        dtype: of the matrix products, "float32" or "bfloat16".
        path: "auto", or one of `wmkit.models.LeWM.rollout_path`.
        graph: whether the planner may capture its iterations as a CUDA graph.
    """

    dtype: str
    path: str
    graph: bool = True

    @classmethod
    def parse(cls, dtype: str, path: str) -> "Way":
        """Read a path, "-eager" behind it for no CUDA graph."""
        return cls(dtype, path.removesuffix("-eager"), not path.endswith("-eager"))

    def __str__(self) -> str:
        return f"wmkit {self.dtype} {self.path}{'' if self.graph else '-eager'}"


class OurSide:
    """wmkit's model and planners on one scene.

    Args:
        model: on `device`.
        scene: what is planned.
        planning: settings of the planner, as `resolve_planning` returns them.
        device: "cpu" or "cuda".

    Attributes:
        rollouts: way -> how the model rolled out when it was checked, where it tells ("reference", "fast", "fused").
        iterations: way -> refinements of its last decision or plan.
    """

    def __init__(self, model: Any, scene: Scene, planning: Mapping[str, Any], device: str) -> None:
        self.model, self.scene, self.planning, self.device = model, scene, planning, device
        self.batch = scene.candidates.shape[1]
        self.rollouts: dict[str, str] = {}
        self.iterations: dict[str, int] = {}

    def check(self, way: Way) -> None:
        """Note how the model rolls out; raise UserError where it cannot in this way."""
        if way.path != "auto" and not hasattr(self.model, "rollout_path"):
            raise UserError(f"{type(self.model).__name__} has one path alone: leave --paths at auto")
        if way.dtype != "float32" and not hasattr(self.model, "rollout_dtype"):
            raise UserError(f"{type(self.model).__name__} rolls out in its weights' dtype alone: give --dtypes float32")
        try:
            self.costs(way)
        except ValueError as error:
            raise UserError(f"{way}: {error}") from error
        kind = getattr(self.model, "rollout_kind", None)
        if kind is not None:
            self.rollouts[str(way)] = kind

    def decision(self, way: Way) -> Callable[[], float]:
        """Return a contestant: both observations encoded and a plan made; its seconds."""
        planner = self._planner(way, self.planning["iterations"])

        def decide() -> None:
            self._use(way)
            both = {key: torch.cat([value, self.scene.goal[key]]) for key, value in self.scene.start.items()}
            latents = self.model.encode(both)
            self.iterations[str(way)] = self._plan(planner, latents[: self.batch], latents[self.batch :])

        return stopwatch(decide, self.device)

    def plan(self, way: Way) -> Callable[[], float]:
        """Return a contestant: a plan made, with both latents known; its seconds."""
        planner, latents = self._planner(way, self.planning["iterations"]), self._latents()

        def make() -> None:
            self._use(way)
            self.iterations[str(way)] = self._plan(planner, *latents)

        return stopwatch(make, self.device)

    def iteration(self, way: Way) -> Callable[[], float]:
        """Return a contestant: a plan of one iteration, with both latents known; its seconds."""
        planner, latents = self._planner(way, 1), self._latents()

        def iterate(count: int) -> None:
            self._use(way)
            for _ in range(count):
                self._plan(planner, *latents)

        return per_unit(lambda count: stopwatch(partial(iterate, count), self.device)(), _RUN_SECONDS)

    def costs(self, way: Way) -> Tensor:
        """Return the costs (M, B, N) of the scene's candidates."""
        return self._costs(self.model.rollout, way)

    def exact_costs(self) -> Tensor | None:
        """Return the costs (M, B, N) by the reference rollout in the weights' dtype; None where the model has none."""
        if not isinstance(self.model, SupportsReference):
            return None
        return self._costs(self.model.reference_rollout, Way("float32", "auto"))

    def latent_difference(self, start: Tensor, goal: Tensor) -> float:
        """Return the largest difference of our latents of start and goal from others, each (B, D)."""
        pairs = zip(self._latents(), (start, goal), strict=True)
        return max(float((mine[:, -1].cpu() - other.cpu()).abs().max()) for mine, other in pairs)

    def goals(self) -> Tensor:
        """Return the goals (M, B, D) of the scene's sets of candidates."""
        self._use(Way("float32", "auto"))
        start, goal = self._latents()
        rollout = getattr(self.model, "reference_rollout", self.model.rollout)
        context, pairs = self._context(start, goal), zip(self.scene.targets, self.scene.kinds, strict=True)
        reached = [
            rollout(context, each).latents[:, 0, -1] if kind == REACHABLE else goal[:, -1] for each, kind in pairs
        ]
        return torch.stack(reached)

    def _latents(self) -> tuple[Tensor, Tensor]:
        return self.model.encode(self.scene.start), self.model.encode(self.scene.goal)

    def _context(self, latents: Tensor, goal: Tensor) -> Context:
        """Return what is planned from, both latents (B, 1, D)."""
        past = latents.new_zeros(self.batch, 0, self.model.spec.block_size)
        return Context(latents, past, goal=goal[:, -1])

    def _costs(self, rollout: Callable[[Context, Tensor], Rollout], way: Way) -> Tensor:
        start, goal = self._latents()
        context, sets = self._context(start, goal), zip(self.scene.candidates, self.goals(), strict=True)
        self._use(way)
        costs = [GoalObjective(goal, reduce="last").cost(rollout(context, each), each) for each, goal in sets]
        return torch.stack(costs).float()

    def _plan(self, planner: "Planner", start: Tensor, goal: Tensor) -> int:
        """Make a plan and return its refinements; raises UserError where it stopped before all of them."""
        objective = GoalObjective(goal[:, -1], reduce=self.planning["objective"])
        plan = planner.plan(self._context(start, goal), objective)
        if plan.stopped != "iterations":
            raise UserError(f"the plan stopped early ({plan.stopped}), so its time cannot be compared")
        return plan.iterations

    def _planner(self, way: Way, iterations: int) -> "Planner":
        planner: Any = controller_maker(self.model, {**self.planning, "iterations": iterations})(self.batch).planner
        if not way.graph and hasattr(planner, "graph"):
            planner.graph = False
        return planner

    def _use(self, way: Way) -> None:
        """Set how the model rolls out."""
        if hasattr(self.model, "rollout_path"):
            self.model.rollout_path = way.path
        if hasattr(self.model, "rollout_dtype"):
            self.model.rollout_dtype = None if way.dtype == "float32" else getattr(torch, way.dtype)


class PeerSide:
    """A peer's model and solver on the same scene.

    Args:
        peer: has the same model.
        ours: whose scene and settings are taken.
    """

    def __init__(self, peer: Peer, ours: OurSide) -> None:
        self.peer = peer
        model, scene = ours.model, ours.scene
        settings = {name: ours.planning[name] for name in ("samples", "iterations", "elites", "horizon")}
        settings |= {"action_size": model.spec.action_size, "action_repeat": model.spec.action_repeat}
        key = model.config.pixel_key
        tensors = {"start": scene.start[key], "goal": scene.goal[key]}
        tensors |= {"candidates": model.normalize_actions(scene.candidates), "goals": ours.goals()}
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "scene.safetensors")
            _save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, file)
            peer.ask("scene", file=file, **settings)

    def decision(self, dtype: str) -> Callable[[], float]:
        """Return a contestant, as `OurSide.decision`."""
        return self.peer.seconds("decide", dtype=dtype)

    def plan(self, dtype: str) -> Callable[[], float]:
        """Return a contestant, as `OurSide.plan`."""
        return self.peer.seconds("plan", dtype=dtype)

    def iteration(self, dtype: str) -> Callable[[], float]:
        """Return a contestant, as `OurSide.iteration`."""
        return per_unit(lambda count: self.peer.seconds("iterate", dtype=dtype, repeats=count)(), _RUN_SECONDS)

    def costs(self, dtype: str) -> dict[str, Tensor]:
        """Return "costs" (M, B, N) of the scene's candidates and the latents "start" and "goal" (B, D)."""
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "costs.safetensors")
            self.peer.ask("costs", dtype=dtype, file=file)
            return _load(file)


def agreement(costs: Tensor, exact: Tensor, kinds: tuple[str, ...], elites: int) -> dict[str, float]:
    """Compare costs (M, B, N) with exact ones.

    Returns:
        "cost_difference": the largest relative one where the goal is a picture; "elites_KIND": share of the cheapest
        `elites` that both choose, over the sets of each kind.
    """
    costs, exact = costs.cpu().double(), exact.cpu().double()
    result, sets = {}, {kind: [row for row, each in enumerate(kinds) if each == kind] for kind in kinds}
    pictured = [row for row, kind in enumerate(kinds) if kind != REACHABLE]
    result["cost_difference"] = float(((costs - exact).abs() / exact.abs().clamp_min(1e-30))[pictured].max())
    for kind, rows in sets.items():
        result[f"elites_{kind}"] = elite_agreement(costs[rows].flatten(0, 1), exact[rows].flatten(0, 1), elites)
    return result


def _load(file: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


def _save(tensors: dict[str, Tensor], file: str) -> None:
    from safetensors.torch import save_file

    save_file(tensors, file)
