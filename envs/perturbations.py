"""Perturbations of any environment, switched on and off by name and strength in the middle of an episode.

    env = PerturbedVectorEnv(task.make_vector(num_envs=8, obs_type="pixels", image_size=64), task)
    env.reset()
    env.switch("weak-actuator", 0.5)
    env.switch("teleport", 1.0, mask=rows_to_be_moved)

While nothing is on, actions and observations pass through untouched. What can be perturbed depends on the environment:
`names` lists it. Without a `wmkit.tasks.Task`, that is what concerns actions and observations alone, for any
environment whose observations are a dict of arrays.

The order is that of a robot: actions are delayed, then amplified, then weakened; pictures get their lighting and
occlusion, then all sensors their noise; then a frame may freeze, then be dropped. `info` always tells the truth.

Random numbers depend on the seed, the row, how many episodes the row has begun since it was seeded, and what was
switched in this one, but not on the other rows: row i of a batch seeded with s does what one environment seeded with
s + i does. `reset(seed=...)` seeds the perturbations too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

from wmkit.errors import UserError
from wmkit.tasks import Task

from .perturbations_rows import PERTURBATIONS, Rows

__all__ = ["PERTURBATIONS", "PerturbedEnv", "PerturbedVectorEnv"]


class PerturbedVectorEnv(gymnasium.vector.VectorWrapper):
    """A batch of B environments with perturbations; see the module.

    Options of `reset`, "reset_mask" among them, go to the environments; what is on is turned off in the rows reset.
    `set_state`, `set_variation`, `variations`, `observe` and `info` are those of the environments, and what `observe`
    returns is perturbed as a step's observation is.

    Args:
        env: made with autoreset disabled, as `Task.make_vector` does.
        task: what the environments are; None for others than wmkit's.
        seed: of row 0; row i has the seed plus i.

    Raises:
        UserError: the environments restart by themselves, or their observations are no dict.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv, task: Task | None = None, seed: int = 0) -> None:
        super().__init__(env)
        if env.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
            raise UserError("PerturbedVectorEnv needs environments with autoreset disabled; make them with make_vector")
        self._scene: Any = env.unwrapped
        spaces = env.single_observation_space, env.single_action_space
        self._rows = Rows(self._scene, task, spaces, env.num_envs, seed)

    @property
    def names(self) -> tuple[str, ...]:
        """The perturbations that these environments support."""
        return self._rows.names

    @property
    def active(self) -> tuple[dict[str, float], ...]:
        """For each of B rows, what is on: name -> strength."""
        return self._rows.active

    def switch(
        self, name: str, strength: float = 0.5, mask: ArrayLike | None = None, actuator: int | None = None
    ) -> None:
        """Turn a perturbation on from now on; a strength of 0 turns it off. Teleports happen at once, and once.

        Args:
            name: one of `names`.
            strength: in [0, 1]; see `PERTURBATIONS`.
            mask: (B,) bool, in which rows; by default in all.
            actuator: which number of the action "weak-actuator" concerns; None for all.

        Raises:
            UserError: an unknown name, or one that is not supported here; the text lists the others.
            ValueError: a strength, mask or actuator out of range, or no reset before.
        """
        self._rows.switch(name, strength, mask, actuator)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes without perturbations; `seed` also seeds the perturbations of the rows reset."""
        mask = (options or {}).get("reset_mask")
        environments: Any = self.env
        observation, info = environments.reset(seed=seed, options=dict(options) if options else None)
        self._rows.reset(mask, seed)
        return self._rows.sense(observation), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        observation, *rest = self.env.step(self._rows.act(actions))
        return self._rows.sense(observation), *rest  # pyright: ignore[reportReturnType]

    def observe(self) -> dict[str, NDArray[Any]]:
        """The observation of the present states, perturbed, without a step."""
        return self._rows.sense(self._scene.observe())

    def info(self) -> dict[str, Any]:
        """The info of the present states."""
        return self._scene.info()

    def set_state(self, states: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Put things elsewhere; see the environments."""
        self._scene.set_state(states, mask)

    def set_variation(self, variation: Any, mask: ArrayLike | None = None) -> None:
        """Change the scenes; see the environments. Switching what is a variation overwrites it."""
        self._scene.set_variation(variation, mask)

    def variations(self) -> list[dict[str, Any]]:
        """The present variation of each environment, all names -> values."""
        return self._scene.variations()


class PerturbedEnv(gymnasium.Wrapper):
    """One environment with perturbations: row 0 of a `PerturbedVectorEnv`, without the axis B.

    Args:
        env: the environment.
        task: what it is; None for others than wmkit's.
        seed: of the perturbations.

    Raises:
        UserError: its observations are no dict.
    """

    def __init__(self, env: gymnasium.Env, task: Task | None = None, seed: int = 0) -> None:
        super().__init__(env)
        self._scene: Any = env.unwrapped
        spaces = env.observation_space, env.action_space
        self._rows = Rows(_OneScene(self._scene), task, spaces, 1, seed)

    @property
    def names(self) -> tuple[str, ...]:
        """The perturbations that this environment supports."""
        return self._rows.names

    @property
    def active(self) -> dict[str, float]:
        """What is on: name -> strength."""
        return self._rows.active[0]

    def switch(self, name: str, strength: float = 0.5, actuator: int | None = None) -> None:
        """Turn a perturbation on from now on; see `PerturbedVectorEnv.switch`."""
        self._rows.switch(name, strength, None, actuator)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode without perturbations; `seed` also seeds the perturbations."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._rows.reset(None, seed)
        return self._sense(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        sent = self._rows.act(np.asarray(action)[None])[0]
        observation, *rest = self.env.step(sent)
        return self._sense(observation), *rest  # pyright: ignore[reportReturnType]

    def observe(self) -> dict[str, Any]:
        """The observation of the present state, perturbed, without a step."""
        return self._sense(self._scene.observe())

    def info(self) -> dict[str, Any]:
        """The info of the present state."""
        return self._scene.info()

    def set_state(self, state: ArrayLike) -> None:
        """Put things elsewhere; see the environment."""
        self._scene.set_state(state)

    def set_variation(self, variation: Any) -> None:
        """Change the scene; see the environment."""
        self._scene.set_variation(variation)

    def variation(self) -> dict[str, Any]:
        """The present variation, all names -> values."""
        return self._scene.variation()

    def _sense(self, observation: Mapping[str, Any]) -> Any:
        """Return the perturbed observation; the same object while nothing is on."""
        batch = {key: np.asarray(value)[None] for key, value in observation.items()}
        sensed = self._rows.sense(batch)
        return observation if sensed is batch else {key: value[0] for key, value in sensed.items()}


class _OneScene:
    """One environment as `Rows` sees a batch."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def set_state(self, states: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
        self._env.set_state(states[0])

    def set_variation(self, variations: Sequence[Mapping[str, Any]], mask: NDArray[np.bool_]) -> None:
        self._env.set_variation(variations[0])

    def variations(self) -> list[Mapping[str, Any]]:
        return [self._env.variation()]

    def info(self) -> dict[str, Any]:
        return {"state": self._env.info()["state"][None]}
