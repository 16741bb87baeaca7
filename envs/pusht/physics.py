"""PushT's physics on pymunk, number for number those of gym-pusht 0.1.8, and a simulator that rolls actions out.

Ten substeps of 0.01 s an environment step; the agent is a kinematic disc drawn to its target by a PD controller
(gains 100 and 20); the block has mass 1, no friction, and a damping of 0, so it moves only while it is pushed,
unless the variation "floor.slip" lets it slide on.
gym-pusht is https://github.com/huggingface/gym-pusht.

The substep loop calls pymunk's C functions without its Python wrappers, which is several times faster: a kinematic body
is moved by its velocity alone, so the loop keeps the agent's position itself and only hands over a velocity.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pymunk
from numpy.typing import ArrayLike, NDArray
from pymunk._chipmunk_cffi import ffi, lib

from .geometry import WORLD_SIZE, BlockShape, as_state
from .variations import Variation

__all__ = ["ACTION_MODES", "CONTROL_HZ", "RELATIVE_REACH", "PushTSimulator", "World", "targets"]

ACTION_MODES = ("relative", "absolute")
CONTROL_HZ = 10
RELATIVE_REACH = 100.0
"""Pixels from the agent to its target for a relative action of 1."""

_SUBSTEPS = 10
_DT = 0.01
_GAIN_POSITION = 100.0
_GAIN_VELOCITY = 20.0
_IDENTITY = ffi.new("struct cpTransform *", (1.0, 0.0, 0.0, 1.0, 0.0, 0.0))[0]
_WALLS = (((5, 506), (5, 5)), ((5, 5), (506, 5)), ((506, 5), (506, 506)), ((5, 506), (506, 506)))

Array = NDArray[np.float64]


def targets(action: ArrayLike, agent: ArrayLike, mode: str) -> Array:
    """The agent's targets (..., 2) in the world for actions (..., 2).

    Args:
        action: relative in [-1, 1], or absolute in [0, 512].
        agent: agent positions (..., 2).
        mode: "relative" or "absolute".
    """
    action = np.asarray(action, np.float64)
    if mode == "relative":
        action = np.asarray(agent, np.float64) + RELATIVE_REACH * action
    return np.clip(action, 0.0, WORLD_SIZE)


class World:
    """One scene: walls, agent and block in a pymunk space of its own.

    Contacts are remembered from step to step, so a scene set to another state must be a new `World`. Bodies are
    reindexed while at rest because the order in which contacts are solved, and with it the last digits, depends on
    the bounding boxes that the space has seen.

    Args:
        state: float64 (10,), set exactly.
        variation: sizes and shape of agent and block, and the floor's slip.
    """

    __slots__ = ("_agent", "_block", "_position", "_space", "_vector", "_velocity")

    def __init__(self, state: Array, variation: Variation) -> None:
        ax, ay, x, y, angle, avx, avy, vx, vy, spin = map(float, state)
        space, agent, block = _build(variation)
        lib.cpBodySetAngle(block, angle)
        lib.cpBodySetPosition(block, (x, y))
        lib.cpBodySetPosition(agent, (ax, ay))
        lib.cpSpaceReindexShapesForBody(space, agent)
        lib.cpSpaceReindexShapesForBody(space, block)
        lib.cpBodySetVelocity(block, (vx, vy))
        lib.cpBodySetAngularVelocity(block, spin)
        lib.cpBodySetVelocity(agent, (avx, avy))
        self._space, self._agent, self._block = space, agent, block
        self._position = ax, ay
        self._velocity = avx, avy
        self._vector: Any = ffi.new("struct cpVect *")

    def step(self, target_x: float, target_y: float) -> None:
        """Advance by one environment step (0.1 s) towards the target, in pixels."""
        (x, y), (vx, vy) = self._position, self._velocity
        space, agent, pointer = self._space, self._agent, self._vector
        vector = pointer[0]
        set_velocity, step = lib.cpBodySetVelocity, lib.cpSpaceStep
        for _ in range(_SUBSTEPS):
            vx += (_GAIN_POSITION * (target_x - x) - _GAIN_VELOCITY * vx) * _DT
            vy += (_GAIN_POSITION * (target_y - y) - _GAIN_VELOCITY * vy) * _DT
            x += vx * _DT
            y += vy * _DT
            vector.x = vx
            vector.y = vy
            set_velocity(agent, vector)
            step(space, _DT)
        self._position, self._velocity = (x, y), (vx, vy)

    def read(self) -> tuple[float, ...]:
        """The state as ten floats; the block's angle is not wrapped."""
        block = self._block
        position, velocity = lib.cpBodyGetPosition(block), lib.cpBodyGetVelocity(block)
        angle, spin = lib.cpBodyGetAngle(block), lib.cpBodyGetAngularVelocity(block)
        return (*self._position, position.x, position.y, angle, *self._velocity, velocity.x, velocity.y, spin)


class PushTSimulator:
    """The true dynamics without an environment: a state and actions in, states out.

    Args:
        action_mode: "relative" or "absolute", as in `PushTEnv`.
        variation: sizes and shape of agent and block, and the floor's slip.

    Raises:
        ValueError: for an unknown action mode.
    """

    def __init__(self, action_mode: str = "relative", variation: Variation | None = None) -> None:
        if action_mode not in ACTION_MODES:
            raise ValueError(f"unknown action_mode {action_mode!r}; choose from {', '.join(ACTION_MODES)}")
        self.action_mode = action_mode
        self.variation = variation or Variation()

    def rollout(self, state: ArrayLike, actions: ArrayLike) -> Array:
        """Simulate every candidate from its start state, each in a fresh space.

        Args:
            state: (10,) for one start, or (B, 10); lengths 5 and 7 mean that the missing velocities are zero.
            actions: (N, H, 2) for one start, or (B, N, H, 2), in the units of the action mode;
                clipped as in `PushTEnv`.

        Returns:
            float64 (N, H, 10) or (B, N, H, 10): the state after each action.

        Raises:
            ValueError: if the shapes do not fit.
        """
        start, actions = as_state(state), np.asarray(actions, np.float64)
        if actions.ndim != start.ndim + 2 or actions.shape[-1] != 2 or actions.shape[:-3] != start.shape[:-1]:
            raise ValueError(
                f"actions must be (N, H, 2) for a state (10,), or (B, N, H, 2) for states (B, 10); "
                f"got actions {actions.shape} and state {start.shape}"
            )
        actions = np.clip(actions, -1.0, 1.0) if self.action_mode == "relative" else actions
        flat = actions.reshape(-1, *actions.shape[-2:])
        starts = np.repeat(start.reshape(-1, start.shape[-1]), actions.shape[-3], axis=0)
        states = [self._roll(s, a) for s, a in zip(starts, flat, strict=True)]
        return np.array(states).reshape(*actions.shape[:-1], start.shape[-1])

    def _roll(self, state: Array, actions: Array) -> list[tuple[float, ...]]:
        """States after each of the actions (H, 2) from one state (10,)."""
        world, states = World(state, self.variation), []
        reach = RELATIVE_REACH if self.action_mode == "relative" else 1.0
        x, y = float(state[0]), float(state[1])
        for ax, ay in actions.tolist():
            base_x, base_y = (x, y) if self.action_mode == "relative" else (0.0, 0.0)
            world.step(_inside(base_x + reach * ax), _inside(base_y + reach * ay))
            states.append(world.read())
            x, y = states[-1][:2]
        return states


def _inside(value: float) -> float:
    return min(max(value, 0.0), WORLD_SIZE)


def _build(variation: Variation) -> tuple[Any, Any, Any]:
    """A space with walls, agent and block, added in gym-pusht's order, which fixes the order of contacts.

    The space owns the rest: all is freed with it.
    """
    space = lib.cpSpaceNew()
    lib.cpSpaceSetDamping(space, variation.floor_slip**CONTROL_HZ)
    agent, block = lib.cpBodyNewKinematic(), lib.cpBodyNew(1.0, _moment(variation.shape))
    lib.cpBodySetPosition(agent, (256.0, 400.0))
    lib.cpBodySetCenterOfGravity(block, variation.shape.center_of_gravity)
    lib.cpBodySetPosition(block, (256.0, 300.0))
    lib.cpSpaceAddBody(space, agent)
    lib.cpSpaceAddBody(space, block)
    static = lib.cpSpaceGetStaticBody(space)
    shapes = [lib.cpSegmentShapeNew(static, a, b, 2.0) for a, b in _WALLS]
    shapes.append(lib.cpCircleShapeNew(agent, variation.agent_radius, (0.0, 0.0)))
    shapes += [lib.cpPolyShapeNew(block, 4, corners, _IDENTITY, 0.0) for corners in _corners(variation.shape)]
    for shape in shapes:
        lib.cpSpaceAddShape(space, shape)

    def free(space: Any) -> None:
        lib.cpSpaceFree(space)
        for shape in shapes:
            lib.cpShapeFree(shape)
        lib.cpBodyFree(agent)
        lib.cpBodyFree(block)

    return ffi.gc(space, free), agent, block


@lru_cache(maxsize=64)
def _corners(shape: BlockShape) -> tuple[Any, ...]:
    return tuple(ffi.new("struct cpVect[]", [tuple(corner) for corner in one]) for one in shape.corners.tolist())


@lru_cache(maxsize=64)
def _moment(shape: BlockShape) -> float:
    """gym-pusht's moment of inertia: the first rectangle's, once for each rectangle."""
    first = [(float(x), float(y)) for x, y in shape.corners[0]]
    return len(shape.rectangles) * pymunk.moment_for_poly(1.0, first)
