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
from ..scene_checks import finite_actions, finite_numbers
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

__all__ = ["Engine", "load_ogbench", "shared_engine"]

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


class Engine:
    """OGBench's simulation of one cube, without a memory of its own: any number of scenes can share it.

    Threads take turns. A simulation that diverges shows as NaN; MuJoCo's warnings of it are neither printed nor logged.

    Raises:
        UserError: ogbench is not installed, or is another version than this one knows.
    """

    def __init__(self) -> None:
        self._mujoco = load_mujoco()
        from wmkit.mujoco_rollout import silent_warnings

        self._silent = silent_warnings
        self._env = load_ogbench("envs.cube_env").CubeEnv(
            env_type="single", ob_type="states", visualize_info=False, mode="data_collection"
        )
        self._env.reset(seed=0)
        self._model, self._data = self._env.model, self._env.data
        if (self._model.nq, self._model.nv) != (POSITIONS.stop, VELOCITIES.stop - VELOCITIES.start):
            raise UserError("this ogbench has another cube than wmkit knows: pip install 'ogbench>=1.2,<2'")
        self._model.opt.disableflags |= self._mujoco.mjtDisableBit.mjDSBL_AUTORESET
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

    def complete(self, numbers: ArrayLike, name: str = "state") -> Array:
        """Return a state (74,) from its own numbers, or from positions and velocities (41,).

        Raises:
            ValueError: another shape, or a number that is not finite; `name` says of what.
        """
        given = finite_numbers(name, numbers, (STATE_SIZE, SHORT_SIZE))
        if len(given) == STATE_SIZE:
            return given
        with self._lock:
            self._mujoco.mj_resetData(self._model, self._data)
            self._env.set_state(given[POSITIONS], given[VELOCITIES])
            return self._read()

    def with_cube(self, state: Array, place: Array) -> Array:
        """Return a state (74,) like another, with an upright cube at a place (3,) in metres."""
        moved = state[:SHORT_SIZE].copy()
        moved[CUBE], moved[CUBE_TURN] = place, (1.0, 0.0, 0.0, 0.0)
        return self.complete(moved)

    def advance(self, state: Array, action: Array) -> Array:
        """Return the state (74,) 0.05 s after a state (74,) under an action (5,), clipped to [-1, 1].

        It is all NaN where the state is not finite, or the simulation diverges.
        """
        if not np.isfinite(state).all():
            return np.full(STATE_SIZE, np.nan)
        with self._lock, self._silent():
            self._restore(state)
            self._env.step(np.clip(action, -1.0, 1.0).astype(np.float32))
            after = self._read()
        return after if np.isfinite(after).all() else np.full(STATE_SIZE, np.nan)

    def rollout(self, states: Array, actions: Array) -> Array:
        """Return the states (B, N, R, 74) after each of the actions (B, N, R, 5) from states (B, 74); see `advance`.

        Raises:
            ValueError: actions that are not finite, or of another shape.
        """
        executed = finite_actions(actions, (*actions.shape[:3], ACTION_SIZE))
        found = np.empty((*executed.shape[:3], STATE_SIZE))
        for row, candidate in np.ndindex(*executed.shape[:2]):
            state = states[row]
            for step, action in enumerate(executed[row, candidate]):
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
