"""TwoRoom as an ordinary Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from ..scene_env import first_row
from .env import Observation, ObservationType, TwoRoomVectorEnv

__all__ = ["TwoRoomEnv"]


class TwoRoomEnv(gymnasium.Env[Observation, npt.NDArray[Any]]):
    """One TwoRoom: a `TwoRoomVectorEnv` of one, with the batch axis taken off everything.

    Args:
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S, in pixels, 16 to 1024.
        door: "fixed" in the middle, or "random": drawn anew each episode from the range in `VARIATIONS`.
        cross_room: Draw start and goal in different rooms, outside the doorway.
        render_mode: None, "rgb_array", or "human" (a window; needs pygame).

    Raises:
        ValueError: If an argument is not one of its choices.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        obs_type: ObservationType = "pixels",
        image_size: int = 64,
        door: Literal["fixed", "random"] = "fixed",
        cross_room: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self._batch = TwoRoomVectorEnv(
            1, obs_type, image_size, door, cross_room, render_mode, None, AutoresetMode.DISABLED
        )
        self.render_mode = render_mode
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins a new episode; seed and options as in `TwoRoomVectorEnv.reset`."""
        super().reset(seed=seed)
        self._batch.np_random = self.np_random
        observation, info = self._batch.reset(options=options)
        return first_row(observation), first_row(info)

    def step(self, action: npt.NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves the agent by one environment step; action (2,) float, clipped to [-1, 1].

        Raises:
            ValueError: If the action has the wrong shape or is not finite, or `reset` was never called.
        """
        action = np.asarray(action, np.float64)
        if action.shape != (2,):
            raise ValueError(f"the action must have shape (2,); got {action.shape}")
        observation, reward, terminated, _, info = self._batch.step(action[None])
        return first_row(observation), float(reward[0]), bool(terminated[0]), False, first_row(info)

    def set_state(self, state: npt.ArrayLike) -> None:
        """Puts the agent at a free place (2,); goal, time and scene stay. Raises ValueError if it overlaps a wall."""
        self._batch.set_state(np.asarray(state, np.float64)[None])

    def set_variation(self, variation: Mapping[str, Any] | None) -> None:
        """Changes the scene from now on, until the next reset, as in `TwoRoomVectorEnv.set_variation`."""
        self._batch.set_variation(variation)

    def variation(self) -> dict[str, Any]:
        """The present variation, all names -> values."""
        return self._batch.variations()[0]

    def observe(self) -> Observation:
        """The observation of the present state, without a step."""
        return first_row(self._batch.observe())

    def info(self) -> dict[str, Any]:
        """The info of the present state, as a step would return it."""
        return first_row(self._batch.info())

    def render(self) -> npt.NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A frame for people, (224, 224, 3) uint8, without the goal; None if ``render_mode`` is not "rgb_array"."""
        frames = self._batch.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Closes the window, if one is open."""
        self._batch.close()
