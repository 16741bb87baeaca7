"""The true simulator behind the contract of a world model: the latent is the state."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from wmkit import registry
from wmkit.contracts import Context, ModelSpec, Observations, ObservationSpec, Rollout
from wmkit.tasks import StateRollout, Task

if TYPE_CHECKING:
    import mujoco

__all__ = ["SimulatorModel", "StepFunction"]

StepFunction = Callable[[Tensor, Tensor], Tensor]
"""States (B, N, R, S) after each of R environment steps and their actions (B, N, R, E) -> a value of each (B, N, R)."""


class SimulatorModel:
    """A simulator as a world model: latents are states at the ends of model steps, D = S, observed under "state".

    Deterministic, with a history of one. What it knows beside its latents:

    - "state" (B, N, H, S): the latents, for objectives that name a quantity.
    - "reward" and "cost" (B, N, H): where a function is given, its mean over the environment steps of a model step.
    - "steps" (B, N, H, action_repeat, S): with `keep_steps`, the states after every environment step.
    - whatever else the rollout function returns, at the ends of model steps, e.g. MuJoCo's "sensors".

    Where a simulation diverges its states are NaN from there on, and so are its reward and cost, whatever the functions
    say of them: a planner then counts the candidate as not finite.

    Attributes:
        simulate: the rollout function.
    """

    def __init__(
        self,
        simulate: StateRollout,
        *,
        state_size: int,
        action_low: Sequence[float],
        action_high: Sequence[float],
        seconds_per_step: float,
        action_repeat: int = 1,
        reward: StepFunction | None = None,
        cost: StepFunction | None = None,
        keep_steps: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        """Create the model.

        Args:
            simulate: (states (B, S), actions (B, N, R, E) of R environment steps), both float64 -> the states after
                each (B, N, R, S); or a mapping with these under "state" and more arrays (B, N, R, ...) beside. It may
                return the same memory at every call.
            state_size: S.
            action_low: (E,), lower bounds of one environment action.
            action_high: (E,), upper bounds.
            seconds_per_step: seconds of one environment step.
            action_repeat: environment steps per model step.
            reward: of each environment step, higher is better; see `StepFunction`. Tensors are float64 on the CPU.
            cost: of each environment step, lower is better.
            keep_steps: whether rollouts carry the states of all environment steps.
            dtype: of latents and quantities; the simulation itself is float64.

        Raises:
            ValueError: a number out of range, or a dtype that is not floating point.
        """
        if state_size < 1 or action_repeat < 1 or not seconds_per_step > 0:
            given = f"{state_size}, {action_repeat} and {seconds_per_step}"
            raise ValueError(f"state_size, action_repeat and seconds_per_step must be above 0, not {given}")
        if not dtype.is_floating_point:
            raise ValueError(f"dtype is {dtype}; give a floating-point one")
        self.simulate = simulate
        self._functions = {name: f for name, f in (("reward", reward), ("cost", cost)) if f is not None}
        self._keep_steps = keep_steps
        self._dtype = dtype
        self._spec = ModelSpec(
            {"state": ObservationSpec((state_size,), "float64", -float("inf"), float("inf"))},
            tuple(map(float, action_low)),
            tuple(map(float, action_high)),
            action_repeat,
            1,
            state_size,
            seconds_per_step * action_repeat,
        )

    @classmethod
    def from_task(
        cls,
        task: Task | str,
        variation: Mapping[str, Any] | None = None,
        action_repeat: int | None = None,
        **options: Any,
    ) -> "SimulatorModel":
        """Return the simulator of an environment.

        Args:
            task: the environment, or its registered name.
            variation: the scene's variation, by name; None is the default scene.
            action_repeat: environment steps per model step; None takes the task's.
            options: reward, cost, keep_steps and dtype, as in `__init__`.

        Raises:
            ValueError: the environment has no simulator, or the variation is unknown.
        """
        found: Task = registry.load("environments", task) if isinstance(task, str) else task
        if found.simulator is None:
            raise ValueError(f"{found.name} has no simulator to plan through; its Task names none")
        return cls(
            found.simulator(dict(variation or {})),
            state_size=len(found.state),
            action_low=found.action_low,
            action_high=found.action_high,
            seconds_per_step=found.seconds_per_step,
            action_repeat=found.action_repeat if action_repeat is None else action_repeat,
            **options,
        )

    @classmethod
    def from_mujoco(
        cls,
        mj_model: "mujoco.MjModel",  # pyright: ignore[reportAttributeAccessIssue]
        *,
        control_seconds: float,
        action_repeat: int = 1,
        action_low: Sequence[float] | None = None,
        action_high: Sequence[float] | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> "SimulatorModel":
        """Return a MuJoCo model as a world model; see `wmkit.mujoco_rollout` for the state and for what is simulated.

        Args:
            mj_model: any model with actuators; it is copied.
            control_seconds: one environment step: how long a control is held, a whole multiple of the model's timestep.
            action_repeat: environment steps per model step.
            action_low: (nu,); None takes the actuators' control ranges.
            action_high: (nu,); None takes the actuators' control ranges.
            threads: that simulate; None takes all cores.
            options: reward, cost, keep_steps and dtype, as in `__init__`.

        Raises:
            ValueError: control_seconds is no multiple, or an actuator has no control range and no bounds are given.
        """
        from wmkit.mujoco_rollout import MujocoRollout, control_bounds

        low, high = control_bounds(mj_model, action_low, action_high)
        simulate = MujocoRollout(mj_model, control_seconds, threads)
        return cls(
            simulate,
            state_size=simulate.state_size,
            action_low=low,
            action_high=high,
            seconds_per_step=control_seconds,
            action_repeat=action_repeat,
            **options,
        )

    @classmethod
    def from_pretrained(cls, folder: Any) -> NoReturn:
        """Raise: a simulator has no weights to load."""
        raise ValueError(
            f"SimulatorModel has no weights and loads nothing from {folder}; use SimulatorModel.from_task(task) "
            "or SimulatorModel.from_mujoco(mj_model, control_seconds=...)"
        )

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        return self._spec

    def encode(self, observations: Observations) -> Tensor:
        """Return the states (B, T, S) under "state" as they are, in the model's dtype."""
        return torch.as_tensor(observations["state"]).to(self._dtype)

    def decode(self, latents: Tensor, name: str) -> Tensor:
        """Return the "state", which is the latent itself.

        Raises:
            ValueError: another name.
        """
        if name != "state":
            raise ValueError(f"unknown quantity {name!r}; known: state")
        return latents

    def rollout(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
        """Simulate candidates (B, N, H, A) from the contexts' last states; nothing is random."""
        b, n, h, _ = actions.shape
        repeat = self._spec.action_repeat
        moves = actions.detach().to("cpu", torch.float64).reshape(b, n, h * repeat, -1).contiguous()
        starts = context.latents[:, -1].detach().to("cpu", torch.float64).contiguous()
        found = self.simulate(starts.numpy(), moves.numpy())
        arrays = found if isinstance(found, Mapping) else {"state": found}
        steps = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self._check(steps["state"], moves)
        like = context.latents
        quantities = {name: _own(value[:, :, repeat - 1 :: repeat], like) for name, value in steps.items()}
        quantities |= {name: _own(value, like) for name, value in self._evaluate(steps["state"], moves).items()}
        if self._keep_steps:
            quantities["steps"] = _own(steps["state"].unflatten(2, (h, repeat)), like)
        return Rollout(quantities["state"], None, quantities)

    def _check(self, states: Tensor, moves: Tensor) -> None:
        expected = (*moves.shape[:3], self._spec.latent_size)
        if tuple(states.shape) != expected:
            raise ValueError(f"the simulator gave states {tuple(states.shape)}; expected (B, N, steps, S) = {expected}")

    def _evaluate(self, states: Tensor, moves: Tensor) -> dict[str, Tensor]:
        """Return the mean reward and cost (B, N, H) of the environment steps, NaN where the simulation diverged."""
        if not self._functions:
            return {}
        broken = ~torch.isfinite(states).all(dim=-1)
        means = {}
        for name, function in self._functions.items():
            values = function(states, moves)
            if values.shape != moves.shape[:3]:
                expected = tuple(moves.shape[:3])
                raise ValueError(f"the {name} function gave shape {tuple(values.shape)}; expected {expected}")
            values = values.to(torch.float64).masked_fill(broken, torch.nan)
            means[name] = values.unflatten(2, (-1, self._spec.action_repeat)).mean(dim=-1)
        return means


def _own(value: Tensor, like: Tensor) -> Tensor:
    """Copy a tensor out of the simulator's memory, to the device and dtype of another."""
    return value.to(like, copy=True).contiguous()
