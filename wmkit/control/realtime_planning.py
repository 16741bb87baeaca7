"""The planning side of a real-time loop: a request in, a plan out, in whichever thread or process that runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Context, ModelSpec
from .controller import Controller

__all__ = ["Goal", "PlanMaker", "Reply", "Request"]


@dataclass(frozen=True)
class Goal:
    """What to reach.

    Attributes:
        number: goals set so far; a plan for another number is out of date.
        observation: by key (...), of the goal.
    """

    number: int
    observation: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """All that one plan is made from; counts are of environment actions.

    Attributes:
        episode: resets so far.
        goal: what to reach; None for objectives without a goal.
        observations: (count, observation), oldest first, one model step apart; the last is the one to plan from.
        actions: (L, action_size), float32, sent from the first observation's count on until the plan starts.
        before: (action_size,), float32, sent before the last observation; None where there was none.
        start: count of the plan's first action.
        steps: environment steps that the goal was given, -1 for none.
        elapsed: how many of them are over at `start`.
    """

    episode: int
    goal: Goal | None
    observations: tuple[tuple[int, Mapping[str, Any]], ...]
    actions: np.ndarray
    before: np.ndarray | None
    start: int
    steps: int
    elapsed: int


@dataclass(frozen=True)
class Reply:
    """What became of a request.

    Attributes:
        actions: (L, action_size), float32, due from the request's `start` on; None after an error.
        seconds: of encoding and planning.
        error: what went wrong; None where there is a plan.
    """

    actions: np.ndarray | None
    seconds: float
    error: str | None = None


class PlanMaker:
    """Answers requests with a controller's planner; keeps what it encoded and its last plan.

    A request that fails leaves it ready for the next one.
    """

    def __init__(self, controller: Controller) -> None:
        """Take a controller that nothing else uses from now on.

        Raises:
            ValueError: it has a monitor, which would never be asked: plans are made here without `act`.
        """
        if controller.watch.monitor is not None:
            raise ValueError("a real-time controller asks no surprise monitor; give it a Controller without one")
        self._controller = controller
        self._latents: dict[tuple[int, int], Tensor] = {}
        self._goal = -1
        self._last: tuple[int, int, np.ndarray] | None = None

    @property
    def spec(self) -> ModelSpec:
        """The model's."""
        return self._controller.model.spec

    @property
    def reach(self) -> int:
        """Environment actions of a plan of full length."""
        return self._controller.planner.horizon * self.spec.action_repeat

    def __call__(self, request: Request) -> Reply:
        """Plan; whatever goes wrong is in the reply."""
        began = time.perf_counter()
        try:
            actions = self._plan(request)
        except Exception as error:
            self._last = None
            return Reply(None, time.perf_counter() - began, f"{type(error).__name__}: {error}")
        return Reply(actions, time.perf_counter() - began)

    def _plan(self, request: Request) -> np.ndarray:
        """Return actions (L, action_size)."""
        goal, controller = request.goal, self._controller
        if goal is not None and goal.number != self._goal:
            controller.set_goal(goal.observation)
            self._goal, self._last = goal.number, None
        left = controller.steps_left(np.array([request.steps]), request.elapsed)
        horizon = int(controller.horizon_for(left)[0])
        plan = controller.plan_from(self._context(request), warm_start=self._warm_start(request), horizon=horizon)
        actions = plan.actions[0].float().cpu().numpy().reshape(-1, self.spec.action_size)
        self._last = (request.episode, request.start, actions)
        return actions

    def _context(self, request: Request) -> Context:
        """Return the observations' latents, the actions between them, and those in flight."""
        latents = torch.stack([self._encoded(request.episode, *each) for each in request.observations], dim=1)
        repeat, counts = self.spec.action_repeat, [count for count, _ in request.observations]
        self._latents = {
            key: value for key, value in self._latents.items() if key[0] == request.episode and key[1] >= counts[0]
        }
        blocks = torch.from_numpy(request.actions).to(latents).reshape(1, -1, self.spec.block_size)
        between = (counts[-1] - counts[0]) // repeat
        last = None if request.before is None else torch.from_numpy(request.before).to(latents)[None]
        pending = blocks[:, between:] if blocks.shape[1] > between else None
        return replace(Context(latents, blocks[:, :between], pending), last_action=last)

    def _encoded(self, episode: int, count: int, observation: Mapping[str, Any]) -> Tensor:
        """Return the latent (1, D), encoded once."""
        key = (episode, count)
        if key not in self._latents:
            self._latents[key] = self._controller.encode(observation)
        return self._latents[key]

    def _warm_start(self, request: Request) -> Tensor | None:
        """Return the rest of the last plan (1, H, A), its last action repeated; None where nothing of it is left."""
        if self._last is None or not self._controller.warm_start:
            return None
        episode, start, actions = self._last
        past = request.start - start
        if episode != request.episode or not 0 <= past < len(actions):
            return None
        rest = actions[np.minimum(np.arange(past, past + self.reach), len(actions) - 1)]
        return torch.from_numpy(rest).reshape(1, -1, self.spec.block_size)
