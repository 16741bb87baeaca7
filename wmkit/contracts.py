"""The contracts between models, proposals, objectives, planners and controllers.

Axis letters, used in every docstring of wmkit:

- **B** environments side by side
- **N** candidate plans
- **T** history steps
- **H** horizon in model steps
- **A** action numbers per model step: environment action size times action repeat
- **D** latent size
- **K** ensemble members
- **P** model steps already sent to the robot and not yet executed

A *model step* covers `ModelSpec.action_repeat` environment steps. Actions in contracts are in environment units,
flattened in time order: the first `action_size` of A numbers are executed first. Tensors are floating point on one
device; a model chooses its dtype.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = [
    "Context",
    "ModelSpec",
    "Objective",
    "Observations",
    "ObservationSpec",
    "Plan",
    "Planner",
    "PlanningBudget",
    "Proposal",
    "Rollout",
    "SupportsDecode",
    "SupportsInverse",
    "SupportsLikelihood",
    "SupportsReference",
    "WorldModel",
]

Observations = Mapping[str, Any]
"""Arrays or tensors by observation key, each (B, T, ...) or, for one instant, (B, 1, ...)."""


@dataclass(frozen=True)
class ObservationSpec:
    """One observation key of a model.

    Attributes:
        shape: shape of one observation without B and T, e.g. (64, 64, 3).
        dtype: NumPy name of the dtype, e.g. "uint8".
        low: smallest allowed value.
        high: largest allowed value.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float


@dataclass(frozen=True)
class ModelSpec:
    """What a model takes and gives.

    Attributes:
        observations: the keys that `encode` reads.
        action_low: (action_size,), lower bounds of one environment action, environment units.
        action_high: (action_size,), upper bounds of one environment action, environment units.
        action_repeat: environment steps per model step.
        history: T, the most latents that `rollout` looks back on.
        latent_size: D.
        seconds_per_step: seconds of one model step.
    """

    observations: Mapping[str, ObservationSpec]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    action_repeat: int
    history: int
    latent_size: int
    seconds_per_step: float

    @property
    def action_size(self) -> int:
        """Numbers of one environment action."""
        return len(self.action_low)

    @property
    def block_size(self) -> int:
        """A, numbers of the actions of one model step."""
        return self.action_size * self.action_repeat

    def bounds(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper bound of one model step's actions, each (A,)."""
        low = torch.tensor(self.action_low * self.action_repeat, device=device, dtype=dtype)
        return low, torch.tensor(self.action_high * self.action_repeat, device=device, dtype=dtype)


@dataclass(frozen=True)
class Context:
    """What a model starts a rollout from.

    Attributes:
        latents: (B, T, D), oldest first; T is at least 1 and at most the model's history.
        actions: (B, T-1, A), executed between the latents.
        pending: (B, P, A), sent but not yet executed, oldest first; None means P = 0.
        goal: (B, D), latent of the goal, for goal-conditioned proposals; None without a goal.
        last_action: (B, action_size), the environment action before those that are planned, for limits on how fast
            actions may change; None where there was none.
    """

    latents: Tensor
    actions: Tensor
    pending: Tensor | None = None
    goal: Tensor | None = None
    last_action: Tensor | None = None

    @property
    def batch(self) -> int:
        """B."""
        return self.latents.shape[0]

    def select(self, rows: Tensor) -> "Context":
        """Return the context of the given rows of B, an index (R,) or a mask (B,)."""
        others = (None if x is None else x[rows] for x in (self.pending, self.goal, self.last_action))
        return Context(self.latents[rows], self.actions[rows], *others)


@dataclass(frozen=True)
class Rollout:
    """What a model imagines.

    Attributes:
        latents: (B, N, H, D), predicted; latents[:, :, h] follows the h-th action block. A stochastic model gives one
            draw per candidate, an ensemble the mean of its members.
        uncertainty: (B, N, H), zero or more, in the model's own unit; None where the model has none.
        quantities: named tensors (B, N, H, ...) that the model knows beside its latents, e.g. a simulator's "state" and
            "reward", or an ensemble's "members" (B, N, H, K, D).
    """

    latents: Tensor
    uncertainty: Tensor | None = None
    quantities: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class WorldModel(Protocol):
    """Any dynamics: JEPA, diffusion, simulator, ensemble.

    `encode` turns observations into latents; for a simulator the latent is its flattened state. A model whose state is
    more than one frame's latent filters `context.latents` and `context.actions` inside `rollout`.
    """

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        ...

    def encode(self, observations: Observations) -> Tensor:
        """Encode observations of `spec.observations`, each (B, T, ...), into latents (B, T, D)."""
        ...

    def rollout(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
        """Imagine what follows `context` under each candidate.

        Args:
            context: B contexts; `pending` is empty or None (`wmkit.control.advance` rolls it out beforehand).
            actions: (B, N, H, A), within the bounds, environment units.
            generator: source of all randomness; a deterministic model ignores it. Candidates do not influence each
                other.
        """
        ...


@runtime_checkable
class SupportsDecode(Protocol):
    """A model that reads named quantities out of its latents, e.g. a robot's pose for a reward function."""

    def decode(self, latents: Tensor, name: str) -> Tensor:
        """Decode (..., D) into the quantity `name`, (..., size). Raises ValueError with the list of known names."""
        ...


@runtime_checkable
class SupportsInverse(Protocol):
    """A model with a goal-conditioned inverse dynamics."""

    def inverse(self, latents: Tensor, goals: Tensor, steps: Tensor) -> Tensor:
        """Return the actions (..., A) of the next model step that lead from latents to goals, both (..., D).

        `steps` (...), at least 1, is how many model steps remain to the goal.
        """
        ...


@runtime_checkable
class Objective(Protocol):
    """A cost of imagined futures, lower is better."""

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return (B, N), the cost of each candidate from its rollout and actions (B, N, H, A)."""
        ...

    def select(self, rows: Tensor) -> "Objective":
        """Return the objective of the given rows of B, an index (R,) or a mask (B,)."""
        ...


@runtime_checkable
class Proposal(Protocol):
    """A source of candidate plans."""

    def propose(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        """Return n candidates (B, n, H, A) for each context, within the bounds, environment units."""
        ...


@runtime_checkable
class SupportsReference(Protocol):
    """A model whose `rollout` may be an approximation, for speed, of one that it can also compute exactly."""

    def reference_rollout(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
        """Imagine as `WorldModel.rollout` does, in the weights' own precision and without shortcuts."""
        ...


@runtime_checkable
class SupportsLikelihood(Protocol):
    """A proposal that says how much a plan is like those it would propose."""

    def log_likelihood(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (B,), in nats per model step and up to a constant of the proposal; higher is more expected.

        Args:
            context: B contexts.
            actions: (B, H, A), environment units, one plan for each context.
            generator: source of all randomness; None gives the same value for the same arguments at every call.

        Raises:
            ValueError: shapes that do not fit, or a horizon that the proposal is not for.
        """
        ...


@dataclass(frozen=True)
class PlanningBudget:
    """How much one decision may cost; None means no limit.

    Attributes:
        seconds: wall time of `Planner.plan`.
        iterations: refinements of the candidates.
        rollouts: candidates rolled out for one environment, over all iterations.
        bytes: memory for the candidates rolled out at once.
    """

    seconds: float | None = None
    iterations: int | None = None
    rollouts: int | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "iterations", "rollouts", "bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"PlanningBudget.{name} is {value!r}; give a number above 0, or None for no limit")


@dataclass(frozen=True)
class Plan:
    """What a planner decided.

    Attributes:
        actions: (B, H, A), within the bounds, environment units.
        cost: (B,), the planner's estimate for `actions`.
        latents: (B, H, D), what the model imagines under the best candidate.
        iterations: refinements done, of the row that had most.
        seconds: wall time of the decision.
        stopped: why it stopped: "iterations", "rollouts", "seconds", or "certain" where every row was.
        non_finite: candidates whose cost was not finite, over all iterations.
        row_iterations: (B,), integer, refinements of each row; None where all had as many.
        certain: (B,), bool, rows that stopped because their first action had settled; None where none was watched.
        candidates: (B, E, H, D), what the model imagines under the E cheapest candidates that the search last tried,
            cheapest first, the last one repeated where it tried fewer; None where the planner keeps none.
    """

    actions: Tensor
    cost: Tensor
    latents: Tensor
    iterations: int
    seconds: float
    stopped: str
    non_finite: int = 0
    row_iterations: Tensor | None = None
    certain: Tensor | None = None
    candidates: Tensor | None = None

    def shifted(self, steps: int) -> Tensor:
        """Return the actions (B, H, A) moved `steps` model steps ahead, the last one repeated: a warm start."""
        kept = self.actions[:, steps:]
        tail = self.actions[:, -1:].expand(-1, self.actions.shape[1] - kept.shape[1], -1)
        return torch.cat([kept, tail], dim=1)


@runtime_checkable
class Planner(Protocol):
    """Turns a context and an objective into a plan."""

    @property
    def model(self) -> WorldModel:
        """The model that is planned through."""
        ...

    @property
    def horizon(self) -> int:
        """H of a plan, unless the call says otherwise."""
        ...

    def plan(
        self,
        context: Context,
        objective: Objective,
        warm_start: Tensor | None = None,
        budget: PlanningBudget | None = None,
        *,
        horizon: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Plan for each of the B contexts.

        Args:
            context: where to plan from.
            objective: what to minimise, for the same B.
            warm_start: (B, H, A), a first guess; None starts from the proposal or from rest.
            budget: limits of this decision; None takes the planner's own settings.
            horizon: H of this plan; None takes the planner's own.
            generator: source of all randomness; None takes the planner's own.

        Raises:
            ValueError: shapes that do not fit, or no candidate with a finite cost (the text names the model).
        """
        ...
