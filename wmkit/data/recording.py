"""Recording one episode with an expert, with a trained proposal, or with smooth random actions.

What is recorded depends on the task: "success" and "goal_state" where it has goals, "reward" where it has rewards, and
the expert's "quality" where it knows several; "pixels" where they are observed.

The environment's seed, the policy's seed and the noise of an episode derive from (seed, index, attempt).

The policy "random" is a stationary first-order process, x' = 0.9 x + sqrt(1 - 0.9^2) e with e ~ N(0, 1), in units of
half the action range and clipped to the bounds, so that an action lasts for about ten steps. The policy "expert" adds
white noise, `noise` times half the action range, to the expert's actions and clips; recorded is what was executed.
The policy "proposal" does the same with the actions of a trained proposal (`wmkit.data.play`).
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import registry
from ..errors import UserError
from ..tasks import Task
from .metadata import ColumnSpec, Metadata
from .shards import Episode

if TYPE_CHECKING:
    from .play import ProposalPolicy

__all__ = ["POLICIES", "Recorder", "Settings", "load_task"]

POLICIES = ("expert", "random", "proposal")
"""Names of the policies."""

_ATTEMPTS = 50
_CORRELATION = 0.9


@dataclass(frozen=True)
class Settings:
    """What the episodes depend on, beside their index.

    Attributes:
        task: name in the registry, or "module:attribute" of a `Task`.
        policy: "expert", "random" or "proposal".
        noise: standard deviation of the noise on the expert's or proposal's actions, as a share of half the action
            range.
        seed: what all randomness derives from.
        linger: environment steps recorded after success.
        max_steps: longest episode, environment steps; None takes the task's.
        env: keywords for the environment.
        reward: for a task with rewards: the name of the one to collect; None takes the task's first.
        quality: for a task with qualities: the name of the expert's; None takes the task's first.
        proposal: for the policy "proposal": the folder of the proposal, or of a run that has one.
    """

    task: str
    policy: str = "expert"
    noise: float = 0.0
    seed: int = 0
    linger: int = 5
    max_steps: int | None = None
    env: Mapping[str, Any] = field(default_factory=dict)
    reward: str | None = None
    quality: str | None = None
    proposal: str | None = None

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UserError(f"unknown policy {self.policy!r}; known: {', '.join(POLICIES)}")
        if not (np.isfinite(self.noise) and self.noise >= 0) or self.linger < 0 or self.seed < 0:
            raise UserError(f"noise={self.noise}, linger={self.linger} and seed={self.seed} must be at least 0")
        if self.noise and self.policy == "random":
            raise UserError(
                f"noise={self.noise} goes with policy 'expert' or 'proposal'; 'random' has noise of its own"
            )
        if self.quality and self.policy != "expert":
            raise UserError(f"quality={self.quality!r} goes with policy 'expert'; {self.policy!r} has none")
        if (self.policy == "proposal") != (self.proposal is not None):
            raise UserError("the policy 'proposal' and the folder of a proposal go together; give both or neither")
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"max_steps={self.max_steps} must be at least 1")


class Recorder:
    """Makes the episodes of one task and one set of settings, one at a time, in one environment.

    Args:
        settings: what to record.

    Raises:
        UserError: the task, its reward or its quality is unknown, or the environment refuses its keywords.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task = load_task(settings.task)
        self._reward = _chosen(self._task, "reward", self._task.rewards, settings.reward)
        qualities = self._task.qualities if settings.policy == "expert" else {}
        self._quality = _chosen(self._task, "quality", qualities, settings.quality)
        self._max_steps = settings.max_steps or self._task.max_steps
        self._low = np.asarray(self._task.action_low, np.float32)
        self._high = np.asarray(self._task.action_high, np.float32)
        self._play = self._loaded() if settings.proposal is not None else None
        rewarded = {"task": self._reward} if self._reward else {}
        try:
            self._env = self._task.make(**({"obs_type": self._task.records} | rewarded | dict(settings.env)))
        except (TypeError, ValueError) as error:
            raise UserError(f"the environment {self._task.name} refuses {dict(settings.env)}: {error}") from error
        if self._env.action_space.shape != self._low.shape:
            raise UserError(
                f"with {dict(settings.env)} {self._task.name} takes actions {self._env.action_space.shape}, "
                f"and policies give {self._low.shape}; leave that option out"
            )

    def metadata(self, episodes: int, episodes_per_shard: int, version: str) -> Metadata:
        """Describe a store of `episodes` such episodes; resets the environment once to learn the shapes."""
        settings, task = self._settings, self._task
        return Metadata(
            task=task.name,
            env=dict(settings.env),
            episodes=episodes,
            episodes_per_shard=episodes_per_shard,
            seed=settings.seed,
            policy=settings.policy,
            noise=settings.noise,
            linger=settings.linger,
            max_steps=self._max_steps,
            seconds_per_step=task.seconds_per_step,
            action_low=tuple(map(float, task.action_low)),
            action_high=tuple(map(float, task.action_high)),
            action_repeat=task.action_repeat,
            columns=self._columns,
            scene=tuple(task.scene),
            wmkit=version,
            reward=self._reward,
            quality=self._quality,
            proposal=self._play.sha256 if self._play is not None else "",
        )

    def episode(self, index: int) -> Episode:
        """Record episode `index`; one that leaves the physics' domain is drawn anew, with "attempt" counted up.

        Raises:
            UserError: every attempt left the domain.
        """
        for attempt in range(_ATTEMPTS):
            columns = self._attempt(index, attempt)
            if np.isfinite(columns["state"]).all() and np.all(self._task.valid(columns["state"])):
                return Episode(index, columns)
        raise UserError(f"episode {index} of {self._task.name} left the physics' domain {_ATTEMPTS} times in a row")

    def _attempt(self, index: int, attempt: int) -> dict[str, np.ndarray]:
        """Record one attempt at an episode; name -> rows."""
        children = np.random.SeedSequence([self._settings.seed, index, attempt]).spawn(4)
        env_seed, policy_seed = (int(child.generate_state(1)[0] >> 1) for child in children[:2])
        observation, info = self._env.reset(seed=env_seed)
        scene = self._scene(info)
        quality = self._drawn_quality(np.random.default_rng(children[3]))
        act = self._policy(info, scene, policy_seed, quality, np.random.default_rng(children[2]))
        frames, states, successes = [_pixels(observation)], [_state(info)], [_success(info, False)]
        goal, actions, rewards = _goal(info), [], []
        left = None
        while len(actions) < self._max_steps and left != 0:
            action = act(states[-1].copy())
            observation, reward, terminated, truncated, info = self._env.step(action.copy())
            frames.append(_pixels(observation))
            states.append(_state(info))
            actions.append(action)
            rewards.append(float(reward))
            successes.append(_success(info, bool(terminated)))
            left = 0 if truncated else self._steps_left(left, bool(terminated))
        steps = {
            "pixels": np.stack(frames),
            "state": np.stack(states),
            "success": np.array(successes),
            "action": np.stack(actions),
            "reward": np.array(rewards),
        }
        episode = {"goal_state": goal, "quality": quality, "seed": env_seed, "attempt": attempt}
        found = steps | {name: np.asarray(value) for name, value in (episode | scene).items()}
        return {column.name: found[column.name] for column in self._columns}

    def _drawn_quality(self, random: np.random.Generator) -> float:
        """Draw the expert's quality for one episode; 1 where it knows only one, 0 for all other policies."""
        if not self._quality:
            return float(self._settings.policy == "expert")
        return float(random.uniform(*self._task.qualities[self._quality]))

    def _steps_left(self, left: int | None, terminated: bool) -> int | None:
        """Return how many steps to go on after success; None before it."""
        if left is not None:
            return left - 1
        return self._settings.linger if terminated else None

    def _policy(
        self,
        info: Mapping[str, Any],
        scene: Mapping[str, np.ndarray],
        seed: int,
        quality: float,
        random: np.random.Generator,
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return the episode's policy: state (S,) -> action (action_size,) float32, within the bounds."""
        low, high = self._low.astype(np.float64), self._high.astype(np.float64)
        middle, half = (low + high) / 2, (high - low) / 2
        if self._settings.policy == "random":
            smooth = _smooth_noise(len(low), random)
            return lambda state: self._clip(middle + half * smooth())
        if self._play is not None:
            self._play.reset(seed)
            return self._play.act
        more = (self._reward, quality) if self._reward else ()
        expert, std = self._task.expert(seed, *more), self._settings.noise * half
        expert.reset(_state(info), _goal(info), scene)
        return lambda state: self._clip(expert.act(state) + std * random.standard_normal(len(low)))

    def _loaded(self) -> "ProposalPolicy":
        """Return the proposal's policy, with noise."""
        from .play import ProposalPolicy, proposal_folder

        std = self._settings.noise * (self._high - self._low).astype(np.float64) / 2
        return ProposalPolicy(proposal_folder(str(self._settings.proposal)), self._task, std)

    def _clip(self, action: np.ndarray) -> np.ndarray:
        """Return an action as it is executed: float32, within the bounds."""
        return np.clip(np.asarray(action, np.float32), self._low, self._high)

    def _scene(self, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Read the scene's variations out of the info of a reset."""
        known = {**info.get("variation", {}), **info}
        missing = [name for name in self._task.scene if name not in known]
        if missing:
            raise UserError(
                f"info of {self._task.name} lacks {missing[0]!r}, which its Task names as part of the scene"
            )
        return {name: np.array(known[name], np.float64) for name in self._task.scene}

    @cached_property
    def _columns(self) -> tuple[ColumnSpec, ...]:
        """The columns; resets the environment once to learn the shapes."""
        observation, info = self._env.reset(seed=0)
        task, frame = self._task, _pixels(observation).shape
        labels, units = tuple(c.name for c in task.state), ", ".join(c.unit for c in task.state)
        state = (len(labels),)
        scene = [ColumnSpec(name, "episode", "float64", value.shape, "") for name, value in self._scene(info).items()]
        columns = (
            (len(frame) > 1, ColumnSpec("pixels", "frame", "uint8", frame, "0 to 255, RGB")),
            (True, ColumnSpec("state", "frame", "float64", state, units, labels)),
            (task.has_goals, ColumnSpec("success", "frame", "bool", (), "")),
            (True, ColumnSpec("action", "step", "float32", self._low.shape, "environment units")),
            (bool(task.rewards), ColumnSpec("reward", "step", "float64", (), "of the state that the step led to")),
            (task.has_goals, ColumnSpec("goal_state", "episode", "float64", state, units, labels)),
            (
                bool(task.qualities),
                ColumnSpec("quality", "episode", "float64", (), "of the policy, 0 random to 1 best"),
            ),
            (True, ColumnSpec("seed", "episode", "int64", (), "seed of the environment's reset")),
            (True, ColumnSpec("attempt", "episode", "int64", (), "earlier attempts that left the physics' domain")),
        )
        return (*(column for wanted, column in columns if wanted), *scene)


def load_task(name: str) -> Task:
    """Return a task by its name in the registry, or by "module:attribute".

    Raises:
        UserError: there is none of that name, or it is no `Task`.
    """
    if ":" not in name:
        return registry.load("environments", name)
    module, _, attribute = name.partition(":")
    try:
        task = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot load the task {name!r}: {error}") from error
    if not isinstance(task, Task):
        raise UserError(f"{name!r} is a {type(task).__name__}, expected a wmkit.tasks.Task")
    return task


def _chosen(task: Task, kind: str, known: Mapping[str, Any], name: str | None) -> str:
    """Return a name out of those known, the first by default; empty where there are none.

    Raises:
        UserError: the name is unknown.
    """
    if name is not None and name not in known:
        raise UserError(f"unknown {kind} {name!r} of {task.name}; known: {', '.join(known) or 'none'}")
    return next(iter(known), "") if name is None else name


def _pixels(observation: Any) -> np.ndarray:
    """Return the frame (S, S, 3) uint8 of an observation, a copy; empty (0,) where none is observed."""
    frame = observation.get("pixels", ()) if isinstance(observation, Mapping) else observation
    return np.array(frame, np.uint8)


def _goal(info: Mapping[str, Any]) -> np.ndarray:
    """Return the goal (S,) float64 of an info, a copy; empty (0,) where there is none."""
    return np.array(info.get("goal_state", ()), np.float64)


def _state(info: Mapping[str, Any]) -> np.ndarray:
    """Return the state (S,) float64 of an info, a copy."""
    return np.array(info["state"], np.float64)


def _success(info: Mapping[str, Any], terminated: bool) -> bool:
    """Return whether the environment calls this instant a success."""
    return bool(info.get("success", terminated))


def _smooth_noise(size: int, random: np.random.Generator) -> Callable[[], np.ndarray]:
    """Return a source of (size,) numbers with variance 1, each correlated with the one before."""
    value = random.standard_normal(size)

    def step() -> np.ndarray:
        nonlocal value
        value = _CORRELATION * value + np.sqrt(1 - _CORRELATION**2) * random.standard_normal(size)
        return value

    return step
