"""OGBench's own cube environment as a function from state and action to the next state.

Nothing is simulated here: `Engine` puts a state into OGBench's `CubeEnv` ("cube-single", OGBench 1.2), calls its `step`
and reads the state back. A trajectory made in this way equals that of a `CubeEnv` left alone, bit for bit.
"""
# MuJoCo's and OGBench's modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import importlib
import importlib.util
import warnings
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wmkit.errors import UserError

from ..mujoco_support import load_mujoco
from .state import (
    ACCELERATIONS,
    ACTION_SIZE,
    CONTACT,
    CUBE,
    CUBE_TURN,
    HAND,
    HAND_ROTATION,
    POSITIONS,
    SHORT_SIZE,
    STATE_SIZE,
    VELOCITIES,
)

__all__ = ["Engine", "as_actions", "load_ogbench", "shared_engine"]

_FULL_CONTACT = 50.0
"""Newtons on a finger at which OGBench's contact reads 1."""
_PINCH, _PAD, _CUBE_JOINT = "ur5e/robotiq/pinch", "ur5e/robotiq/right_pad", "object_joint_0"

Array = NDArray[np.float64]


def load_ogbench(module: str) -> Any:
    """Import a module of ogbench.manipspace, e.g. "envs.cube_env".

    OGBench loads dm_control, which loads OpenGL where MUJOCO_GL says so, and Triton must have been imported before
    Mesa's software OpenGL; see `wmkit.envs.opengl`.

    Raises:
        UserError: ogbench, or something that it needs, is not installed or cannot be imported.
    """
    load_mujoco()
    if importlib.util.find_spec("ogbench") is None:
        raise UserError("OGBench's cube needs ogbench: pip install 'wmkit[ogbench]'")
    if importlib.util.find_spec("triton") is not None:
        importlib.import_module("triton")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of GLFW, where there is no display
            return importlib.import_module(f"ogbench.manipspace.{module}")
    except Exception as error:
        raise UserError(f"ogbench cannot be imported ({error}): pip install 'wmkit[ogbench]'") from error


def as_actions(actions: ArrayLike, count: int) -> NDArray[np.float32]:
    """Return actions (count, 5) as they are executed: float32, clipped to [-1, 1].

    Raises:
        ValueError: a wrong shape, or a value that is not finite.
    """
    found = np.asarray(actions, np.float32)
    if found.shape != (count, ACTION_SIZE) or not np.isfinite(found).all():
        raise ValueError(f"actions must be finite and of shape {(count, ACTION_SIZE)}, got {actions!r}")
    return np.clip(found, -1.0, 1.0)


class Engine:
    """OGBench's simulation of one cube, without a memory of its own: any number of scenes can share it.

    Threads take turns.

    Raises:
        UserError: ogbench is not installed, or is another version than this one knows.
    """

    def __init__(self) -> None:
        self._mujoco = load_mujoco()
        self._env = load_ogbench("envs.cube_env").CubeEnv(
            env_type="single", ob_type="states", visualize_info=False, mode="data_collection"
        )
        self._env.reset(seed=0)
        self._model, self._data = self._env.model, self._env.data
        if (self._model.nq, self._model.nv) != (POSITIONS.stop, VELOCITIES.stop - VELOCITIES.start):
            raise UserError("this ogbench has another cube than wmkit knows: pip install 'ogbench>=1.2,<2'")
        self._pinch, self._pad = self._model.site(_PINCH).id, self._model.body(_PAD).id
        self._lock = RLock()

    @property
    def env(self) -> Any:
        """OGBench's own environment, in whatever state it was left; for its oracles."""
        return self._env

    def draw(self, seed: int) -> tuple[Array, Array]:
        """Draw a start and a goal, each (74,), as OGBench does when it collects data.

        The hand, the cube and the cube's target are anywhere in the workspace. In the goal the cube is at its target
        and the hand somewhere else again, as in the goal observations of OGBench's tasks.
        """
        with self._lock:
            self._env.reset(seed=seed)
            start, target = self._read(), (self._data.mocap_pos[0].copy(), self._data.mocap_quat[0].copy())
            self._env.initialize_arm()
            cube = self._data.joint(_CUBE_JOINT)
            cube.qpos[:3], cube.qpos[3:] = target
            self._mujoco.mj_forward(self._model, self._data)
            return start, self._read()

    def complete(self, numbers: ArrayLike) -> Array:
        """Return a state (74,) from its own numbers, or from positions and velocities (41,).

        Raises:
            ValueError: another shape, or a number that is not finite.
        """
        given = np.array(numbers, np.float64)
        if given.shape not in ((STATE_SIZE,), (SHORT_SIZE,)) or not np.isfinite(given).all():
            raise ValueError(f"expected {STATE_SIZE} or {SHORT_SIZE} finite numbers, got shape {given.shape}")
        if len(given) == STATE_SIZE:
            return given
        with self._lock:
            self._mujoco.mj_resetData(self._model, self._data)
            self._env.set_state(given[POSITIONS], given[VELOCITIES])
            return self._read()

    def advance(self, state: Array, action: NDArray[np.float32]) -> Array:
        """Return the state (74,) 0.05 s after a state (74,) under an action (5,), float32 in [-1, 1]."""
        with self._lock:
            self._restore(state)
            self._env.step(action)
            return self._read()

    def rollout(self, states: Array, actions: Array) -> Array:
        """Return the states (B, N, R, 74) after each of the actions (B, N, R, 5) from states (B, 74)."""
        found = np.empty((*actions.shape[:-1], STATE_SIZE))
        for row, candidate in np.ndindex(*actions.shape[:2]):
            state = states[row]
            for step, action in enumerate(as_actions(actions[row, candidate], actions.shape[2])):
                found[row, candidate, step] = state = self.advance(state, action)
        return found

    def describe(self, state: Array, goal: Array) -> dict[str, Any]:
        """Return what OGBench's `info` says of a state (74,) when the cube's target is where it is in goal (74,)."""
        with self._lock:
            self._restore(state)
            self._data.mocap_pos[0], self._data.mocap_quat[0] = goal[CUBE], goal[CUBE_TURN]
            return self._env.compute_ob_info() | {"proprio/gripper_contact": state[CONTACT].copy()}

    def _read(self) -> Array:
        data = self._data
        contact = min(float(np.linalg.norm(data.cfrc_ext[self._pad])) / _FULL_CONTACT, 1.0)
        hand = (data.site_xpos[self._pinch], data.site_xmat[self._pinch])
        return np.concatenate((data.qpos, data.qvel, data.qacc_warmstart, *hand, [contact]))

    def _restore(self, state: Array) -> None:
        data = self._data
        self._mujoco.mj_resetData(self._model, data)
        data.qpos[:], data.qvel[:] = state[POSITIONS], state[VELOCITIES]
        data.qacc_warmstart[:] = state[ACCELERATIONS]
        data.site_xpos[self._pinch], data.site_xmat[self._pinch] = state[HAND], state[HAND_ROTATION]


@lru_cache(maxsize=1)
def shared_engine() -> Engine:
    """Return the one engine of this process; making it takes about a second. Raises UserError as `Engine` does."""
    return Engine()
