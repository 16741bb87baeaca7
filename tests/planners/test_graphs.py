"""Recorded decisions equal those with the host in the loop, decision after decision.

Without a GPU the recorder is the plain one, which calls the recorded function again on the same static inputs and
overwrites the same results.
"""

import copy
import threading
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from integrators import double_integrators
from registered import NAMES, Walk, at, fresh, make

from wmkit.contracts import Context, PlanningBudget
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, ActionCost, CertaintyStop, DecodedObjective, GaussianProposal, GoalObjective, Spline
from wmkit.planners.graph_recorders import PlainRecorder
from wmkit.planners.graphs import Graphs

ON_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
RECORDED = [name for name in NAMES if name != "gradient"]
WAYS = {
    "plain": lambda model: {"candidates": 3},
    "smooth": lambda model: {"noise_exponent": 1.5, "decay": 1.3, "max_rate": 6.0, "parametrisation": Spline(4)},
    "proposed": lambda model: {"proposal": GaussianProposal(model, std=0.3), "proposal_share": 0.4, "noise_knots": 2},
    "certain": lambda model: {"certainty": CertaintyStop(window=2, tolerance=0.12), "candidates": 2},
}


def recorded(planner):
    """Return the planner, whose decisions are recorded by the plain recorder."""
    planner._graphs = Graphs(PlainRecorder, "cpu")
    return planner


def decisions(device="cpu"):
    """Return contexts, objectives and warm starts of decisions in a row, with other numbers, then other shapes."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for batch, warmed, reduce in ((3, True, "mean"), (3, True, "mean"), (2, False, "mean"), (3, True, "last")) * 2:
        states, goal = (torch.randn(batch, 4, generator=generator).to(device) for _ in range(2))
        last = torch.randn(batch, 2, generator=generator).to(device)
        actions = torch.zeros(batch, 0, 4, device=device)
        warm = torch.randn(batch, 3, 4, generator=generator).to(device) if warmed else None
        context = Context(states[:, None], actions, None, goal, last)
        found.append((context, GoalObjective(goal, reduce) + 0.01 * ActionCost(), warm))
    return found


def assert_same(plan, expected, exactly=True):
    """Compare all that two plans say; not exactly where rows have left a batch, which moves the last digits."""
    rtol, atol = (0.0, 0.0) if exactly else (1e-4, 1e-5)
    for name in ("actions", "cost", "latents", "candidates", "row_iterations", "certain"):
        torch.testing.assert_close(
            getattr(plan, name), getattr(expected, name), rtol=rtol, atol=atol, msg=f"{name} differs"
        )
    for name in ("iterations", "stopped", "non_finite"):
        assert getattr(plan, name) == getattr(expected, name), name


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


def pair(name, way, **options):
    """Return two planners alike: with recordings, and without."""
    model = double_integrators(repeat=2)
    settings = {"horizon": 3, "samples": 40, "iterations": 6} | WAYS[way](model) | options
    return recorded(make(name, model, **settings)), make(name, model, **settings, graph=False)


def test_recorded_equals_the_host_over_decisions_in_a_row(name, way):
    planner, host = pair(name, way)
    plans = []
    for context, objective, warm in decisions():
        plan, expected = (p.plan(context, objective, warm) for p in (planner, host))
        assert_same(plan, expected, exactly=way != "certain")
        plans.append((plan, copy.deepcopy(plan)))
    for plan, then in plans:
        assert_same(plan, then)  # a later decision must not write into an earlier plan
    assert (planner._graphs.recordings, planner._graphs.replays) == ((0, 0) if name == "gradient" else (3, 5))


def test_the_generator_of_the_call_ends_where_the_host_leaves_it(name, way):
    planner, host = pair(name, way)
    ours, theirs = fresh(), fresh()
    for context, objective, warm in decisions():
        planner.plan(context, objective, warm, generator=ours)
        host.plan(context, objective, warm, generator=theirs)
        assert torch.equal(ours.get_state(), theirs.get_state())
    own = planner._own_generator(torch.device("cpu")).get_state()
    assert torch.equal(own, torch.Generator().manual_seed(0).get_state()), "the planner's own was not asked for"


@pytest.mark.parametrize("name", RECORDED)
def test_settled_rows_are_frozen_as_if_they_had_left(name):
    """At and away from the goal, so that they settle at different times; and iterations in vain do not count."""
    model = double_integrators(repeat=2)
    options = {"horizon": 4, "samples": 64, "iterations": 25, "decay": 1.02}
    rule = CertaintyStop(window=3, tolerance=0.04 if name != "random-shooting" else 0.4)
    planner, host = (make(name, model, certainty=rule, **options) for _ in range(2))
    recorded(planner)
    iterations = set()
    for seed in range(3):
        states = torch.tensor([[0.0] * 4, [1.5, -1.0, 1.0, 1.0], [0.1, 0.0, 0.0, 0.0], [-2.0, 2.0, 0.0, 0.0]])
        context = Context((states + 0.1 * seed)[:, None], torch.zeros(4, 0, 4))
        plan, expected = (p.plan(context, GoalObjective(torch.zeros(4, 4), "sum")) for p in (planner, host))
        assert_same(plan, expected, exactly=False)
        iterations |= set(expected.row_iterations.tolist())
    assert len(iterations) > 1, "otherwise this test proves little"


def test_one_iteration_at_most_runs_in_vain():
    model, rule = Walk(), CertaintyStop(tolerance=9.0)
    planner = recorded(CEM(model, horizon=1, samples=8, iterations=20, elites=2, certainty=rule))
    objective = GoalObjective(torch.ones(1, 1))
    planner.plan(at(0.0), objective, generator=fresh())
    model.sizes.clear()
    plan = planner.plan(at(0.0), objective, generator=fresh())
    assert (plan.iterations, plan.stopped) == (2, "certain")
    assert len(model.sizes) <= 4


def test_seconds_drop_the_last_iterations_only():
    planner = recorded(CEM(Walk(), horizon=1, samples=8, iterations=20, elites=2))
    inputs = at(0.0), GoalObjective(torch.ones(1, 1))
    planner.plan(*inputs, budget=PlanningBudget(seconds=1e-9))
    late = planner.plan(*inputs, budget=PlanningBudget(seconds=1e-9))
    assert (late.iterations, late.stopped) == (1, "seconds")
    enough = planner.plan(*inputs, budget=PlanningBudget(seconds=60), generator=fresh())
    assert (enough.iterations, enough.stopped) == (20, "iterations")
    assert_same(enough, CEM(Walk(), horizon=1, samples=8, iterations=20, elites=2).plan(*inputs, generator=fresh()))
    assert planner._graphs.recordings == 1


def test_pending_actions_and_histories_have_shapes_of_their_own():
    model = LinearModel(torch.eye(1), torch.eye(1), history=3)
    settings = {"horizon": 2, "samples": 8, "iterations": 3, "elites": 2}
    planner, host = recorded(CEM(model, **settings)), CEM(model, **settings)
    for known, pending in ((1, 0), (2, 0), (1, 1), (3, 2), (2, 0)):
        latents, actions = torch.randn(2, known, 1), torch.randn(2, known - 1, 1)
        context = Context(latents, actions, 0.1 * torch.randn(2, pending, 1))
        assert_same(*(p.plan(context, GoalObjective(torch.ones(2, 1))) for p in (planner, host)))
    assert planner._graphs.recordings == 5 - 1, "with and without a last action differ"


def test_settings_weights_and_switches_are_part_of_what_is_recorded():
    class Switched(Walk):
        net, rollout_dtype = torch.nn.Linear(1, 1), None

    walk: Any = Switched()
    walk.net = model = torch.nn.Linear(1, 1)
    planner = recorded(CEM(walk, horizon=2, samples=8, iterations=2, elites=2))
    inputs = at(0.0), GoalObjective(torch.ones(1, 1))

    def news():
        before = planner._graphs.recordings
        planner.plan(*inputs)
        planner.plan(*inputs)
        return planner._graphs.recordings - before

    assert news() == 1
    planner.std = 0.3
    assert news() == 1
    with torch.no_grad():
        model.weight.add_(1)
    assert news() == 1
    walk.rollout_dtype = torch.bfloat16
    assert news() == 1
    assert news() == 0


def test_shapes_are_forgotten_in_the_order_of_their_last_use():
    planner = recorded(CEM(Walk(), samples=8, iterations=2, elites=2))
    inputs = at(0.0), GoalObjective(torch.ones(1, 1))
    for horizon in (1, 2, 3, 1, 4, 5, 6, 1, 7, 8, 9):
        planner.plan(*inputs, horizon=horizon)
        planner.plan(*inputs, horizon=horizon)
    assert planner._graphs.recordings == 9
    planner.plan(*inputs, horizon=1)
    assert planner._graphs.recordings == 9
    planner.plan(*inputs, horizon=2)
    assert planner._graphs.recordings == 10


def test_shapes_that_never_come_again_are_soon_planned_without():
    planner = recorded(CEM(Walk(), horizon=1, samples=8, iterations=2, elites=2))
    for weight in range(20):
        planner.plan(at(0.0), float(weight) * GoalObjective(torch.ones(1, 1)))
    assert planner._graphs.recordings < 8
    before = planner._graphs.recordings
    for _ in range(3):
        planner.plan(at(0.0), 19.0 * GoalObjective(torch.ones(1, 1)))
    assert planner._graphs.recordings == before + 1, "one that comes again is worth it"


def test_targets_inside_sums_are_swapped_and_functions_are_told_apart():
    model = Walk()

    def near(values, actions, targets):
        return (values - targets).square()[..., 0]

    def far(values, actions, targets):
        return -near(values, actions, targets)

    planner, host = (CEM(model, horizon=2, samples=16, iterations=3, elites=4) for _ in range(2))
    recorded(planner)
    for function, target in ((near, 0.5), (near, -0.5), (far, -0.5), (torch.nn.functional.mse_loss, 0.0), (near, 0.1)):
        term = near if function is torch.nn.functional.mse_loss else function
        objective = 2.0 * DecodedObjective(term, "state", model, torch.full((1, 1), target)) + ActionCost()
        assert_same(*(p.plan(at(0.0), objective) for p in (planner, host)))
    assert planner._graphs.recordings == 2


def test_what_a_function_remembers_is_not_frozen():
    model = Walk()

    class Task:
        target = 0.5

        def cost(self, values, actions):
            return (values[..., 0] - self.target).square()

    def to(target):
        return lambda values, actions: (values[..., 0] - target).square()

    def three(values, actions, target):
        return (values[..., 0] - target).square()

    task, settings = Task(), {"horizon": 2, "samples": 16, "iterations": 3, "elites": 4}
    planner, host = recorded(CEM(model, **settings)), CEM(model, **settings)
    functions = [to(0.5), to(-0.5), to(torch.tensor(0.1)), partial(three, target=0.2), partial(three, target=-0.2)]
    for function in functions:
        assert_same(*(p.plan(at(0.0), DecodedObjective(function, "state", model)) for p in (planner, host)))
    for task.target in (0.5, -0.5):
        assert_same(*(p.plan(at(0.0), DecodedObjective(task.cost, "state", model)) for p in (planner, host)))
    before = planner._graphs.recordings
    for target in (1.0, 2.0, 3.0):
        functions[2].__closure__[0].cell_contents.fill_(target)
        assert_same(*(p.plan(at(0.0), DecodedObjective(functions[2], "state", model)) for p in (planner, host)))
    assert planner._graphs.recordings == before, "a tensor that changes in place is read anew"


class Stubborn(PlainRecorder):
    """Fails as a capture would."""

    def record(self, function):
        super().record(function)
        raise RuntimeError("operation not permitted\nwhen stream is capturing")


def test_what_cannot_be_captured_is_said_once_and_planned_without():
    planner, host = (CEM(Walk(), horizon=2, samples=16, iterations=3, elites=4) for _ in range(2))
    planner._graphs = Graphs(Stubborn, "cpu")
    inputs = at(0.0), GoalObjective(torch.ones(1, 1))
    with pytest.warns(UserWarning, match="cannot be captured .RuntimeError: operation not permitted when") as said:
        assert_same(*(p.plan(*inputs) for p in (planner, host)))
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(*(p.plan(*inputs) for p in (planner, host)))


def test_graph_false_records_nothing():
    planner = recorded(CEM(Walk(), horizon=2, samples=16, iterations=3, elites=4, graph=False))
    planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)))
    assert planner._graphs.recordings == 0


def test_errors_are_those_of_the_host_and_end_no_recording():
    model = Walk()

    def strange(values, actions, targets):
        return (values / targets)[..., 0].log()

    planner = recorded(CEM(model, horizon=2, samples=16, iterations=3, elites=4))

    def objective(target):
        return DecodedObjective(strange, "state", model, torch.full((1, 1), target))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planner.plan(at(1.0), objective(0.1))
        with pytest.raises(ValueError, match="Walk gave no candidate of row 0 a finite cost"):
            planner.plan(at(torch.inf), objective(-1.0))
        with pytest.raises(ValueError, match="'strange' of 'state' gave nan for every candidate"):
            planner.plan(at(9.0), objective(-1.0))
        with pytest.raises(ValueError, match="fails with"):
            planner.plan(at(9.0), DecodedObjective(lambda *_: 1 / 0, "state", model))
        assert planner.plan(at(1.0), objective(0.1)).iterations == 3
    assert planner._graphs.recordings >= 1


@pytest.mark.parametrize("certainty", [None, CertaintyStop(tolerance=0.0)])
def test_a_function_that_fails_in_some_iteration_is_refused_as_on_the_host(certainty):
    """Only the first of two iterations has finite costs, so that a plan would be there."""
    calls = []

    def moody(values, actions):
        calls.append(0)
        return values[..., 0] + (0.0 if len(calls) % 2 else torch.nan)

    model = Walk()
    planner = recorded(CEM(model, horizon=2, samples=16, iterations=2, elites=4, certainty=certainty))
    with pytest.raises(ValueError, match="'moody' of 'state' gave nan for every candidate"):
        planner.plan(at(1.0), DecodedObjective(moody, "state", model))


def test_a_budget_lays_out_a_decision_of_its_own():
    planner = recorded(CEM(Walk(), horizon=2, samples=16, iterations=6, elites=4))
    inputs = at(0.0), GoalObjective(torch.ones(1, 1))
    for iterations in (6, 2, 3, 6):
        assert planner.plan(*inputs, budget=PlanningBudget(iterations=iterations)).iterations == iterations
    assert planner._graphs.recordings == 3


def test_a_second_thread_plans_with_the_host_meanwhile():
    planner, host = (CEM(Walk(), horizon=2, samples=16, iterations=3, elites=4) for _ in range(2))
    recorded(planner)
    inputs = at(0.0), GoalObjective(torch.ones(1, 1))
    found = []
    with planner._graphs._lock:
        thread = threading.Thread(target=lambda: found.append(planner.plan(*inputs, generator=fresh())))
        thread.start()
        thread.join(20)
    assert_same(found[0], host.plan(*inputs, generator=fresh()))
    assert planner._graphs.recordings == 0


def test_a_copy_of_a_planner_records_for_itself():
    planner = recorded(CEM(Walk(), horizon=2, samples=16, iterations=3, elites=4))
    inputs = at(0.0), GoalObjective(torch.ones(1, 1))
    planner.plan(*inputs)
    twin = copy.copy(planner._graphs)
    assert (twin.recordings, twin.active(torch.device("cpu"))) == (0, True)


@ON_CUDA
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_graphs_equal_the_host_on_the_gpu(name, way):
    model = _moved(double_integrators(repeat=2))
    settings = {"horizon": 3, "samples": 40, "iterations": 6} | WAYS[way](model)
    planner, host = make(name, model, **settings), make(name, model, **settings, graph=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for context, objective, warm in decisions("cuda"):
            plan, expected = (p.plan(context, objective, warm) for p in (planner, host))
            assert_same(plan, expected, exactly=False)
            states = (p._own_generator(context.latents.device).get_state() for p in (planner, host))
            assert torch.equal(*states)
    assert planner._graphs.recordings == (0 if name == "gradient" else 3)


@ON_CUDA
def test_a_capture_that_fails_leaves_the_gpu_usable():
    class Looking(GoalObjective):
        def cost(self, rollout, actions):
            return super().cost(rollout, actions) * float(rollout.latents.sum() * 0 + 1)

    model = _moved(Walk())
    planner = CEM(model, horizon=2, samples=16, iterations=3, elites=4)
    context = Context(torch.zeros(1, 1, 1, device="cuda"), torch.zeros(1, 0, 1, device="cuda"))
    with pytest.warns(UserWarning, match="cannot be captured"):
        planner.plan(context, Looking(torch.ones(1, 1, device="cuda")))
    stream = torch.cuda.current_stream()
    assert stream == torch.cuda.default_stream()
    assert torch.isfinite(torch.randn(8, device="cuda")).all(), "the default generator is in no capture any more"
    again = CEM(model, horizon=2, samples=16, iterations=3, elites=4)
    again.plan(context, GoalObjective(torch.ones(1, 1, device="cuda")))
    assert again._graphs.recordings == 1


def _moved(model):
    """Return a linear model on the GPU."""
    for key, value in list(vars(model).items()):
        if isinstance(value, torch.Tensor):
            setattr(model, key, value.cuda())
    return model
