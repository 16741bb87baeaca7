"""One recorded decision: its static inputs, its recordings, and a run with new numbers."""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from .graph_recorders import Recorder, Recording, Report, copy_into, own
from .graph_steps import Handed, Outcome, Step, Unrolled
from .scoring import Clock, Scorer
from .search import Found

__all__ = ["Recorded", "values_of"]

_AHEAD = 2
"""Iterations that the device has been given and the host does not yet know the end of.

With fewer it would wait for the host between two; the price is that one runs in vain when all rows have settled.
"""


def values_of(scorer: Scorer) -> tuple[Any, ...]:
    """Return what differs from one decision to the next: context, guesses, objective."""
    problem = scorer.problem
    return problem.context, problem.initial, problem.extra, scorer.objective


class Recorded:
    """A decision on static inputs, recorded whole, or iteration by iteration where it may end early."""

    def __init__(self, recorder: Recorder, decision: Unrolled) -> None:
        """Record a decision; the numbers in its tensors serve to warm up."""
        self._recorder = recorder
        self._inputs = own(values_of(decision.scorer))
        self._decision = _on(self._inputs, recorder, decision)
        recorder.generator.set_state(decision.scorer.problem.generator.get_state())
        recorder.warm_up(self._decision.whole)
        self._keeps = getattr(getattr(decision.scorer.model, "rollout_paths", None), "kept", ())  # what replays read
        self._steps: list[Recording[Step]] = []
        self._settled: list[Report] = []
        self._end = self._pieces() if decision.stops_early else recorder.record(self._decision.whole)
        self._numbers = recorder.report(self._end.result.numbers)

    def run(self, scorer: Scorer, clock: Clock) -> Found | None:
        """Replay the decision with a scorer's context, guesses, objective and generator.

        Returns:
            None where something is wrong with the result; the generator is then as it was.
        """
        copy_into(self._inputs, values_of(scorer))
        source, generator = scorer.problem.generator, self._recorder.generator
        generator.set_state(source.get_state())
        clock.restart()
        late = self._iterate(clock)
        self._end.replay()
        outcome: Outcome = own(self._end.result)
        self._numbers.post()
        most, non_finite, certain, wrong = self._numbers.read()
        if wrong:
            return None
        source.set_state(generator.get_state())
        stopped = "certain" if certain else "seconds" if late else self._decision.schedule.limit
        return Found(outcome.best, outcome.iterations, outcome.settled, stopped, most, non_finite)

    def _pieces(self) -> Recording[Outcome]:
        """Record every iteration on its own, and the end, which takes what the latest of them handed out."""
        decision, recorder = self._decision, self._recorder
        latest = own(decision.step([]).handed)
        for _ in decision.schedule.counts:
            self._steps.append(recorder.record(partial(_piece, decision, self._results(), latest)))
            self._settled.append(recorder.report(self._steps[-1].result.all_settled))
        return recorder.record(partial(decision.finish, latest))

    def _results(self) -> list[Step]:
        return [step.result for step in self._steps]

    def _iterate(self, clock: Clock) -> bool:
        """Replay the iterations until all rows have settled or time is out; return whether it was time.

        The generator ends where the last iteration that was of use left it.
        """
        generator, rows = self._recorder.generator, self._inputs[1].shape[0]
        states: list[Tensor] = []
        late = False
        for index, (step, report) in enumerate(zip(self._steps, self._settled, strict=True)):
            if late or (index >= _AHEAD and self._settled[index - _AHEAD].read()[0]):
                break
            step.replay()
            report.post()
            states.append(generator.get_state())
            late = clock.out_of_time(rows * self._decision.schedule.count(index))
        known = (index for index, report in enumerate(self._settled[: len(states) - 1]) if report.read()[0])
        useful = next(known, len(states) - 1)
        if states:
            generator.set_state(states[useful])
        return late and len(states) < len(self._steps)


def _on(inputs: tuple[Any, ...], recorder: Recorder, decision: Unrolled) -> Unrolled:
    """Return a decision that reads these inputs, and draws from the recorder's generator."""
    context, initial, extra, objective = inputs
    scorer = decision.scorer
    fixed = replace(scorer.problem, context=context, initial=initial, extra=extra, generator=recorder.generator)
    return replace(decision, scorer=replace(scorer, problem=fixed, objective=objective))


def _piece(decision: Unrolled, steps: list[Step], latest: Handed) -> Step:
    """Do the iteration after some others, and leave what it hands out where the end looks for it."""
    step = decision.step(steps)
    copy_into(latest, step.handed)
    return step
