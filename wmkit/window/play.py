"""What happens in the window: a controller plays towards goals, and a person interferes."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..contracts import Context
from ..evaluation.manifest import Pair
from ..tasks import Playground, Task
from .goals import CYCLE, Goals, GoalScene
from .planning import ReactionSwitch, ReadOut, Track, following
from .scene import Scene
from .snapshot import Command, Snapshot

if TYPE_CHECKING:
    from ..control.controller import Controller

__all__ = ["Perturbation", "Play"]

_STRENGTHS = {"colour": 0.5, "weak-actuator": 0.5}
"""Of the perturbations that have a key."""
_RATE_SECONDS = 2.0
"""Span over which control steps are counted."""


@dataclass(frozen=True)
class Perturbation:
    """A perturbation that is to come.

    Attributes:
        name: of the environments' perturbations.
        strength: in [0, 1]; 0 turns it off.
        second: of simulated time.
    """

    name: str
    strength: float
    second: float


class Play:
    """One environment, its controller and its goals; not for several threads at once.

    A goal that was reached is held for a second; then another pair of start and goal begins, as it does after the
    task's `max_steps` without success. When a person has moved something, the steps to the goal count anew, as they do
    when they have run out.

    Attributes:
        paused: whether time stands still.
        step_asked: whether one control step is to be done all the same.
        seconds_per_step: of simulated time, of one control step.
        track: decisions and surprises so far.
    """

    def __init__(
        self,
        task: Task,
        playground: Playground,
        make_controller: Callable[[str], "Controller"],
        env: Any,
        goal_env: Any,
        goals: Goals,
        *,
        planners: Sequence[str],
        reactions: ReactionSwitch | None = None,
        readout: ReadOut | None = None,
        protocol: str = "short",
        planned: Sequence[Perturbation] = (),
        shrink: bool = True,
        hint: str = "",
        seed: int = 0,
    ) -> None:
        """Begin the first episode, and plan once to warm up.

        Args:
            task: the environment's.
            playground: its own.
            make_controller: makes the controller with the planner of a name; a ValueError says that it cannot.
            env: vector environment of 1 behind the perturbation wrapper, observed as the model wants it.
            goal_env: the same without the wrapper, to draw goals in.
            goals: deals starts and goals.
            planners: names to choose from; the first one plans.
            reactions: what the controllers react with; None where there is no monitor.
            readout: reads what is drawn of the imagined futures out of the latents.
            protocol: one of `CYCLE`.
            planned: perturbations to come.
            shrink: whether the controller is told how many steps a recording took to the goal.
            hint: what is missing and how to get it.
            seed: of the environment.

        Raises:
            ValueError: the first planner cannot be made, or cannot plan.
            UserError: a manifest cannot be read.
        """
        self.paused = self.step_asked = False
        self.seconds_per_step = task.seconds_per_step
        self.track = Track(playground, readout)
        self._task, self._playground, self._goals = task, playground, goals
        self._make, self._planners, self._planner = make_controller, tuple(planners), planners[0]
        self._scene, self._goal_scene = Scene(env, playground), GoalScene(goal_env)
        self._reactions, self._protocol, self._hint, self._seed = reactions, protocol, hint, seed
        self._shrink = shrink
        self._coming = sorted(planned, key=lambda one: one.second)
        self._times: deque[float] = deque(maxlen=1 + round(_RATE_SECONDS / task.seconds_per_step))
        self._moved = self._success = self._won = False
        self._ticks = self._reached = self._episodes = self._since = 0
        self._left: int | None = None
        self._dwelt: int | None = None
        self._text = ""
        self._controller = make_controller(self._planner)
        self._begin()
        self._controller = self._tried(self._planner)
        self._aim()

    def perform(self, commands: Sequence[Command]) -> None:
        """Do what a person asked for; of drags of one thing that follow each other, only the last."""
        for command, after in zip_longest(commands, commands[1:]):
            if after is not None and after.name == "drag" and (command.name, command.handle) == ("drag", after.handle):
                continue
            try:
                getattr(self, f"_on_{command.name}")(command)
            except ValueError as error:
                self._text = str(error)

    def advance(self) -> None:
        """Act once, and see what came of it."""
        self.step_asked = False
        self._perturb()
        if self._moved or self._left == 0:
            self._aim()
        action = self._controller.act(self._scene.observation)
        self.track.note(self._controller)
        self._scene.step(np.asarray(action, np.float64))
        self._ticks, self._since = self._ticks + 1, self._since + 1
        self._left = None if self._left is None else self._left - 1
        self._times.append(time.monotonic())
        self._judge()

    def shown(self) -> Snapshot:
        """Return how things are."""
        track, surprise = self.track, self.track.surprise
        alarm = surprise if surprise is not None and surprise.alarm else None
        seconds = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        return Snapshot(
            tick=self._ticks,
            picture=self._scene.picture(),
            goal_picture=self._goal_picture,
            goal_outline=self._goal_outline,
            state=self._scene.state.copy(),
            futures=track.futures,
            costs=tuple(track.costs),
            scores=tuple(track.scores),
            alarms=tuple(track.alarms),
            kind=None if alarm is None else alarm.kind,
            text=self._text if alarm is None else alarm.text or self._text,
            decision_ms=track.decision_ms(),
            decision_p99_ms=track.decision_ms(0.99),
            control_hz=(len(self._times) - 1) / seconds if seconds else 0.0,
            planner=self._planner,
            protocol=self._protocol,
            reaction="" if self._reactions is None else self._reactions.name,
            changes=tuple(self._scene.changes),
            success=self._success,
            reached=self._reached,
            episodes=self._episodes,
            paused=self.paused,
            hint=self._hint,
        )

    def close(self) -> None:
        """Close the environments."""
        self._scene.close()
        self._goal_scene.close()

    def _perturb(self) -> None:
        """Switch the planned perturbations that are due."""
        while self._coming and self._coming[0].second <= self._ticks * self._task.seconds_per_step:
            one = self._coming.pop(0)
            self._scene.switch(one.name, one.strength)
            self._unsettled()
            self._text = f"{one.name} {one.strength:g}" if one.strength else f"{one.name} off"

    def _judge(self) -> None:
        """See whether the goal is reached, and begin another episode when it was held or takes too long."""
        self._success = self._is_success()
        if self._success and self._dwelt is None:
            self._reached, self._won = self._reached + (not self._won), True
            self._dwelt, self._text = 0, "goal reached"
        elif self._dwelt is not None:
            self._dwelt += 1
        if self._dwelt is not None and self._dwelt * self._task.seconds_per_step >= 1.0:
            self._begin()
        elif self._dwelt is None and self._since >= self._task.max_steps:
            self._begin()
            self._text = "the goal took too long; another one"

    def _is_success(self) -> bool:
        rule = self._goals.rule(self._protocol)
        return bool(self._task.success(self._scene.state[None], self._goal[None], rule, False)[0])

    def _begin(self, protocol: str | None = None) -> None:
        """Begin an episode, another start and another goal, perhaps of another protocol than before."""
        protocol = protocol or self._protocol
        self._pair, self._protocol = self._goals.draw(protocol), protocol
        self._scene.begin(self._pair, self._seed + self._episodes)
        self._goal = np.array(self._pair.goal, float)
        self._controller.reset()
        self._episodes, self._text = self._episodes + 1, ""
        self._set_goal()

    def _set_goal(self) -> None:
        """Draw the goal, and aim at it."""
        self._goal_observation, self._goal_picture = self._goal_scene.draw(self._pair, self._goal, self._scene.state)
        outlines = self._playground.sketch(
            {name: read(self._goal[None])[0] for name, read in self._task.probes.items()}
        )
        self._goal_outline = tuple(outline for outline in outlines if np.isfinite(outline).all())
        self._won = False
        self._unsettled()
        self._aim()

    def _aim(self) -> None:
        """Tell the controller the goal, and the steps that a recording took to it."""
        self._left = _steps(self._pair) if self._shrink else None
        self._moved = False
        self._controller.set_goal(self._goal_observation, steps=self._left)

    def _unsettled(self) -> None:
        """Give all the time again; a goal that was reached is to be reached again, but counts once."""
        self._since, self._dwelt, self._success = 0, None, self._is_success()

    def _disturbed(self) -> None:
        """Let the steps to the goal count anew too, from the next control step on."""
        self._unsettled()
        self._moved = True

    def _on_drag(self, command: Command) -> None:
        self._scene.drag(command.handle, command.x, command.y)
        self._disturbed()
        self._text = f"{command.handle} moved"

    def _on_spin(self, command: Command) -> None:
        self._scene.spin(command.angle)
        self._disturbed()
        self._text = "turned"

    def _on_release(self, command: Command) -> None:
        self._disturbed()

    def _on_goal(self, command: Command) -> None:
        self._goal = np.asarray(self._playground.goal(self._goal, command.x, command.y), float)
        self._episodes += self._won
        self._set_goal()
        self._text = "goal moved"

    def _on_recolour(self, command: Command) -> None:
        self._toggle("colour")

    def _on_weaken(self, command: Command) -> None:
        self._toggle("weak-actuator")

    def _on_teleport(self, command: Command) -> None:
        self._scene.switch("teleport", 1.0)
        self._unsettled()
        self._text = "teleport"

    def _toggle(self, name: str) -> None:
        on = name not in self._scene.changes
        self._scene.switch(name, _STRENGTHS[name] if on else 0.0)
        self._text = f"{name} {_STRENGTHS[name]:g}" if on else f"{name} off"

    def _on_planner(self, command: Command) -> None:
        for name in following(self._planners, self._planner):
            try:
                controller = self._tried(name)
            except ValueError:
                continue
            self._controller, self._planner, self._text = controller, name, f"planner: {name}"
            self._aim()
            return

    def _tried(self, name: str) -> "Controller":
        """Return the controller with another planner, once it has planned from here; raises ValueError if it cannot."""
        controller = self._make(name)
        controller.set_goal(self._goal_observation)
        latents = controller.encode(self._scene.observation)
        controller.plan_from(Context(latents[:, None], torch.zeros(1, 0, controller.model.spec.block_size).to(latents)))
        controller.reset()
        return controller

    def _on_protocol(self, command: Command) -> None:
        self._begin(following(CYCLE, self._protocol)[0])
        self._text = f"protocol: {self._protocol}"

    def _on_reaction(self, command: Command) -> None:
        if self._reactions is None:
            self._text = "there is no monitor to react to"
        else:
            self._text = f"reaction: {self._reactions.cycle()}"

    def _on_pause(self, command: Command) -> None:
        self.paused = not self.paused
        self._times.clear()

    def _on_step(self, command: Command) -> None:
        self.paused = self.step_asked = True

    def _on_reset(self, command: Command) -> None:
        self._scene.restore()
        self._begin()


def _steps(pair: Pair) -> int | None:
    """Return the environment steps that a recording took from start to goal, None without one."""
    return pair.goal_row - pair.start_row if pair.episode >= 0 else None
