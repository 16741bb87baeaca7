"""Checks for authors of models and planners: each broken rule of the contract raises one clear line.

from wmkit.conformance import check_model, check_planner
check_model(MyModel())
check_planner(MyPlanner(LinearModel(...)))
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .contracts import (
    Context,
    ModelSpec,
    Plan,
    Planner,
    PlanningBudget,
    Rollout,
    SupportsDecode,
    SupportsInverse,
    WorldModel,
)
from .control.advance import advance

__all__ = ["check_model", "check_planner"]

_ROWS, _CANDIDATES, _HORIZON, _TOLERANCE = 3, 4, 2, 1e-3
_STOPPED = ("iterations", "rollouts", "seconds", "certain")


def check_model(model: WorldModel, observations: Mapping[str, Any] | None = None) -> None:
    """Check that a model keeps the contract of `wmkit.contracts.WorldModel`.

    Args:
        model: in the state it is planned with (evaluation mode).
        observations: arrays (3, T, ...) by key to encode, T = history; None draws them from the model's spec.

    Raises:
        ValueError: the first broken rule, in one line that names the model.
    """
    name = type(model).__name__
    _require(isinstance(model, WorldModel), name, "has no spec, encode or rollout")
    spec = model.spec
    _check_spec(name, spec)
    with torch.no_grad():
        latents = _check_encode(name, model, _observations(spec) if observations is None else observations)
        for steps in range(1, spec.history + 1):
            _check_rollout(name, model, _context(model, latents[:, -steps:]))
        _check_inverse(name, model, latents[:, -1])
    if isinstance(model, SupportsDecode):
        _require_error(name, "decode(latents, 'no such name')", lambda: model.decode(latents, "no such name"))


def check_planner(planner: Planner) -> None:
    """Check that a planner keeps the contract of `wmkit.contracts.Planner`.

    Args:
        planner: over a model that passes `check_model`; a small fast one will do.

    Raises:
        ValueError: the first broken rule, in one line that names the planner.
    """
    name = type(planner).__name__
    _require(isinstance(planner, Planner), name, "has no model, horizon or plan")
    model = planner.model
    with torch.no_grad():
        latents = model.encode(_observations(model.spec))
    context = _context(model, latents, goal=latents[:, 0])
    probe = _PlannerProbe(name, planner, context, _Distance(latents[:, 0]))
    probe.check_plan()
    probe.check_randomness()
    probe.check_rows()
    probe.check_warm_start()
    probe.check_budget()
    probe.check_costs()
    if not _is_stochastic(model, context):
        probe.check_imagination()


@dataclass(frozen=True)
class _Distance:
    """A plain objective: the squared distance of the last latent from a goal (B, D)."""

    goal: Tensor

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the distance (B, N)."""
        return (rollout.latents[:, :, -1] - self.goal[:, None]).square().sum(dim=-1)

    def select(self, rows: Tensor) -> "_Distance":
        """Return the objective of some rows."""
        return type(self)(self.goal[rows])


class _PartlyBroken(_Distance):
    """NaN for the candidates that would have the lowest costs, half of them."""

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the distance, NaN up to the median where there is more than one candidate."""
        cost = super().cost(rollout, actions)
        broken = (cost <= cost.median(dim=1, keepdim=True).values) & (cost.shape[1] > 1)
        return torch.where(broken, torch.nan, cost)


class _Broken(_Distance):
    """NaN for every candidate."""

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return NaN."""
        return torch.full_like(super().cost(rollout, actions), torch.nan)


@dataclass(frozen=True)
class _PlannerProbe:
    """One planner under test, and what it is asked to plan."""

    name: str
    planner: Planner
    context: Context
    objective: _Distance

    def plan(self, context: Context | None = None, objective: _Distance | None = None, **options: Any) -> Plan:
        """Plan from the same random numbers each time."""
        device = self.context.latents.device
        return self.planner.plan(
            self.context if context is None else context,
            self.objective if objective is None else objective,
            generator=torch.Generator(device).manual_seed(0),
            **options,
        )

    def check_plan(self) -> None:
        """Shapes, bounds, finiteness and metadata, at every horizon from 1 to the planner's own."""
        for horizon in (None, 1, self.planner.horizon):
            with _Unchanged(self.name, "plan", self.context):
                plan = self.plan(horizon=horizon)
            self._check_one(plan, self.planner.horizon if horizon is None else horizon)

    def _check_one(self, plan: Plan, horizon: int) -> None:
        spec, b = self.planner.model.spec, self.context.batch
        _check_tensor(self.name, "Plan.actions", plan.actions, (b, horizon, spec.block_size))
        _check_tensor(self.name, "Plan.cost", plan.cost, (b,))
        _check_tensor(self.name, "Plan.latents", plan.latents, (b, horizon, spec.latent_size))
        for item in ("actions", "cost", "latents"):
            _require(not getattr(plan, item).requires_grad, self.name, f"Plan.{item} carries a gradient; detach it")
        low, high = spec.bounds(plan.actions.device, plan.actions.dtype)
        inside = bool(((plan.actions >= low) & (plan.actions <= high)).all())
        _require(inside, self.name, "Plan.actions leaves the bounds of ModelSpec.action_low and action_high")
        _require(plan.stopped in _STOPPED, self.name, f"Plan.stopped is {plan.stopped!r}; expected one of {_STOPPED}")
        _require(plan.iterations >= 1 and plan.seconds > 0, self.name, "Plan.iterations or Plan.seconds is not above 0")

    def check_randomness(self) -> None:
        """The generator decides everything."""
        with torch.random.fork_rng(devices=[]):
            plans = []
            for seed in (1, 2):
                torch.manual_seed(seed)
                plans.append(self.plan().actions)
        _require(
            torch.equal(*plans), self.name, "plan draws random numbers from elsewhere than the generator it is given"
        )

    def check_rows(self) -> None:
        """A row's plan does not depend on what the other rows hold."""
        latents = self.context.latents.clone()
        latents[1:] = latents[1:].flip(0) * 0.5
        changed = replace(self.context, latents=latents)
        same = _close(self.plan().actions[:1], self.plan(changed).actions[:1])
        _require(same, self.name, "plan lets the rows of B influence each other")

    def check_warm_start(self) -> None:
        """A warm start of any length is taken and left as it is."""
        for length in (1, self.planner.horizon):
            warm = torch.zeros_like(self.plan().actions[:, :length])
            with _Unchanged(self.name, "plan", [warm]):
                self._check_one(self.plan(warm_start=warm), self.planner.horizon)

    def check_budget(self) -> None:
        """Every limit is kept and leaves a valid plan."""
        for budget in (PlanningBudget(seconds=1e-9), PlanningBudget(iterations=1), PlanningBudget(rollouts=1)):
            plan = self.plan(budget=budget)
            self._check_one(plan, self.planner.horizon)
            _require(
                plan.iterations == 1, self.name, f"plan ran {plan.iterations} iterations under {budget}; expected 1"
            )

    def check_costs(self) -> None:
        """A cost that is not finite never wins, and none but such is an error that names the model."""
        partly = self.plan(objective=_PartlyBroken(self.objective.goal))
        _require(bool(torch.isfinite(partly.cost).all()), self.name, "plan returns a cost that is not finite")
        named = type(self.planner.model).__name__
        _require_error(
            self.name, "plan without any finite cost", lambda: self.plan(objective=_Broken(self.objective.goal)), named
        )

    def check_imagination(self) -> None:
        """What the plan says of itself holds, in chunks and with pending actions too; for deterministic models."""
        whole = self.plan()
        with torch.no_grad():
            rollout = self.planner.model.rollout(self.context, whole.actions.unsqueeze(1))
            cost = self.objective.cost(rollout, whole.actions.unsqueeze(1))[:, 0]
        _require(_close(whole.latents, rollout.latents[:, 0]), self.name, "Plan.latents is not what the model imagines")
        _require(_close(whole.cost, cost), self.name, "Plan.cost is not the objective's cost of Plan.actions")
        chunked = self.plan(budget=PlanningBudget(bytes=1))
        _require(_close(whole.cost, chunked.cost), self.name, "plan gives another result under a limit of bytes")
        pending = replace(self.context, pending=whole.actions[:, :1] * 0.5)
        with torch.no_grad():
            ahead = advance(self.planner.model, pending)
        same = _close(self.plan(pending).cost, self.plan(ahead).cost)
        _require(same, self.name, "plan does not roll the pending actions out first")


def _check_spec(name: str, spec: ModelSpec) -> None:
    _require(isinstance(spec, ModelSpec), name, "spec is no wmkit.contracts.ModelSpec")
    low, high = spec.action_low, spec.action_high
    fits = len(low) == len(high) > 0 and all(a < b for a, b in zip(low, high, strict=False))
    _require(
        fits and all(map(math.isfinite, low + high)), name, f"spec has action bounds {low}, {high}; expected low < high"
    )
    for item in ("action_repeat", "history", "latent_size", "seconds_per_step"):
        _require(getattr(spec, item) > 0, name, f"spec.{item} is {getattr(spec, item)!r}; expected above 0")
    _require(len(spec.observations) > 0, name, "spec.observations names no key")


def _check_encode(name: str, model: WorldModel, observations: Mapping[str, Any]) -> Tensor:
    with _Unchanged(name, "encode", observations.values()):
        latents = model.encode(observations)
    _check_tensor(name, "encode", latents, (_ROWS, model.spec.history, model.spec.latent_size))
    _require(_close(latents, model.encode(observations)), name, "encode gives another result the second time")
    alone = model.encode({key: value[:1] for key, value in observations.items()})
    _require(
        _close(latents[:1], alone), name, "encode lets the rows of B influence each other; is it in training mode?"
    )
    return latents


def _check_rollout(name: str, model: WorldModel, context: Context) -> None:
    actions = _actions(model.spec, context)
    with _Unchanged(name, "rollout", [*_tensors(context), actions]):
        rollout = _rolled(model, context, actions)
    where = f"rollout with {context.latents.shape[1]} latents of history"
    _check_tensor(name, where, rollout.latents, (_ROWS, _CANDIDATES, _HORIZON, model.spec.latent_size))
    same = (rollout.latents.dtype, rollout.latents.device) == (context.latents.dtype, context.latents.device)
    _require(same, name, f"{where} gives {rollout.latents.dtype} on {rollout.latents.device}; expected those of encode")
    if rollout.uncertainty is not None:
        _check_tensor(name, f"{where}: uncertainty", rollout.uncertainty, (_ROWS, _CANDIDATES, _HORIZON))
        _require(bool((rollout.uncertainty >= 0).all()), name, f"{where}: uncertainty is below 0")
    for key, value in rollout.quantities.items():
        _check_tensor(name, f"{where}: quantity {key!r}", value[..., None].flatten(3)[..., 0], actions.shape[:3])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        again = _rolled(model, context, actions)
    _require(
        torch.equal(rollout.latents, again.latents),
        name,
        f"{where} draws random numbers from elsewhere than the generator",
    )
    if not _is_stochastic(model, context):
        _check_independence(name, where, model, context, actions, rollout.latents)


def _check_independence(
    name: str, where: str, model: WorldModel, context: Context, actions: Tensor, latents: Tensor
) -> None:
    order = torch.arange(_CANDIDATES, device=actions.device).flip(0)
    mixed = _rolled(model, context, actions[:, order]).latents[:, order]
    one = _rolled(model, context, actions[:, :1]).latents
    _require(
        _close(latents, mixed) and _close(latents[:, :1], one), name, f"{where} lets candidates influence each other"
    )
    first = torch.zeros(1, dtype=torch.long, device=actions.device)
    row = _rolled(model, context.select(first), actions[:1]).latents
    _require(_close(latents[:1], row), name, f"{where} lets the rows of B influence each other")
    short = _rolled(model, context, actions[:, :, :1]).latents
    _require(_close(latents[:, :, :1], short), name, f"{where} lets later actions change earlier latents")


def _check_inverse(name: str, model: WorldModel, latents: Tensor) -> None:
    if isinstance(model, SupportsInverse):
        actions = model.inverse(latents, latents.flip(0), torch.full((_ROWS,), 2, device=latents.device))
        _check_tensor(name, "inverse", actions, (_ROWS, model.spec.block_size))


def _observations(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Draw observations (3, history, ...) within the limits of the spec, at most 1 from 0 where there are none."""
    rng = np.random.default_rng(0)
    drawn = {}
    for key, item in spec.observations.items():
        low, high = max(item.low, -1.0) if item.low == -np.inf else item.low, 1.0 if item.high == np.inf else item.high
        drawn[key] = rng.uniform(low, high, (_ROWS, spec.history, *item.shape)).astype(item.dtype)
    return drawn


def _context(model: WorldModel, latents: Tensor, goal: Tensor | None = None) -> Context:
    """Return a context of the latents (B, T, D) with actions between them."""
    shape = (latents.shape[0], latents.shape[1] - 1, model.spec.block_size)
    return Context(latents, _drawn(model.spec, shape, latents), None, goal)


def _actions(spec: ModelSpec, context: Context) -> Tensor:
    return _drawn(spec, (_ROWS, _CANDIDATES, _HORIZON, spec.block_size), context.latents)


def _drawn(spec: ModelSpec, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Draw actions (..., A) within the bounds."""
    low, high = spec.bounds(like.device, like.dtype)
    unit = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(like)
    return low + (high - low) * unit


def _rolled(model: WorldModel, context: Context, actions: Tensor, seed: int = 0) -> Rollout:
    return model.rollout(context, actions, torch.Generator(actions.device).manual_seed(seed))


def _is_stochastic(model: WorldModel, context: Context) -> bool:
    """Whether another seed gives other latents."""
    with torch.no_grad():
        actions = _actions(model.spec, context)
        first, second = (_rolled(model, context, actions, seed).latents for seed in (0, 1))
    return not torch.equal(first, second)


def _tensors(context: Context) -> list[Tensor]:
    values = (getattr(context, item.name) for item in fields(context))
    return [value for value in values if value is not None]


class _Unchanged:
    """Checks that a call leaves its arrays and tensors as they are."""

    def __init__(self, name: str, call: str, inputs: "Context | Iterable[Any]") -> None:
        self._name, self._call = name, call
        self._inputs = _tensors(inputs) if isinstance(inputs, Context) else list(inputs)
        self._before = [torch.as_tensor(value).clone() for value in self._inputs]

    def __enter__(self) -> None:
        """Nothing to do: the copies are made."""

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Compare, unless the call failed."""
        if kind is None:
            same = all(torch.equal(torch.as_tensor(x), y) for x, y in zip(self._inputs, self._before, strict=True))
            _require(same, self._name, f"{self._call} changes its inputs in place")


def _check_tensor(name: str, what: str, value: Any, shape: tuple[int, ...]) -> None:
    _require(isinstance(value, Tensor), name, f"{what} is a {type(value).__name__}; expected a tensor")
    _require(
        tuple(value.shape) == tuple(shape), name, f"{what} has shape {tuple(value.shape)}; expected {tuple(shape)}"
    )
    _require(value.is_floating_point(), name, f"{what} has dtype {value.dtype}; expected a floating-point one")
    _require(bool(torch.isfinite(value).all()), name, f"{what} has values that are not finite")


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to rounding, which half precision has more of."""
    tolerance = _TOLERANCE if one.dtype in (torch.float32, torch.float64) else 0.05
    return one.shape == other.shape and torch.allclose(one.float(), other.float(), rtol=tolerance, atol=tolerance)


def _require_error(name: str, call: str, function: Any, mentioned: str = "") -> None:
    try:
        function()
    except ValueError as error:
        _require(mentioned in str(error), name, f"{call} raises {str(error)!r}, which does not name {mentioned}")
        return
    raise ValueError(f"{name}: {call} raises no ValueError")


def _require(kept: bool, name: str, rule: str) -> None:
    if not kept:
        raise ValueError(f"{name}: {rule}")
