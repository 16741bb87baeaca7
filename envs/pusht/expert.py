"""A scripted expert for PushT that plans straight pushes through the simulator.

It repeats three things. *Choose*: from points all round the block, simulate a straight push in a few directions near
the inward normal, and take the one whose best block pose is nearest to the goal for the time it takes to get there
and push. *Go*: move there by the shortest way round the block, at a distance from it. *Push*: at every step simulate
constant actions in directions and strengths near the chosen one from the state as it is, and execute the first step
of the best; when none brings the block closer, choose again. Distance to the goal is the mean distance of the block's
corners from where they should be. All plans start from the state observed, so noise on the executed actions is made
up for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .geometry import COVERAGE_THRESHOLD, BlockShape, as_goal, as_state, coverage, valid_state
from .navigation import clearance, shortest_path, to_local, to_world
from .physics import RELATIVE_REACH, World
from .variations import Variation, make_variation

__all__ = ["PushTExpert"]

_GAPS = (8.0, 2.0)
_PATIENCE = 40
_CRUISE = 70.0
_WALLS = (14.0, 497.0)
_UNREACHABLE = 100.0
_STEP_COST = 0.03
_PUSH_STEPS = 10
_LOOK_STEPS = 8
_SECOND_PUSHES = 12
_ANGLES = (-0.4, 0.0, 0.4)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Push:
    """A straight push: start and direction in the block's frame, action length, how many steps not to reconsider."""

    start: Array
    direction: Array
    strength: float
    committed: int


@dataclass(frozen=True)
class _Options:
    """M simulated pushes.

    Attributes:
        starts: the agent's first position in the block's frame, (M, 2).
        aims: directions in the block's frame, (M, 2).
        strengths: lengths of the relative action, (M,).
        states: (M, H, 10).
        reached: score of each state, (M, H), lower is better.
        cost: the best score of each push and the way to its start, (M,).
    """

    starts: Array
    aims: Array
    strengths: Array
    states: Array
    reached: Array
    cost: Array

    def push(self, index: int, committed: int) -> _Push:
        return _Push(self.starts[index], self.aims[index], float(self.strengths[index]), committed)


class PushTExpert:
    """Solves PushT with relative actions; see the module for how.

    Args:
        seed: of the small random shifts of the contact points.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._goal = np.zeros(3)
        self._variation = Variation()
        self._push: _Push | None = None
        self._arrived = False
        self._committed = 0
        self._patience = _PATIENCE
        self._gap = _GAPS[0]

    def reset(self, state: ArrayLike, goal: ArrayLike, variation: Mapping[str, Any] | Variation | None = None) -> None:
        """Begin an episode.

        Args:
            state: the start, (10,); not used beyond a check, since `act` is given every state.
            goal: block pose (3,) or state (10,); only the block counts.
            variation: the scene's variation, as given to the environment.
        """
        as_state(state)
        self._goal = as_goal(goal)[2:5]
        self._variation = variation if isinstance(variation, Variation) else make_variation(variation)
        self._push, self._arrived = None, False

    def act(self, state: ArrayLike) -> NDArray[np.float32]:
        """The next relative action (2,) in [-1, 1] for the state (10,)."""
        state = as_state(state)
        self._patience -= 1
        if self._patience < 0:
            self._push = None
        for _ in range(3):
            if self._push is None:
                self._push, self._arrived = self._choose(state), False
                self._patience = _PATIENCE
            if not self._arrived:
                action = self._go(state, self._push)
                if action is not None:
                    return action.astype(np.float32)
                self._arrived, self._committed = True, self._push.committed
            action = self._push_on(state, self._push)
            if action is not None:
                return action.astype(np.float32)
            self._push = None
        return self._rng.uniform(-0.3, 0.3, 2).astype(np.float32)

    @property
    def _shape(self) -> BlockShape:
        return self._variation.shape

    @property
    def _reach(self) -> float:
        """From the block to the agent's centre at the start of a push."""
        return self._variation.agent_radius + self._gap

    def _distance(self, poses: Array) -> Array:
        """Mean distance (...) of the block's corners at the poses (..., 3) from the goal, in px."""
        gap = self._shape.world_corners(poses) - self._shape.world_corners(self._goal)
        return np.sqrt((gap**2).sum(axis=-1)).mean(axis=(-2, -1))

    def _scores(self, states: Array, step_cost: float) -> Array:
        """Cost (M, H) of having reached each state of simulated pushes (M, H, 10); lower is better."""
        cost = np.log1p(self._distance(states[..., 2:5]))
        cost += step_cost * np.arange(states.shape[1])
        cost += 10.0 * ~valid_state(states, self._shape, margin=1.0)
        if cost.min() < 2.0:
            cost -= 5.0 * (coverage(states, self._goal, self._shape) > COVERAGE_THRESHOLD + 0.002)
        return cost

    def _choose(self, state: Array) -> _Push:
        """The best push, or, when none brings the block closer, the first of the best two in a row."""
        self._gap = _GAPS[0] if self._patience >= 0 else _GAPS[1]
        options = self._options(state)
        if options.cost.min() >= _UNREACHABLE:
            self._gap = _GAPS[1]
            options = self._options(state)
        best = int(options.cost.argmin())
        now = float(np.log1p(self._distance(state[2:5])))
        if options.reached[best].min() < now - 0.03:
            return options.push(best, 0)
        moved = np.abs(options.states[:, :, 2:5] - state[2:5]).max(axis=(1, 2)) > 3.0
        moved &= (options.cost < _UNREACHABLE) & valid_state(options.states[:, -1], self._shape, 0.0)
        tried = self._rng.permutation(np.flatnonzero(moved))[:_SECOND_PUSHES]
        if len(tried) == 0:
            return options.push(best, 2)
        second = [self._options(options.states[i, -1]).cost.min() for i in tried]
        return options.push(int(tried[int(np.argmin(second))]), _PUSH_STEPS)

    def _options(self, state: Array) -> _Options:
        """Simulate every push worth trying from a state."""
        pose = state[2:5]
        points, inward = self._candidates(pose)
        far = float(self._distance(pose))
        strengths = (0.5,) if far > 50 else (0.3,) if far > 20 else (0.2, 0.1) if far > 6 else (0.12, 0.06)
        angle, strength, index = (a.ravel() for a in np.meshgrid(_ANGLES, strengths, np.arange(len(points))))
        starts, inward = points[index], inward[index]
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        aims = cos * inward + sin * np.stack((-inward[:, 1], inward[:, 0]), axis=1)
        begin = np.tile(state, (len(starts), 1))
        begin[:, :2], begin[:, 5:] = to_world(starts, pose), 0.0
        actions = to_world(aims, np.array((0.0, 0.0, pose[2]))) * strength[:, None]
        states = self._simulate(begin, actions, _PUSH_STEPS)
        lengths, _ = shortest_path(to_local(state[:2], pose), points, self._shape, self._reach - 1, pose, _WALLS)
        reached = self._scores(states, _STEP_COST)
        cost = reached.min(axis=1) + np.minimum(_STEP_COST * lengths[index] / 30.0, 2 * _UNREACHABLE)
        return _Options(starts, aims, strength, states, reached, cost)

    def _candidates(self, pose: Array) -> tuple[Array, Array]:
        """Start points (M, 2) round the block and inward normals (M, 2), both in the block's frame."""
        reach = self._reach
        points, normals = [], []
        for corners in self._shape.corners:
            for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                edge = b - a
                length = float(np.linalg.norm(edge))
                count = max(2, round(length / 12))
                along = (np.arange(count) + 0.5 + self._rng.uniform(-0.3, 0.3, count)) / count
                normal = np.array((-edge[1], edge[0])) / length
                points.append(a + along[:, None] * edge - reach * normal)
                normals.append(np.tile(normal, (count, 1)))
        starts, inward = np.concatenate(points), np.concatenate(normals)
        world = to_world(starts, pose)
        free = (clearance(starts, self._shape) >= reach - 1e-6) & ((world > _WALLS[0]) & (world < _WALLS[1])).all(
            axis=1
        )
        return (starts[free], inward[free]) if free.any() else (starts, inward)

    def _go(self, state: Array, push: _Push) -> Array | None:
        """An action on the way to the push's start, or None on arrival."""
        pose, agent = state[2:5], state[:2]
        target = to_world(push.start, pose)
        away = target - agent
        if np.hypot(*away) < 7.0 + 0.02 * np.hypot(*state[5:7]):
            return None
        local = to_local(agent, pose)
        _, firsts = shortest_path(local, push.start[None], self._shape, self._reach - 1, pose, _WALLS)
        step = to_world(firsts[0], pose) - agent
        distance = float(np.hypot(*step))
        ahead = min(_CRUISE, max(distance, 8.0) * (1.5 if distance < 40 else 1.0))
        unit = step / max(distance, 1e-9)
        return np.clip(self._careful(state, unit * ahead / RELATIVE_REACH), -1.0, 1.0)

    def _careful(self, state: Array, action: Array) -> Array:
        """The action, or a slower one, or one that brakes or backs off, whichever first leaves the block alone."""
        away = state[:2] - to_world(np.array(self._shape.center_of_gravity), state[2:5])
        away /= max(float(np.hypot(*away)), 1e-9)
        brake = -0.1 * state[5:7] / RELATIVE_REACH
        options = np.stack(
            (action, 0.5 * action, 0.25 * action, brake, 0.3 * away, 2 * brake, 0.8 * away, away + brake)
        )
        after = self._simulate(np.tile(state, (len(options), 1)), np.clip(options, -1, 1), 2)[:, -1, 2:5]
        shift = np.abs(after - state[2:5]).max(axis=1)
        still = np.flatnonzero(shift < 0.05)
        return options[still[0] if len(still) else int(self._distance(after).argmin())]

    def _push_on(self, state: Array, push: _Push) -> Array | None:
        """The first action of the best way to go on, or None when none brings the block closer."""
        aim = to_world(push.direction, np.array((0.0, 0.0, state[4])))
        if self._committed > 0:
            self._committed -= 1
            return np.clip(push.strength * aim, -1.0, 1.0)
        base = np.arctan2(aim[1], aim[0])
        angles, factors = np.meshgrid((-0.8, -0.4, 0.0, 0.4, 0.8), (0.25, 0.5, 1.0, 1.6))
        angles, lengths = base + angles.ravel(), push.strength * factors.ravel()
        actions = np.stack((np.cos(angles), np.sin(angles)), axis=1) * lengths[:, None]
        states = self._simulate(np.tile(state, (len(actions), 1)), actions, _LOOK_STEPS)
        scores = self._scores(states, 0.01).min(axis=1)
        best = int(scores.argmin())
        if scores[best] > np.log1p(self._distance(state[2:5])) - 0.02:
            return None
        return np.clip(actions[best], -1.0, 1.0)

    def _simulate(self, starts: Array, actions: Array, steps: int) -> Array:
        """States (M, steps, 10) under actions (M, 2) held constant."""
        result = np.empty((len(starts), steps, starts.shape[1]))
        for i, (start, (ax, ay)) in enumerate(zip(starts, (RELATIVE_REACH * actions).tolist(), strict=True)):
            world = World(start, self._variation)
            x, y = start[:2].tolist()
            for t in range(steps):
                world.step(min(max(x + ax, 0.0), 512.0), min(max(y + ay, 0.0), 512.0))
                result[i, t] = state = world.read()
                x, y = state[:2]
        return result
