"""What every registered planner must do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integrators import double_integrators
from registered import NAMES, SETTINGS, SMALL, Walk, at, fresh, make, settings_of

from wmkit.conformance import check_planner
from wmkit.contracts import Context, PlanningBudget
from wmkit.planners import CertaintyStop, DecodedObjective, GaussianProposal, GoalObjective, Hold, Spline

REPEAT = 2
WAYS = {
    "plain": lambda model: {},
    "smooth": lambda model: {
        "noise_exponent": 1.5,
        "decay": 1.3,
        "max_rate": 6.0,
        "parametrisation": Spline(4),
        "certainty": CertaintyStop(tolerance=0.1),
    },
    "proposed": lambda model: {
        "proposal": GaussianProposal(model, std=0.3, mean=torch.tensor([0.2, -0.2] * REPEAT)),
        "proposal_share": 0.4,
        "parametrisation": Hold(2),
        "noise_knots": 2,
        "certainty": CertaintyStop(tolerance=0.2, max_iterations=9),
    },
}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


def planner_and_inputs(name, way):
    """Return a planner with a way's options, and two contexts with warm starts."""
    model = double_integrators(repeat=REPEAT)
    options = SMALL | {"samples": 40, "iterations": 6} | WAYS[way](model)
    states = torch.tensor([[1.0, -0.5, 0.2, 0.1], [0.0, 0.0, 0.0, 0.0], [-0.6, -0.2, 0.0, 0.5]])
    context = Context(states[:, None], torch.zeros(3, 0, 2 * REPEAT), last_action=torch.full((3, 2), 0.1))
    warm = torch.linspace(-0.5, 0.5, 3 * 3 * 2 * REPEAT).view(3, 3, -1)
    return make(name, model, **options), context, GoalObjective(torch.zeros(3, 4), "mean"), warm


def test_the_table_of_settings_covers_the_registry_and_nothing_else():
    assert sorted(SETTINGS) == NAMES


def test_bounds_hold_where_they_bind(name, model, context):
    planner = make(name, model, **(settings_of(name) | {"horizon": 2}))
    plan = planner.plan(context, GoalObjective(torch.full((3, 4), 50.0)))
    assert plan.actions.abs().max() <= 2.0
    assert plan.actions[:, 0].min() > 1.7, "pushing at full strength is best here"


def test_batched_equals_looped(name, way):
    planner, context, objective, warm = planner_and_inputs(name, way)
    if planner.certainty is not None and planner.certainty.max_iterations is not None:
        planner.certainty = CertaintyStop(tolerance=0.2)
    batched = planner.plan(context, objective, warm, generator=fresh())
    for row in range(3):
        index = torch.tensor([row])
        alone = planner.plan(context.select(index), objective.select(index), warm[index], generator=fresh())
        torch.testing.assert_close(batched.actions[row], alone.actions[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(batched.cost[row], alone.cost[0], rtol=1e-4, atol=1e-4)
        assert batched.row_iterations[row] == alone.row_iterations[0]
        assert batched.certain[row] == alone.certain[0]


@pytest.mark.parametrize("limit", [1, 1000])
def test_chunked_equals_whole(name, way, limit):
    planner, context, objective, warm = planner_and_inputs(name, way)
    whole = planner.plan(context, objective, warm, generator=fresh())
    chunked = planner.plan(context, objective, warm, PlanningBudget(bytes=limit), generator=fresh())
    torch.testing.assert_close(chunked.actions, whole.actions, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chunked.latents, whole.latents, rtol=1e-4, atol=1e-4)
    assert torch.equal(chunked.row_iterations, whole.row_iterations)


def test_the_generator_decides(name, way):
    planner, context, objective, warm = planner_and_inputs(name, way)
    first, again, other = (planner.plan(context, objective, warm, generator=fresh(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, other.actions)


def test_never_worse_than_a_good_warm_start(name, way):
    planner, context, objective, _ = planner_and_inputs(name, way)
    good = planner.plan(context, objective, generator=fresh())
    warm = planner.plan(context, objective, good.actions, generator=fresh(9))
    reached = objective.cost(planner.model.rollout(context, good.actions[:, None]), good.actions[:, None])[:, 0]
    torch.testing.assert_close(reached, good.cost)
    assert (warm.cost <= 1.05 * good.cost + 0.01).all(), "averages, as MPPI takes them, may lose a little"


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(NAMES),
    rate=st.floats(0.1, 60.0),
    last=st.floats(-2.0, 2.0),
    parametrisation=st.sampled_from([Hold(1), Hold(3), Spline(2, "zero"), Spline(3, "linear"), Spline(3, "cubic")]),
    seed=st.integers(0, 99),
)
def test_actions_change_no_faster_than_allowed_the_first_included(name, rate, last, parametrisation, seed):
    model = double_integrators(repeat=REPEAT)
    planner = make(name, model, **SMALL, max_rate=[rate, 2 * rate], parametrisation=parametrisation)
    before = torch.tensor([[last, -last], [-last, last]])
    context = Context(torch.randn(2, 1, 4, generator=fresh(seed)), torch.zeros(2, 0, 2 * REPEAT), last_action=before)
    warm = 2 * torch.randn(2, 3, 2 * REPEAT, generator=fresh(seed))
    plan = planner.plan(context, GoalObjective(torch.zeros(2, 4)), warm, generator=fresh(seed))
    single = torch.cat([before[:, None], plan.actions.view(2, -1, 2)], dim=1)
    step = rate * model.spec.seconds_per_step / REPEAT
    assert (single.diff(dim=1).abs() <= torch.tensor([step, 2 * step]) + 1e-5).all()
    assert single.abs().max() <= 2.0


def test_a_best_candidate_without_a_finite_cost_never_wins(name):
    """NaN where the position would be best, above 0.5: the plan stops short of it."""

    def cost(values, actions):
        position = values[..., 0]
        return torch.where(position > 0.5, torch.nan, (1.0 - position).square())

    model = Walk()
    planner = make(name, model, **(SMALL | {"samples": 64, "iterations": 8, "horizon": 2}))
    objective = DecodedObjective(cost, "state", model, reduce="last")
    plan = planner.plan(at(0.0, -0.2), objective, torch.full((2, 2, 1), 0.1), generator=fresh())
    assert torch.isfinite(plan.cost).all()
    assert (plan.latents[:, -1, 0] <= 0.5).all()
    assert (plan.latents[:, -1, 0] > 0.3).all()
    assert plan.non_finite > 0


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(NAMES),
    samples=st.integers(1, 30),
    iterations=st.integers(1, 12),
    decay=st.sampled_from([1.0, 1.25, 2.0]),
    rollouts=st.integers(1, 200),
    schedule=st.sampled_from(["fit", "truncate"]),
)
def test_rollouts_are_never_exceeded(name, samples, iterations, decay, rollouts, schedule):
    model = Walk()
    planner = (
        make(name, model, horizon=2, samples=samples, iterations=iterations, decay=decay, schedule=schedule, elites=1)
        if name in ("cem", "icem")
        else make(name, model, horizon=2, samples=samples, iterations=iterations, decay=decay, schedule=schedule)
    )
    plan = planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), budget=PlanningBudget(rollouts=rollouts))
    assert sum(model.sizes) <= rollouts
    assert 1 <= plan.iterations <= iterations


def test_keeps_the_contract(name, model):
    check_planner(make(name, model, horizon=3))


def test_creates_nothing_on_the_default_device(name):
    planner, context, objective, warm = planner_and_inputs(name, "smooth")
    planner.parametrisation = Spline(3 + NAMES.index(name), "cubic")
    with torch.device("meta"):
        plan = planner.plan(context, objective, warm, generator=fresh())
    expected = planner.plan(context, objective, warm, generator=fresh())
    assert plan.actions.device.type == "cpu"
    assert torch.equal(plan.actions, expected.actions)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_runs_on_the_gpu(name, model, context):
    on_gpu = Context(context.latents.cuda(), context.actions.cuda(), None, None)
    plan = make(name, model).plan(on_gpu, GoalObjective(torch.zeros(3, 4, device="cuda")))
    assert plan.actions.is_cuda


def test_plans_where_there_is_only_one_action_of_one_number(name):
    """M = 1 with coloured noise, and a horizon of one."""
    planner = make(name, Walk(), **(SMALL | {"horizon": 1, "samples": 64}), noise_exponent=2.0)
    plan = planner.plan(at(0.0), GoalObjective(torch.full((1, 1), 0.5)), generator=fresh())
    assert plan.latents.item() == pytest.approx(0.5, abs=0.1)


def test_one_candidate_is_the_guess_itself(name):
    planner = make(name, Walk(), horizon=2, samples=1, iterations=1, noise_exponent=1.0)
    plan = planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), torch.full((1, 2, 1), 0.3), generator=fresh())
    torch.testing.assert_close(plan.actions, torch.full((1, 2, 1), 0.3))
