"""Plans beside a robot's loop that never waits for them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np

from ..contracts import ModelSpec
from .controller import Controller
from .realtime_buffer import ActionBuffer
from .realtime_clock import Clock, SystemClock, quiet_interpreter, ticks
from .realtime_counters import Counters, Delay, Histogram, Meter, Status
from .realtime_intake import Intake, Seen
from .realtime_outlet import Outlet, SafeAction
from .realtime_planning import Goal, Reply, Request
from .realtime_worker import Desk, ProcessDesk, ThreadWorker, Worker, make_desk, warmed

__all__ = ["RealTimeController"]


class RealTimeController:
    """Drives one robot at a fixed rate with plans that are made elsewhere meanwhile.

    The loop calls `step` (or `observe` and `act`) once a period; neither ever waits for a plan. All bookkeeping happens
    in the loop's thread, in some tens of microseconds; the worker sees requests and gives plans.

    Time is the count of actions handed out. A plan from an observation of count k starts at k + P * action_repeat,
    with the least P for which it can have arrived by then: the P model steps between are in flight, and the model is
    rolled through them before planning. They are known when planning begins, because one plan is made at a time: what
    the buffer holds, then the safe action. A plan replaces the buffer from its start on. One that arrives later than
    that is used from then on, and counted as late; where the buffer has no action, the safe action goes out, and the
    tick is counted.
    """

    def __init__(
        self,
        controller: Controller | Callable[[], Controller],
        *,
        rate_hz: float,
        worker: Literal["thread", "process"] | Callable[[Desk], Worker] = "thread",
        safe_action: SafeAction = "hold",
        max_age: float = 0.5,
        delay_aware: bool = True,
        replan_every: int | None = None,
        warm_up: int = 3,
        patience: float = 1.0,
        max_restarts: int = 3,
        threads: int | None = 1,
        clock: Clock | None = None,
    ) -> None:
        """Create a controller that is not yet started.

        Args:
            controller: plans, and is used by nothing else from now on; or what makes it. A "process" needs the latter,
                picklable, e.g. a function of a module.
            rate_hz: environment actions a second.
            worker: where plans are made. A thread shares Python's interpreter lock with the loop; a process does not,
                and can be killed when it hangs. Or what makes a worker from a desk, e.g. a `LockstepWorker`.
            safe_action: what goes out where no action is planned. "hold" suits commands that are positions; where they
                are velocities, torques or steps, it keeps the robot moving: take "zero" there.
            max_age: seconds after which an observation is refused as stale.
            delay_aware: False takes each observation for the present and starts each plan when it arrives, as if
                nothing had happened meanwhile; to see what that costs.
            replan_every: least number of actions between the starts of two plans; None takes one model step, 1 plans
                whenever the worker is idle.
            warm_up: plans made by `start` before it returns; the goal must be set before for them to be real ones.
            patience: seconds after which a planner without an answer counts as hanging; a process is killed after
                three times that, and started anew.
            max_restarts: how many dead threads are replaced before the worker is declared dead.
            threads: how many torch may use for planning; None leaves that alone.
            clock: of the loop; None takes the system's monotonic clock, whose times `stamp` then has.

        Raises:
            ValueError: an argument out of its range, or a process without a function to make the controller.
        """
        numbers = {"rate_hz": rate_hz, "max_age": max_age, "patience": patience}
        numbers |= {} if replan_every is None else {"replan_every": replan_every}
        bad = [name for name, value in numbers.items() if not (math.isfinite(value) and value > 0)]
        if bad or warm_up < 0:
            raise ValueError(f"{', '.join(bad) or 'warm_up'}: give a number above 0; for warm_up at least 0")
        if worker == "process" and isinstance(controller, Controller):
            raise ValueError("a process makes its controller itself: give a picklable function that returns it")
        if isinstance(worker, str) and worker not in ("thread", "process"):
            raise ValueError(f"worker is {worker!r}; give 'thread', 'process', or a function from a desk to a worker")
        self.rate_hz, self.max_age, self.delay_aware, self.replan_every = rate_hz, max_age, delay_aware, replan_every
        self._made_by, self._kind = controller, worker
        self._safe_action: SafeAction = safe_action
        self._warm_up, self._patience, self._max_restarts, self._threads = warm_up, patience, max_restarts, threads
        self._clock: Clock = SystemClock() if clock is None else clock
        self._meter = Meter()
        self._desk: Desk | None = None
        self._worker: Worker | None = None
        self._buffer = ActionBuffer(1)
        self._open_gates: tuple[Intake, Outlet] | None = None
        self._goal: Goal | None = None
        self._goal_at, self._goal_steps = 0, -1
        self._episode = 0
        self._error: str | None = None
        self._refusal: str | None = None
        self._failing = False
        self._delay, self._repeat = Delay(1 / rate_hz), 1
        self._open: tuple[Request, float] | None = None
        self._newest: Seen | None = None
        self._planned_from = -1
        self._first: int | None = None
        self._last_tick: float | None = None
        self._running = False

    @property
    def count(self) -> int:
        """Actions handed out so far; the integer stamp of an observation that is taken now."""
        return self._buffer.count

    @property
    def error(self) -> str | None:
        """The last error since `start`, None where there was none."""
        return self._error

    def start(self, timeout: float = 120.0) -> None:
        """Start the worker and warm it up; the one call that waits.

        Raises:
            RuntimeError: it runs already, the former worker still hangs, or no plan could be made within the timeout.
        """
        if self._worker is not None and (self._running or not self._worker.stop(0.0)):
            raise RuntimeError("the controller runs already, or its former worker still hangs; stop() it first")
        process = self._kind == "process"
        desk = self._desk = self._desk or make_desk(self._made_by, process, self._threads, 3 * self._patience)
        self._repeat, spec = desk.spec.action_repeat, desk.spec
        intake = Intake(spec, self.rate_hz, self.max_age)
        self._open_gates = intake, Outlet(spec, self._safe_action)
        self._buffer = ActionBuffer(intake.keep)
        self._meter, self._failing, self._error, self._refusal, self._goal_at = Meter(), False, None, None, 0
        self.reset()
        self._worker = self._make_worker(desk)
        self._warm(self._worker, spec, timeout)
        self._running = True

    def stop(self, timeout: float = 2.0) -> bool:
        """End the worker; after it, every action is the safe one. Never waits longer than about the timeout.

        Returns:
            Whether the worker ended. A thread that hangs is left to itself, and ends with the program.
        """
        worker, self._open, self._newest = self._worker, None, None
        self._buffer.forget_plan()
        if isinstance(self._desk, ProcessDesk):
            self._desk.close(timeout / 2)
            self._desk = None
        ended = worker is None or worker.stop(timeout / 2)
        self._worker = None if ended else worker
        self._running = False
        return ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def set_goal(self, observation: Mapping[str, Any], steps: int | None = None) -> None:
        """Set what to reach; the present plan goes on until one for the new goal arrives.

        Args:
            observation: of the goal, by key (...).
            steps: environment steps after which it should be reached, from now on or, where the episode has none yet,
                from its first planned action: the horizon then shrinks, as with `Controller.set_goal`. None plans with
                the whole horizon always.

        Raises:
            ValueError: steps below 1. An observation that does not fit the model ends in an error of the next plan.
        """
        if steps is not None and steps < 1:
            raise ValueError(f"steps is {steps!r}; give at least 1 environment step, or None")
        copied = {key: np.array(value) for key, value in observation.items()}
        self._goal = Goal(0 if self._goal is None else self._goal.number + 1, copied)
        self._goal_at, self._goal_steps = self._buffer.count, -1 if steps is None else steps

    def reset(self) -> None:
        """Forget history and plan, as at the start of an episode; the goal stays, and `count` goes on."""
        if self._open_gates is not None:
            self._open_gates[0].clear()
        self._buffer.clear()
        self._episode += 1
        self._newest, self._planned_from, self._first, self._last_tick = None, -1, None, None

    def observe(self, observation: Mapping[str, Any], stamp: float | None = None) -> str | None:
        """Take an observation, and have a plan made from it as soon as the worker is idle; a newer one replaces it.

        Args:
            observation: by key (...); copied.
            stamp: when it was taken: an integer is `count` at that time, a float a time of the loop's clock (seconds of
                `time.monotonic`), None now.

        Returns:
            None, or why it was refused, see `Intake`; counted, and as a sentence in `status().refusal`.
        """
        intake = self._gates[0]
        self._guarded(self._collect)
        found = intake.take(observation, stamp, self._clock.now())
        if not isinstance(found, Seen):
            self._refusal = found[1]
            return self._meter.refuse(found[0])
        if not self.delay_aware:
            found = intake.moved(found, self._buffer.count)
        self._newest = found
        self._guarded(self._dispatch)
        return None

    def act(self) -> np.ndarray:
        """Return the next action (action_size,), float32, within the bounds.

        Never waits, and never fails for what the planner does.

        Raises:
            RuntimeError: `start` was never called.
        """
        intake, outlet = self._gates
        self._guarded(self._collect)
        self._guarded(self._dispatch)
        planned = self._buffer.next()
        if planned is None:
            waiting = self._first is None or self._buffer.count < self._first
            self._meter.empty += not waiting
            self._meter.waiting += waiting
            planned = outlet.safe(self._buffer.last)
        action, changed = outlet.checked(planned)
        self._meter.repaired += changed
        now = self._clock.now()
        off = None if self._last_tick is None else now - self._last_tick - 1 / self.rate_hz
        self._meter.tick(off)
        self._last_tick = now
        self._buffer.take(action)
        intake.acted(now)
        return action.copy()

    def step(self, observation: Mapping[str, Any] | None, stamp: float | None = None) -> np.ndarray:
        """Take an observation, unless it is None, and return the next action; see `observe` and `act`."""
        if observation is not None:
            self.observe(observation, stamp)
        return self.act()

    def run(
        self,
        read: Callable[[], Mapping[str, Any] | tuple[Mapping[str, Any], float] | None],
        send: Callable[[np.ndarray], object],
        seconds: float,
    ) -> None:
        """Drive a robot for some seconds at the rate, by a clock that does not drift.

        Args:
            read: returns the newest observation, or it and its stamp, or None where there is none. Called each tick.
            send: takes an action (action_size,). Called each tick, right after.
            seconds: how long.
        """
        before = self._meter.overruns
        with quiet_interpreter():
            for skipped in ticks(self.rate_hz, self._clock, seconds):
                self._meter.overruns = before + skipped
                found = read()
                send(self.step(*found) if isinstance(found, tuple) else self.step(found))

    def counters(self) -> Counters:
        """Return what happened since `start`; from any thread, without waiting."""
        return self._meter.snapshot()

    def histogram(self) -> Histogram:
        """Return the times from asking for a plan to having it, since `start` and without the warm-up."""
        return self._meter.planning

    def status(self) -> Status:
        """Return how the planner is; from any thread, without waiting."""
        waiting, worker = self._open, self._worker
        planning = None if waiting is None else self._clock.now() - waiting[1]
        if worker is None or not self._running:
            state = "stopped"
        elif not worker.alive:
            state = "dead"
        elif planning is not None and planning > self._patience:
            state = "hanging"
        else:
            state = "failing" if self._failing else "running"
        error = f"no plan for {planning:.1f} s" if state == "hanging" else self._error
        return Status(state, error, self._refusal, planning, self._buffer.left)

    @property
    def _gates(self) -> tuple[Intake, Outlet]:
        if self._open_gates is None:
            raise RuntimeError("start() the controller first")
        return self._open_gates

    def _make_worker(self, desk: Desk) -> Worker:
        kind = self._kind
        return ThreadWorker(desk, self._clock, self._threads) if isinstance(kind, str) else kind(desk)

    def _warm(self, worker: Worker, spec: ModelSpec, timeout: float) -> None:
        """Make plans that count for nothing but the estimate of how long one takes."""
        seconds, error = warmed(worker, self._goal, spec, self._warm_up, self._clock, timeout)
        if error is not None and (self._goal is not None or not worker.alive):
            self.stop(0.5)
            raise RuntimeError(f"the first plan failed: {error}")
        self._meter.warmed(seconds)
        self._delay.add(*seconds[1:])

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a part of the bookkeeping; nothing that goes wrong in it may stop the loop."""
        try:
            work()
        except Exception as error:
            self._failing, self._error = True, f"{type(error).__name__}: {error}"

    def _collect(self) -> None:
        """Take over the plan that has arrived, if any, or replace a worker that died over one."""
        if self._open is None or self._worker is None:
            return
        answer = self._worker.poll()
        if answer is not None:
            (request, began), self._open = self._open, None
            self._take_over(request, answer[0], answer[1] - began)
        elif not self._worker.alive:
            self._revive()

    def _take_over(self, request: Request, reply: Reply, seconds: float) -> None:
        self._meter.planning.add(seconds)
        self._failing = reply.actions is None
        if not self._failing and seconds <= self._patience:
            self._delay.add(seconds)
        if reply.actions is None:
            self._meter.failures += 1
            self._error, self._planned_from = reply.error, -1
        elif request.episode != self._episode or request.goal is not self._goal:
            self._meter.superseded += 1
            self._planned_from = -1
        else:
            self._put(request.start if self.delay_aware else self._buffer.count, reply.actions)

    def _put(self, start: int, actions: np.ndarray) -> None:
        """Put a plan into the buffer and count how late it is."""
        lost = self._buffer.put(start, actions)
        if self._first is None and lost < len(actions):
            self._first = start + lost
        self._meter.arrived(late=start < self._buffer.count, lost=lost, useless=lost == len(actions))

    def _revive(self) -> None:
        """Start a new worker in the place of one that died, a limited number of times."""
        self._open, self._failing = None, True
        self._meter.failures += 1
        if self._meter.restarts >= self._max_restarts or self._desk is None:
            self._error = f"the worker died, after {self._meter.restarts} restarts; stop() and start() the controller"
            return
        self._meter.restarts += 1
        self._error = f"the worker died and was started anew (restart {self._meter.restarts} of {self._max_restarts})"
        self._worker = self._make_worker(self._desk)

    def _dispatch(self) -> None:
        """Ask for a plan from the newest observation, if the worker is idle and a plan is due."""
        seen, worker = self._newest, self._worker
        if seen is None or worker is None or self._open is not None or not self._running:
            return
        if not worker.alive:
            return self._revive()
        if self._gates[0].is_stale(seen):
            self._newest, _ = None, self._meter.refuse("stale")
            return
        request = self._request(seen)
        apart = self._repeat if self.replan_every is None else self.replan_every
        early = self._planned_from >= 0 and request.start < self._planned_from + apart
        if early and self._buffer.covers(request.start):
            return
        self._newest, self._planned_from = None, request.start
        began = self._clock.now()
        worker.submit(request)
        self._open = (request, began)
        self._collect()

    def _request(self, seen: Seen) -> Request:
        """Return what a plan is made from: history, actions in flight, and where it starts."""
        intake, outlet = self._gates
        history = intake.history(seen)
        start = self._start(seen.count) if self.delay_aware else seen.count
        begun = max(self._goal_at, start if self._first is None else self._first)
        return Request(
            self._episode,
            self._goal,
            tuple((each.count, each.observation) for each in history),
            self._buffer.window(history[0].count, start, outlet.safe),
            self._buffer.taken(seen.count - 1),
            start,
            self._goal_steps,
            start - begun,
        )

    def _start(self, count: int) -> int:
        """Return the first count, whole model steps after `count`, at which a plan asked for now can have arrived."""
        arrival = self._buffer.count + math.ceil(self._delay.seconds() * self.rate_hz - 1e-6)
        return count + -(-(arrival - count) // self._repeat) * self._repeat
