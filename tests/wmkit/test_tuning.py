"""The tuner with clocks and problems that are known, and the workbench on small models."""

import sys
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit import registry
from wmkit.contracts import ModelSpec, ObservationSpec, Rollout
from wmkit.control import Controller
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig
from wmkit.errors import UserError
from wmkit.evaluation.manifest import load_manifest
from wmkit.model_folder import resolve
from wmkit.models import Ensemble, LeWM, LeWMConfig, SequenceConfig, SimulatorModel
from wmkit.planners import CEM, GoalObjective
from wmkit.tuning import (
    CostModel,
    Grid,
    Options,
    PlanningBench,
    Probe,
    Problems,
    Setting,
    Way,
    applied,
    fit,
    random_problems,
    staged_problems,
    tune,
    ways,
)
from wmkit.tuning.ways import has_bfloat16

EXACT, FAST, SHORT = Way("reference"), Way("fast"), Way("fast", "bfloat16")
RNG = np.random.default_rng(0)
PROBLEMS = RNG.uniform(0.5, 1.5, 40)


@dataclass
class FakeBench:
    """A machine whose seconds are overhead + iterations x (iteration + candidate x samples), and `surprise` beyond.

    Plans cost PROBLEMS plus what is left of 9 after `gain` of the setting, in [0, 1].
    """

    models: dict = field(default_factory=lambda: {FAST: (0.002, 0.0005, 1e-5)})
    gain: object = staticmethod(lambda s: 1 - 1 / (1 + s.iterations * s.samples**0.5))
    surprise: object = staticmethod(lambda setting, seconds: seconds)
    shares: dict = field(default_factory=dict)
    noise: float = 0.0
    timed: list = field(default_factory=list)
    solved: list = field(default_factory=list)

    def _exact(self, setting):
        overhead, iteration, candidate = self.models[setting.way]
        return overhead + setting.iterations * (iteration + candidate * setting.samples)

    def seconds(self, setting, decisions, limit=None):
        if limit is not None:
            self.timed.append(setting)
        seconds = self._exact(setting)
        return (self.surprise(setting, seconds) if limit is not None else seconds,) * decisions

    def costs(self, setting):
        self.solved.append(setting)
        noise = np.random.default_rng([setting.samples, setting.iterations]).normal(0, self.noise, len(PROBLEMS))
        return PROBLEMS + 9 * (1 - self.gain(setting)) + noise

    def random_costs(self):
        return PROBLEMS + 9

    def agreement(self, way):
        return self.shares.get(way, 1.0)


GRID = Grid((8, 16, 32, 64, 128, 256, 512), 30)


def _optimum(bench, deadline, all_ways):
    """Return the best gain within the deadline, over the whole grid."""
    settings = [Setting(n, i, way) for n in GRID.samples for i in range(1, 31) for way in all_ways]
    return max(bench.gain(s) for s in settings if bench._exact(s) <= deadline)


@pytest.mark.parametrize("deadline", [0.004, 0.01, 0.02, 0.05])
@pytest.mark.parametrize("power", [0.2, 0.5, 1.0])
def test_the_known_optimum_is_found(deadline, power):
    bench = FakeBench(gain=lambda s: 1 - 1 / (1 + s.iterations * s.samples**power))
    trade = tune(bench, [FAST], deadline, GRID)
    assert trade.chosen.made
    assert trade.chosen.p99 <= deadline
    assert bench.gain(trade.chosen.setting) == pytest.approx(_optimum(bench, deadline, [FAST]))


def test_quality_decides_and_not_the_number_of_rollouts():
    bench = FakeBench(gain=lambda s: 1 - 1 / (1 + min(s.iterations, 6) ** 2))
    trade = tune(bench, [FAST], 0.02, GRID)
    assert trade.chosen.setting.iterations >= 6
    biggest = max(trade.rows, key=lambda row: row.setting.rollouts)
    assert trade.chosen.setting.rollouts < biggest.setting.rollouts
    assert trade.chosen.regret == pytest.approx(min(row.regret for row in trade.rows))


def test_of_plans_that_cannot_be_told_apart_the_fastest_is_taken():
    bench = FakeBench(gain=lambda s: 0.9, noise=0.01)
    trade = tune(bench, [FAST], 0.02, GRID)
    made = [row for row in trade.rows if row.made]
    assert len(made) > 1
    within = [row for row in made if row.regret <= min(other.regret for other in made) + 1e-4]
    assert trade.chosen.p99 <= min(row.p99 for row in within)
    assert trade.chosen.p99 < 0.75 * max(row.p99 for row in made)


def test_it_steps_down_where_the_prediction_was_too_good():
    late = FakeBench(surprise=lambda s, seconds: seconds * (1.6 if s.iterations > 4 else 1.0))
    trade = tune(late, [FAST], 0.015, GRID)
    assert trade.chosen.p99 <= 0.015
    assert any(not row.made for row in trade.rows)
    allowed = [
        late.gain(Setting(n, i, FAST))
        for n in GRID.samples
        for i in range(1, 31)
        if late.surprise(Setting(n, i), late._exact(Setting(n, i, FAST))) <= 0.015
    ]
    assert late.gain(trade.chosen.setting) >= np.quantile(allowed, 0.95)


def test_it_steps_up_where_the_prediction_was_too_bad():
    bench = FakeBench(surprise=lambda s, seconds: seconds * 0.5)
    slow = FakeBench()
    deadline = 0.015
    found = tune(bench, [FAST], deadline, GRID).chosen.setting
    assert bench.gain(found) > slow.gain(tune(slow, [FAST], deadline, GRID).chosen.setting)
    assert 0.5 * bench._exact(found) > 0.8 * deadline


def test_the_neighbours_that_miss_are_shown():
    trade = tune(FakeBench(), [FAST], 0.02, GRID)
    chosen = trade.chosen.setting
    missed = [row.setting for row in trade.rows if not row.made]
    assert any(s.samples == chosen.samples and s.iterations > chosen.iterations for s in missed)
    assert any(s.samples > chosen.samples and s.iterations == chosen.iterations for s in missed)


def test_a_choice_that_misses_when_it_is_timed_again_is_dropped():
    calls = {}

    def twice(setting, seconds):
        calls[setting] = calls.get(setting, 0) + 1
        return seconds * (3 if calls[setting] > 1 and len([c for c in calls.values() if c > 1]) == 1 else 1)

    trade = tune(FakeBench(surprise=twice), [FAST], 0.02, GRID)
    dropped = [row for row in trade.rows if len(row.seconds) > 200 and not row.made]
    assert len(dropped) == 1
    assert dropped[0].setting != trade.chosen.setting
    assert len(trade.chosen.seconds) == 400


def test_a_deadline_that_nothing_meets_says_the_best_that_can_be_done():
    bench = FakeBench({FAST: (0.002, 0.0005, 1e-5), EXACT: (0.004, 0.0005, 1e-5)})
    with pytest.raises(
        UserError, match=r"within 2 ms.*2\.58 ms at p99.*8 candidates and 1 iteration \(fast, float32\)"
    ):
        tune(bench, [EXACT, FAST], 0.002, GRID)
    assert not bench.solved
    assert set(bench.timed) == {Setting(8, 1, FAST), Setting(8, 1, EXACT)}


def test_a_deadline_that_only_the_prediction_meets_is_refused_too():
    bench = FakeBench(surprise=lambda setting, seconds: 10 * seconds)
    with pytest.raises(UserError, match=r"25\.8 ms at p99"):
        tune(bench, [FAST], 0.02, GRID)


def test_reduced_precision_is_taken_where_it_ranks_alike_and_not_where_it_does_not():
    models = {FAST: (0.002, 0.0005, 1e-5), SHORT: (0.002, 0.0002, 3e-6)}
    assert tune(FakeBench(models), [FAST, SHORT], 0.02, GRID).chosen.setting.way == SHORT
    trade = tune(FakeBench(models, shares={SHORT: 0.94}), [FAST, SHORT], 0.02, GRID)
    assert trade.chosen.setting.way == FAST
    assert "94.0%" in trade.refused[SHORT]
    assert all(row.setting.way == FAST for row in trade.rows)
    with pytest.raises(UserError, match=r"94\.0%"):
        tune(FakeBench(models, shares={SHORT: 0.94}), [SHORT], 0.02, GRID)


def test_reduced_precision_that_spoils_the_plans_is_not_taken():
    models = {FAST: (0.002, 0.0005, 1e-5), SHORT: (0.002, 0.0002, 3e-6)}
    gain = FakeBench().gain
    bench = FakeBench(models, gain=lambda s: gain(s) * (0.5 if s.way == SHORT else 1.0))
    assert tune(bench, [FAST, SHORT], 0.02, GRID).chosen.setting.way == FAST


def test_a_way_that_fails_is_left_out_with_its_reason():
    class Broken(FakeBench):
        def seconds(self, setting, decisions, limit=None):
            if setting.way == EXACT:
                raise ValueError("width 37 is not handled\nmore")
            return super().seconds(setting, decisions, limit)

    trade = tune(Broken(), [EXACT, FAST], 0.02, GRID)
    assert trade.refused == {EXACT: "width 37 is not handled"}
    with pytest.raises(UserError, match="width 37"):
        tune(Broken(), [EXACT], 0.02, GRID)


def test_planners_that_do_not_refine_get_one_iteration():
    trade = tune(FakeBench(), [FAST], 0.006, replace(GRID, iterations=1))
    assert trade.chosen.setting == Setting(256, 1, FAST)
    assert {row.setting.iterations for row in trade.rows} == {1}
    assert trade.long.iterations == 1


def test_regret_is_0_for_the_best_known_and_1_for_chance():
    trade = tune(FakeBench(gain=lambda s: min(1.0, s.rollouts / 4000)), [FAST], 0.02, GRID)
    regrets = {row.setting: row.regret for row in trade.rows}
    for setting, regret in regrets.items():
        assert regret == pytest.approx(1 - min(1.0, setting.rollouts / 4000))
    assert 0.05 < FakeBench()._exact(trade.long) <= 0.2
    assert trade.long.rollouts > max(setting.rollouts for setting in regrets)


def test_costs_that_are_not_finite_count_as_chance():
    bench = FakeBench(gain=lambda s: float("-inf") if s.samples == 64 else 0.8)
    trade = tune(bench, [FAST], 0.02, Grid((8, 64), 30), Options(verify=9))
    assert {row.regret for row in trade.rows if row.setting.samples == 64} == {1.0}
    assert trade.chosen.setting.samples == 8


@pytest.mark.parametrize("call", [lambda: tune(FakeBench(), [], 0.02), lambda: tune(FakeBench(), [FAST], 0.0)])
def test_nothing_to_tune_is_refused(call):
    with pytest.raises(ValueError, match="nothing to tune"):
        call()


def test_the_trade_as_json_has_every_number():
    trade = tune(FakeBench(), [FAST], 0.02, GRID)
    found = trade.to_json()
    assert found["deadline"] == 0.02
    assert found["chosen"]["samples"] == trade.chosen.setting.samples
    assert len(found["rows"]) == len(trade.rows)
    assert found["cost_models"]["fast, float32"]["iteration"] == pytest.approx(0.0005)


@given(
    st.floats(0, 0.01),
    st.floats(1e-5, 0.01),
    st.floats(1e-7, 1e-4),
    st.sampled_from([(8, 512), (16, 64), (8, 32)]),
)
def test_the_cost_model_is_found_from_probes(overhead, iteration, candidate, sizes):
    few, many = sizes
    true = CostModel(overhead, iteration, candidate)
    places = [(few, 1), (few, 4), (many, 1), ((few + many) // 2, 2)]
    found = fit([Probe(n, i, (true.seconds(n, i),) * 5) for n, i in places])
    for n, i in [*places, (many, 8), (few, 30)]:
        assert found.seconds(n, i) == pytest.approx(true.seconds(n, i), rel=1e-3)
    assert found.tail == 1.0


@given(st.floats(0, 0.01), st.floats(0, 0.01), st.floats(0, 1e-4), st.integers(1, 999), st.floats(1e-4, 1.0))
def test_the_most_iterations_fit_and_one_more_does_not(overhead, iteration, candidate, samples, deadline):
    model = CostModel(overhead, iteration, candidate, tail=1.2)
    most = model.most_iterations(samples, deadline, 50)
    assert 0 <= most <= 50
    if most:
        assert model.seconds(samples, most) <= deadline * 1.000001
    if most < 50:
        assert model.seconds(samples, most + 1) >= deadline * 0.999999


def test_no_part_of_the_cost_model_is_negative():
    noisy = [Probe(8, 1, (0.01,)), Probe(8, 4, (0.009,)), Probe(64, 1, (0.008,)), Probe(32, 2, (0.012,))]
    found = fit(noisy)
    assert min(found.overhead, found.iteration, found.candidate) >= 0
    assert found.seconds(8, 1) == pytest.approx(0.01, rel=0.3)


def test_slow_decisions_are_allowed_for():
    assert fit([Probe(8, 1, (0.01,) * 9 + (0.02,)), Probe(8, 1, (0.01,) * 10)]).tail == pytest.approx(1.05, abs=0.06)
    assert fit([Probe(8, 1, (0.01, 0.01, 0.03))]).tail > 2


@pytest.mark.parametrize("samples", [(), (0, 8), (8, 8), (16, 8)])
def test_a_grid_has_increasing_sizes(samples):
    with pytest.raises(ValueError, match="increasing"):
        Grid(samples)


class Line:
    """A point on a line in D = 2, pushed by each action; `wrong` spoils what bfloat16 imagines."""

    spec = ModelSpec({"state": ObservationSpec((2,), "float64", -1.0, 1.0)}, (-0.1, -0.1), (0.1, 0.1), 2, 2, 2, 0.1)
    rollout_path = "auto"

    def __init__(self, wrong=0.0, luck=0.0):
        self.rollout_dtype, self.wrong, self.luck, self.seen = None, wrong, luck, set()

    def encode(self, observations):
        return torch.as_tensor(observations["state"])

    def rollout(self, context, actions, generator=None):
        self.seen.add((self.rollout_path, self.rollout_dtype, torch.get_num_threads()))
        steps = actions.unflatten(-1, (2, 2)).sum(dim=-2).cumsum(dim=2)
        latents = context.latents[:, None, -1:] + steps
        if self.rollout_dtype is not None:
            latents = latents + self.wrong * torch.sin(1e4 * latents)
        noise = torch.randn(latents.shape, generator=generator, dtype=latents.dtype)
        return Rollout(latents + self.luck * noise)


def _maker(model):
    return lambda s: Controller(
        CEM(model, horizon=3, samples=s.samples, iterations=s.iterations, elites=4), GoalObjective
    )


def _bench(model=None, **options):
    model = model or Line()
    return PlanningBench(model, _maker(model), random_problems(model.spec, 11), **options)


def test_the_workbench_times_real_decisions():
    bench = _bench()
    seconds = bench.seconds(Setting(16, 2), 12)
    assert len(seconds) == 12
    assert min(seconds) > 0
    assert len(_bench(batch=3).seconds(Setting(16, 2), 5)) == 5


def test_the_workbench_stops_early_once_a_setting_has_missed():
    bench = _bench()
    assert len(bench.seconds(Setting(16, 2), 200, limit=1e-9)) == 20
    assert len(bench.seconds(Setting(16, 2), 40, limit=60.0)) == 40


def test_more_search_costs_less_and_chance_most():
    bench = _bench()
    few, many = bench.costs(Setting(8, 1)), bench.costs(Setting(128, 8))
    assert few.shape == many.shape == bench.random_costs().shape == (11,)
    assert many.mean() < few.mean() < bench.random_costs().mean()
    assert np.array_equal(few, bench.costs(Setting(8, 1)))


def test_plans_are_costed_by_the_exact_rollout():
    spoiled = _bench(Line(wrong=0.5))
    exact, short = Setting(64, 4), Setting(64, 4, Way("fast", "bfloat16"))
    assert np.allclose(spoiled.costs(exact), _bench().costs(exact))
    assert spoiled.costs(short).mean() > 1.05 * spoiled.costs(exact).mean()


def test_agreement_is_of_the_best_candidates():
    assert _bench().agreement(Way("fast", "bfloat16")) == 1.0
    assert 0.05 < _bench(Line(wrong=0.5)).agreement(Way("fast", "bfloat16")) < 0.9


def test_a_stochastic_model_is_costed_by_the_mean_of_several_rollouts():
    bench, steady = _bench(Line(luck=0.3)), _bench()
    assert bench._draws > 1
    assert steady._draws == 1
    assert bench.random_costs().mean() == pytest.approx(steady.random_costs().mean() + 2 * 0.3**2, rel=0.05)
    assert bench.costs(Setting(64, 4)).mean() > steady.costs(Setting(64, 4)).mean() + 0.1


def test_a_way_is_applied_and_undone():
    model, threads = Line(), torch.get_num_threads()
    with pytest.raises(ValueError, match="B = 1"), applied(model, Way("fast", "bfloat16", 1)):
        raise ValueError(f"B = {torch.get_num_threads()}, {model.rollout_path}")
    assert (model.rollout_path, model.rollout_dtype, torch.get_num_threads()) == ("auto", None, threads)
    plain = SimulatorModel.from_task("pusht")
    with applied(plain, Way("fast", "bfloat16", 1)):
        assert not hasattr(plain, "rollout_path")


def test_a_setting_is_computed_in_its_way():
    model = Line()
    bench = _bench(model)
    model.seen.clear()
    bench.seconds(Setting(16, 1, Way("fast", "bfloat16", 1)), 3)
    assert model.seen == {("fast", torch.bfloat16, 1)}


def test_what_a_model_offers():
    found = ways(Line(), "cpu", [1])
    assert found[:2] == [Way("reference", "float32", 1), Way("fast", "float32", 1)]
    assert found[2:] == ([Way("fast", "bfloat16", 1)] if has_bfloat16(torch.device("cpu")) else [])
    assert ways(SimulatorModel.from_task("pusht"), "cpu", [2]) == [Way(None, "float32", 2)]
    assert {way.threads for way in ways(Line(), "cpu")} >= {1}


def test_threads_keep_to_what_may_be_used(monkeypatch):
    monkeypatch.setattr(sys.modules[ways.__module__], "usable_cpus", lambda: 6)
    assert [way.threads for way in ways(SimulatorModel.from_task("pusht"), "cpu")] == [6, 3, 1]


def test_the_whole_on_a_model():
    trade = tune(
        _bench(), ways(Line(), "cpu", [1])[1:2], 0.5, Grid((8, 16), 3), Options(decisions=20, verify=2, probes=3)
    )
    assert trade.chosen.made
    assert 0 <= trade.chosen.regret < 0.5


def test_an_environment_shows_starts_and_goals():
    config = LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=2, encoder_options={"channels": (8, 8, 8)})
    model = LeWM(config)
    manifest = load_manifest(resolve("pretrained:pusht-tiny") / "manifest-pusht-short.json")
    problems = staged_problems(model.spec, registry.load("environments", "pusht"), manifest, 3)
    assert problems.observations["pixels"].shape == (3, 1, 32, 32, 3)
    assert problems.actions.shape == (3, 0, 10)
    assert problems.goals is not None
    assert not np.array_equal(problems.goals["pixels"], problems.observations["pixels"][:, 0])
    assert "pusht short" in problems.label


def test_starts_of_an_environment_without_goals_differ():
    model = SimulatorModel.from_task("walker")
    problems = staged_problems(model.spec, registry.load("environments", "walker"), None, 4, seed=3)
    states = problems.observations["state"][:, 0]
    assert problems.goals is None
    assert states.shape == (4, 18)
    assert len(np.unique(states.round(6), axis=0)) == 4


def test_random_problems_are_within_what_the_model_observes():
    spec = replace(
        Line.spec,
        observations={
            "pixels": ObservationSpec((4, 4, 3), "uint8", 0, 255),
            "state": ObservationSpec((3,), "float64", -np.inf, np.inf),
        },
    )
    problems = random_problems(spec, 5)
    assert isinstance(problems, Problems)
    assert problems.observations["pixels"].dtype == np.uint8
    assert np.isfinite(problems.observations["state"]).all()
    assert len(problems) == 5
    assert problems.goals is not None
    assert not np.array_equal(problems.goals["state"], problems.observations["state"][:, 0])


def _dynamics(kind):
    """Return a small model of a registered kind, and problems for it."""
    if kind == "simulator":
        model = SimulatorModel.from_task("pusht")
        manifest = load_manifest(resolve("pretrained:pusht-tiny") / "manifest-pusht-short.json")
        return model, staged_problems(model.spec, registry.load("environments", "pusht"), manifest, 2)
    torch.manual_seed(0)
    if kind == "lewm":
        options = {"channels": (8, 8, 8), "hidden": 16}
        model = LeWM(LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=2, encoder_options=options))
        model.set_action_statistics([0, 0], [0.5, 0.5])
        return model, random_problems(model.spec, 3)
    features = FeatureConfig(4, 2, horizon=4)
    config = SequenceConfig(
        features=features,
        action_low=(-1.0, -1.0),
        action_high=(1.0, 1.0),
        action_repeat=1,
        seconds_per_step=0.1,
        network={"width": 16, "depth": 1, "heads": 2, "mlp_size": 16, "patch": 2},
        diffusion=DiffusionConfig(train_steps=10),
    )
    members = [registry.load("models", "diffusion" if kind == "ensemble" else kind)(config) for _ in range(2)]
    for member in members:
        member.features.fit(torch.randn(20, 5, 4), torch.randn(20, 4, 2))
    model = Ensemble(members) if kind == "ensemble" else members[0]
    return model.eval(), random_problems(model.spec, 3)


@pytest.mark.parametrize("kind", registry.names("models"))
def test_every_registered_model_can_be_tuned(kind):
    model, problems = _dynamics(kind)
    bench = PlanningBench(model, _maker(model), problems)
    exact = [way for way in ways(model, "cpu", [1]) if way.dtype == "float32"]
    options = Options(decisions=3, verify=1, probes=2, long=0.02)
    trade = tune(bench, exact, 10.0, Grid((6, 8), 2), options)
    assert trade.chosen.made
    assert np.isfinite(trade.chosen.regret)
    assert trade.chosen.regret < 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_can_be_tuned():
    model, problems = _dynamics("lewm")
    bench = PlanningBench(model.to("cuda"), _maker(model), problems)
    trade = tune(bench, ways(model, "cuda"), 1.0, Grid((6, 8), 2), Options(decisions=5, verify=1, probes=2))
    assert trade.chosen.made
    assert {way.threads for way in trade.models} == {None}
