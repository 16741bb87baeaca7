"""MuJoCo's own multi-threaded rollouts as a simulator of states."""
# MuJoCo's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import copy
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
from mujoco.rollout import Rollout
from numpy.typing import NDArray

__all__ = ["MujocoRollout", "control_bounds", "silent_warnings"]

Array = NDArray[np.float64]

_FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS
_CONTROL = int(mujoco.mjtState.mjSTATE_CTRL)
_START_STEPS = 1000
"""Timesteps on the clock at every start; a simulation that MuJoCo resets is found by its clock, which begins at 0."""


class MujocoRollout:
    """Simulates candidates with `mujoco.rollout.Rollout`, on a pool of threads that lives as long as this object.

    The state (S,) is qpos, qvel and act, as in MuJoCo (quaternions as they are), and after them the history of delayed
    actuators and the state of plugins, where a model has any: all of `mjSTATE_FULLPHYSICS` but the time. Everything
    else that a step reads (mocap poses, applied forces, switched-off equalities) is as the model declares it. The
    solver starts cold, so that a rollout depends on nothing but state and controls.

    Where MuJoCo warns that the simulation diverged (and silently starts it anew), or stops it since its memory is
    full, the states are NaN from that control on. Those warnings are neither printed nor logged.

    Where the model has sensors, "sensors" comes with the states. As MuJoCo leaves them, they belong to the start of a
    control's last timestep: they are one timestep older than the state.

    Two calls from different threads take turns.

    Attributes:
        model: the simulator's own copy of the MuJoCo model; changes count from the next call on.
        state_size: S.
        substeps: timesteps of one control.
        threads: that simulate.
    """

    def __init__(self, model: mujoco.MjModel, control_seconds: float, threads: int | None = None) -> None:
        """Create the simulator and start its threads.

        Args:
            model: it is copied.
            control_seconds: how long one control is held.
            threads: how many; None takes all cores that this process may use.

        Raises:
            ValueError: control_seconds is no whole multiple of the model's timestep, or threads is below 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; give 1 or more, or None for all cores")
        self.model = copy.copy(model)
        self.model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        self.substeps = _substeps(control_seconds, model.opt.timestep)
        self.state_size = mujoco.mj_stateSize(self.model, int(_FULL)) - 1
        self.threads = threads or _cores()
        self._begin()

    def __call__(self, states: Array, actions: Array) -> dict[str, Array]:
        """Simulate every candidate.

        Args:
            states: (B, S) float64.
            actions: (B, N, R, nu) float64, R controls.

        Returns:
            "state" (B, N, R, S), after each control, and "sensors" (B, N, R, nsensordata) where the model has any.
            Both are views of memory that the next call from the same thread writes anew.

        Raises:
            ValueError: the shapes do not fit the model.
        """
        b, n, r, nu = actions.shape
        if states.shape != (b, self.state_size) or nu != self.model.nu:
            raise ValueError(
                f"got states {states.shape} and actions {actions.shape}; "
                f"expected (B, {self.state_size}) and (B, N, controls, {self.model.nu})"
            )
        with self._lock:
            full, sensors = self._simulate(states, actions)
        ends = full.reshape(b, n, r, self.substeps, -1)[:, :, :, -1]
        self._mark(ends)
        found = {"state": ends[..., 1:]}
        if self.model.nsensordata:
            found["sensors"] = sensors.reshape(b, n, r, self.substeps, -1)[:, :, :, -1]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave threads and buffers out of copies."""
        return {name: getattr(self, name) for name in ("model", "substeps", "state_size", "threads")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start threads of its own."""
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        """Start the threads, with one `mujoco.MjData` for each."""
        self._data = [mujoco.MjData(self.model) for _ in range(self.threads)]
        self._pool = Rollout(nthread=self.threads if self.threads > 1 else 0)
        self._close = weakref.finalize(self, self._pool.close)
        self._lock = threading.Lock()
        self._buffers = threading.local()

    def _simulate(self, states: Array, actions: Array) -> tuple[Array, Array]:
        """Return full states and sensor values after every timestep, (B * N, R * substeps, ...)."""
        b, n, r, nu = actions.shape
        rows, steps = b * n, r * self.substeps
        starts = self._buffer("starts", (b, n, self.state_size + 1))
        starts[..., 0] = _START_STEPS * self.model.opt.timestep
        starts[..., 1:] = states[:, None]
        controls = self._buffer("controls", (rows, r, self.substeps, nu))
        controls[:] = actions.reshape(rows, r, 1, nu)
        full = self._buffer("full", (rows, steps, self.state_size + 1))
        sensors = self._buffer("sensors", (rows, steps, self.model.nsensordata))
        with silent_warnings():
            self._pool.rollout(
                [self.model] * rows,
                self._data,
                starts.reshape(rows, -1),
                controls.reshape(rows, steps, nu),
                control_spec=_CONTROL,
                skip_checks=True,
                nstep=steps,
                state=full,
                sensordata=sensors,
            )
        return full, sensors

    def _mark(self, ends: Array) -> None:
        """Write NaN where the clock (first of each full state, (B, N, R, ...)) is not where it should be."""
        seconds = self.model.opt.timestep
        clock = seconds * (_START_STEPS + self.substeps * np.arange(1, ends.shape[2] + 1))
        broken = np.abs(ends[..., 0] - clock) > seconds / 2
        if broken.any():
            ends[broken] = np.nan

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return memory of a shape, from the last call where that is large enough."""
        size = int(np.prod(shape))
        known = self._buffers.__dict__
        if name not in known or known[name].size < size:
            known[name] = np.empty(size)
        return known[name][:size].reshape(shape)


def control_bounds(
    model: mujoco.MjModel, low: Sequence[float] | None = None, high: Sequence[float] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the bounds of a model's controls, each (nu,): those given, else the actuators' control ranges.

    Raises:
        ValueError: the model has no actuators; an actuator has no control range; the bounds do not fit the actuators.
    """
    if model.nu == 0:
        raise ValueError("the MuJoCo model has no actuators, so there is nothing to plan")
    if (low is None) != (high is None):
        raise ValueError("give both action_low and action_high, or neither")
    if low is not None and high is not None:
        if len(low) != model.nu or len(high) != model.nu:
            raise ValueError(f"{len(low)} lower and {len(high)} upper bounds do not fit the {model.nu} actuators")
        return tuple(map(float, low)), tuple(map(float, high))
    free = [model.actuator(i).name or f"number {i}" for i in np.flatnonzero(~model.actuator_ctrllimited.astype(bool))]
    if free:
        raise ValueError(
            f"no control range in the MuJoCo model for actuator {', '.join(free)}; give action_low and action_high"
        )
    ranges = model.actuator_ctrlrange
    return tuple(ranges[:, 0].tolist()), tuple(ranges[:, 1].tolist())


def _substeps(control_seconds: float, timestep: float) -> int:
    """Return the timesteps of one control."""
    ratio = control_seconds / timestep
    if not 0.5 < ratio < np.inf or abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise ValueError(
            f"control_seconds is {control_seconds:g}, which is no whole multiple of the MuJoCo model's timestep, "
            f"{timestep:g}; change either"
        )
    return round(ratio)


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Silence:
    """MuJoCo's warnings go to one function of the whole process; this replaces it while any rollout runs."""

    lock = threading.Lock()
    running = 0
    before: Any = None


@contextmanager
def silent_warnings() -> Iterator[None]:
    """Neither print nor log MuJoCo's warnings, of any thread of this process."""
    with _Silence.lock:
        if _Silence.running == 0:
            _Silence.before = mujoco.get_mju_user_warning()
            mujoco.set_mju_user_warning(_ignore)
        _Silence.running += 1
    try:
        yield
    finally:
        with _Silence.lock:
            _Silence.running -= 1
            if _Silence.running == 0:
                mujoco.set_mju_user_warning(_Silence.before)


def _ignore(text: str) -> None:
    """Swallow a warning."""
