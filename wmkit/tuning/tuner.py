"""Searches the sizes and ways of planning for the best plans within a deadline.

A few probes of each way of computing say what an iteration and a candidate cost. From that, the most iterations that
fit are known for each number of candidates. All these settings solve the same problems, and the best of them are timed:
what misses the deadline is stepped down, what leaves time is stepped up. The best plans whose time was measured to fit
win; of those that cannot be told apart, the fastest.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import UserError
from ..timing import p99
from .cost_model import CostModel, Probe, fit
from .options import Grid, Options, Workbench
from .quality import Quality, standard_error
from .trade import Measured, Setting, Trade, Way

__all__ = ["tune"]

_ATTEMPTS = 4
"""Numbers of iterations that are timed for one number of candidates, at most."""
_OFF = 1.3
"""Seconds over those predicted from which on a prediction counts as wrong."""
_PATIENCE = 3
"""Settings that are timed at most, over those that are asked for within the deadline."""
_LONGEST = 60
"""Iterations of the long search, at most."""


def tune(
    bench: Workbench,
    ways: Sequence[Way],
    deadline: float,
    grid: Grid | None = None,
    options: Options | None = None,
    report: Callable[[str], object] = lambda text: None,
) -> Trade:
    """Find the setting with the best plans among those that decide within a deadline at p99.

    Args:
        bench: where settings are tried.
        ways: of computing; those of another dtype than "float32" are offered where they rank candidates alike.
        deadline: seconds of a decision.
        grid: sizes to consider; None takes the defaults.
        options: None takes the defaults.
        report: is told what is being done.

    Raises:
        UserError: no setting makes the deadline; the text says what the fastest takes. Or no way of computing works.
        ValueError: there are no ways, or the deadline is not positive.
    """
    if not ways or not deadline > 0:
        raise ValueError(f"{len(ways)} ways of computing and {deadline} s are nothing to tune; give both above 0")
    tuner = _Tuner(bench, deadline, grid or Grid(), options or Options(), report)
    tuner.probe(ways)
    shortlist = tuner.shortlist()
    tuner.solve(shortlist)
    tuner.verify(shortlist)
    tuner.neighbours()
    tuner.confirm()
    return tuner.trade()


class _Tuner:
    """The state of one search: what ways cost, what plans cost, what was timed."""

    def __init__(
        self, bench: Workbench, deadline: float, grid: Grid, options: Options, report: Callable[[str], object]
    ) -> None:
        self._bench, self._deadline, self._grid, self._options, self._report = bench, deadline, grid, options, report
        self._models: dict[Way, CostModel] = {}
        self._refused: dict[Way, str] = {}
        self._seconds: dict[Setting, tuple[float, ...]] = {}

    def probe(self, ways: Sequence[Way]) -> None:
        """Learn what decisions cost each way; leave out those that fail, or rank candidates too differently."""
        shared: dict[tuple[str | None, str], float] = {}
        for way in ways:
            self._report(f"probe {way}")
            try:
                kind = (way.path, way.dtype)
                if kind not in shared:
                    shared[kind] = 1.0 if way.dtype == "float32" else self._bench.agreement(way)
                if shared[kind] < self._options.agreement:
                    self._refused[way] = f"{shared[kind]:.1%} of the best candidates in common with float32"
                else:
                    self._models[way] = self._model(way)
            except (ValueError, RuntimeError) as refusal:
                self._refused[way] = str(refusal).partition("\n")[0]
        if not self._models:
            raise UserError("; ".join(f"{way}: {reason}" for way, reason in self._refused.items()))

    def _model(self, way: Way) -> CostModel:
        """Return what decisions cost, probed once more where the model says that the largest searches end."""
        probes, few = self._probes(way), max(2, self._options.probes // 3)
        for _ in range(_ATTEMPTS):
            model = fit(probes)
            ends = [(n, model.most_iterations(n, self._deadline, self._grid.iterations)) for n in self._grid.samples]
            ends = [end for end in ends if end[1]]
            found = [self._probe(*end, way, few) for end in dict.fromkeys(ends[:1] + ends[-1:])]
            probes += found
            if all(probe.calm <= _OFF * model.seconds(probe.samples, probe.iterations) for probe in found):
                break
        return fit(probes)

    def _probes(self, way: Way) -> list[Probe]:
        """Time a few sizes, the larger ones about as long as the deadline."""
        few, many = self._grid.samples[0], min(4, self._grid.iterations)
        probes = [self._probe(few, 1, way)]
        if many > 1:
            probes.append(self._probe(few, many, way))
        each = max((probes[-1].calm - probes[0].calm) / max(1, many - 1), 0.05 * probes[0].calm, 1e-6)
        large = self._nearest(few * self._deadline / each)
        middle = self._nearest((few * large) ** 0.5)
        if large > few:
            probes += [self._probe(large, 1, way), self._probe(middle, min(2, many), way)]
        return probes

    def _probe(self, samples: int, iterations: int, way: Way, decisions: int | None = None) -> Probe:
        setting = Setting(samples, iterations, way)
        return Probe(samples, iterations, self._bench.seconds(setting, decisions or self._options.probes))

    def _nearest(self, samples: float) -> int:
        """Return the largest number of candidates of the grid that is not above `samples`, or the smallest."""
        return max((n for n in self._grid.samples if n <= samples), default=self._grid.samples[0])

    def shortlist(self) -> list[Setting]:
        """Return, for every number of candidates and each dtype, the most iterations that may fit, and half of them."""
        found: dict[Setting, None] = {}
        for dtype in dict.fromkeys(way.dtype for way in self._models):
            for samples in self._grid.samples:
                setting = self._largest(samples, [way for way in self._models if way.dtype == dtype])
                if setting.iterations:
                    found[setting] = None
                if setting.iterations > 1:
                    found[replace(setting, iterations=setting.iterations // 2)] = None
        if not found:
            self._require()
        return list(found) or self._smallest()

    def _largest(self, samples: int, ways: Sequence[Way]) -> Setting:
        """Return the most iterations of so many candidates that may fit, in the way that has the most time left."""
        most, model = self._grid.iterations, self._models
        settings = [Setting(samples, model[way].most_iterations(samples, self._deadline, most), way) for way in ways]
        return max(settings, key=lambda setting: (setting.iterations, -self._expected(setting)))

    def _smallest(self) -> list[Setting]:
        """Return the smallest search in the two fastest ways."""
        settings = [Setting(self._grid.samples[0], 1, way) for way in self._models]
        return sorted(settings, key=self._expected)[:2]

    def _expected(self, setting: Setting) -> float:
        return self._models[setting.way].seconds(setting.samples, setting.iterations)

    def solve(self, settings: Sequence[Setting]) -> None:
        """Solve the problems at random, with a long search, and with all settings."""
        self._quality = Quality(self._bench, self._report)
        self._long = self._longest(settings)
        self._quality.solve([self._long, *settings])

    def _longest(self, settings: Sequence[Setting]) -> Setting:
        """Return a search `long` times as large as those that may fit, in time or in rollouts, with more iterations."""
        long, refines = self._options.long, self._grid.iterations > 1
        iterations = min(_LONGEST, max(10, 2 * max(s.iterations for s in settings))) if refines else 1
        most = long * max(setting.rollouts for setting in settings) / iterations
        exact = [way for way in self._models if way.dtype == "float32"] or list(self._models)
        sizes = [factor * samples for samples in self._grid.samples for factor in (1, 2, 4, 8)]
        found = [Setting(samples, iterations, way) for way in exact for samples in sizes]
        fitting = [s for s in found if s.samples <= most and self._expected(s) <= long * self._deadline]
        return max(fitting, key=lambda setting: (setting.samples, -self._expected(setting)), default=found[0])

    def verify(self, shortlist: Sequence[Setting]) -> None:
        """Time the best settings until enough made the deadline, or too many missed; where none did, the smallest."""
        for setting in self._ranked(shortlist):
            if len(self._made()) >= self._options.verify or len(self._seconds) >= _PATIENCE * self._options.verify:
                break
            fits = self._fits(setting, self._slower(setting.way))
            following = replace(setting, iterations=min(setting.iterations, fits))
            if following.iterations and following not in self._seconds:
                self._settle(following)
        self._require()

    def _settle(self, setting: Setting) -> None:
        """Time a setting; step its iterations down while it misses, and up where the most that fit are more."""
        least, missed = 0, self._grid.iterations + 1
        upwards = setting.iterations >= self._fits(setting)
        for _ in range(_ATTEMPTS):
            slow = p99(self._time(setting))
            if slow <= self._deadline:
                least = setting.iterations
            else:
                missed = setting.iterations
            fits = self._fits(setting, slow / self._expected(setting))
            following = replace(setting, iterations=max(least, min(fits, missed - 1)))
            done = following.iterations < 1 or following in self._seconds
            if done or (following.iterations > setting.iterations and not upwards):
                return
            setting = following

    def _fits(self, setting: Setting, slower: float = 1.0) -> int:
        """Return the most iterations of so many candidates within the deadline, all being `slower` than expected."""
        model = self._models[setting.way]
        return model.most_iterations(setting.samples, self._deadline / slower, self._grid.iterations)

    def _slower(self, way: Way) -> float:
        """Return how many times as slow as expected the settings of a way have been, at least 1."""
        times = [p99(seconds) / self._expected(s) for s, seconds in self._seconds.items() if s.way == way]
        return max(1.0, float(np.median(times))) if times else 1.0

    def _require(self) -> None:
        """Raise UserError where nothing made the deadline, not even the smallest search."""
        if not self._made():
            for setting in self._smallest():
                self._time(setting)
        if not self._made():
            raise self._unreachable()

    def _time(self, setting: Setting) -> tuple[float, ...]:
        """Time a setting; what makes the deadline is p99 of these seconds."""
        if setting not in self._seconds:
            self._report(f"time {setting}")
            self._seconds[setting] = self._bench.seconds(setting, self._options.decisions, self._deadline)
        return self._seconds[setting]

    def _made(self) -> list[Setting]:
        return [setting for setting, seconds in self._seconds.items() if p99(seconds) <= self._deadline]

    def neighbours(self) -> None:
        """Time one step beyond the choice in iterations and in candidates, until none of them is a better choice."""
        for _ in range(_ATTEMPTS):
            chosen = self._best(self._made())
            for setting in self._beyond(chosen):
                self._time(setting)
            if self._best(self._made()) == chosen:
                return

    def _beyond(self, setting: Setting) -> list[Setting]:
        """Return the next larger searches, where the grid goes on."""
        larger = [n for n in self._grid.samples if n > setting.samples][:1]
        more = min(setting.iterations + max(1, setting.iterations // 4), self._grid.iterations)
        steps = [replace(setting, samples=samples) for samples in larger]
        return steps + ([replace(setting, iterations=more)] if more > setting.iterations else [])

    def confirm(self) -> None:
        """Time the choice once more, since it was chosen for a good time among other things; else one step down."""
        confirmed: set[Setting] = set()
        while (chosen := self._best(self._made())) not in confirmed:
            self._report(f"confirm {chosen}")
            confirmed.add(chosen)
            self._seconds[chosen] += self._bench.seconds(chosen, self._options.decisions, self._deadline)
            fits = self._fits(chosen, p99(self._seconds[chosen]) / self._expected(chosen))
            if chosen not in self._made() and 0 < fits < chosen.iterations:
                self._time(replace(chosen, iterations=fits))
            self._require()

    def trade(self) -> Trade:
        """Return what was found."""
        self._quality.solve(self._seconds)
        chosen = self._best(self._made())
        rows = sorted(map(self._measured, self._seconds), key=lambda row: (row.regret, row.p99))
        found = (tuple(rows), self._long, dict(self._models), dict(self._refused))
        return Trade(self._deadline, self._measured(chosen), *found)

    def _measured(self, setting: Setting) -> Measured:
        regrets, seconds = self._quality.regrets(setting), self._seconds[setting]
        made = p99(seconds) <= self._deadline
        return Measured(setting, seconds, float(regrets.mean()), standard_error(regrets), made)

    def _best(self, settings: Iterable[Setting]) -> Setting:
        """Return the setting of the best plans; of those that cannot be told from it, the fastest."""
        return self._ranked(settings)[0]

    def _ranked(self, settings: Iterable[Setting]) -> list[Setting]:
        return self._quality.ranked(settings, self._slow)

    def _slow(self, setting: Setting) -> float:
        """Return the measured p99, or what is expected of a setting that was not timed."""
        return p99(self._seconds[setting]) if setting in self._seconds else self._expected(setting)

    def _unreachable(self) -> UserError:
        fastest = min(self._seconds, key=lambda setting: p99(self._seconds[setting]))
        seconds = self._seconds[fastest]
        size = f"{fastest.samples} candidates and {fastest.iterations} iteration{'s' if fastest.iterations > 1 else ''}"
        return UserError(
            f"no search decides within {_ms(self._deadline)} on this machine: the best it can do is "
            f"{_ms(p99(seconds))} at p99 ({_ms(float(np.median(seconds)))} at p50), with {size} "
            f"({fastest.way}); give a longer --deadline-ms or a smaller model"
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
