"""`rescore`: the reference has the last word on the cheapest candidates."""

import pytest
import torch
from integrators import double_integrators
from registered import NAMES, Walk, fresh, make
from test_graphs import assert_same, recorded

from wmkit.contracts import Context, PlanningBudget, Rollout
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, CertaintyStop, GoalObjective, RandomShooting


class Rough(LinearModel):
    """Rolls out with a bias of its own, which its reference lacks; remembers what either was asked for."""

    bias = 0.3

    def __init__(self, repeat=1):
        exact = double_integrators(repeat)
        super().__init__(exact._transition, exact._control, action_repeat=repeat, bound=2.0)
        self.exact, self.asked = exact, {"rough": [], "reference": []}

    def rollout(self, context, actions, generator=None):
        self.asked["rough"].append(actions.clone())
        return Rollout(self.exact.rollout(context, actions).latents + self.bias * actions[..., :1].sign())

    def reference_rollout(self, context, actions, generator=None):
        self.asked["reference"].append(actions.clone())
        return self.exact.rollout(context, actions)


class Broken(Rough):
    def reference_rollout(self, context, actions, generator=None):
        return Rollout(super().reference_rollout(context, actions).latents * torch.nan)


def inputs():
    states = torch.tensor([[1.0, -0.5, 0.2, 0.1], [0.3, 0.8, -0.4, 0.0], [-0.6, -0.2, 0.0, 0.5]])
    return Context(states[:, None], torch.zeros(3, 0, 2)), GoalObjective(torch.zeros(3, 4), "mean")


def planner_of(name, model, **options):
    return make(name, model, **({"horizon": 3, "samples": 24, "iterations": 3} | options))


@pytest.fixture(params=[name for name in NAMES if name != "gradient"])
def name(request):
    return request.param


@pytest.mark.parametrize("certainty", [None, CertaintyStop(tolerance=0.3)])
def test_the_plan_is_the_cheapest_by_the_reference(name, certainty):
    model = Rough()
    context, objective = inputs()
    plan = planner_of(name, model, rescore=6, certainty=certainty).plan(context, objective, generator=fresh())
    plain = planner_of(name, model, certainty=certainty).plan(context, objective, generator=fresh())
    real = model.exact.rollout(context, plan.actions[:, None])
    torch.testing.assert_close(plan.latents, real.latents[:, 0])
    torch.testing.assert_close(plan.cost, objective.cost(real, plan.actions[:, None])[:, 0])
    before = objective.cost(model.exact.rollout(context, plain.actions[:, None]), plain.actions[:, None])[:, 0]
    assert (plan.cost <= before + 1e-6).all(), "the best so far is looked at too"
    if certainty is None:
        (asked,) = model.asked["reference"]
        assert asked.shape[1] == 7
        costs = objective.cost(model.exact.rollout(context, asked), asked)
        torch.testing.assert_close(plan.cost, costs.min(dim=1).values)


def test_those_looked_at_are_the_cheapest_of_the_last_iteration():
    model = Rough()
    context, objective = inputs()
    RandomShooting(model, horizon=2, samples=30, rescore=5, budget=PlanningBudget(bytes=500)).plan(context, objective)
    tried = torch.cat(model.asked["rough"], dim=1)
    cost = objective.cost(Rough().rollout(context, tried), tried)
    wanted = tried[torch.arange(3)[:, None], cost.topk(5, largest=False).indices]
    torch.testing.assert_close(torch.cat(model.asked["reference"], dim=1)[:, 1:], wanted)
    assert len(model.asked["reference"]) > 1, "otherwise the memory limit was not kept"


def test_it_changes_the_choice_where_rollout_and_reference_disagree():
    model = Rough()
    context, objective = inputs()
    plans = [RandomShooting(model, horizon=2, samples=64, rescore=n).plan(context, objective) for n in (0, 64)]
    assert not torch.equal(plans[0].actions, plans[1].actions)


def test_recorded_equals_the_host(name):
    context, objective = inputs()
    for rule in (None, CertaintyStop(tolerance=0.3)):
        options = {"rescore": 4, "candidates": 2, "certainty": rule}
        planner, host = recorded(planner_of(name, Rough(), **options)), planner_of(name, Rough(), **options)
        for shift in (0.0, 0.5):
            moved = Context(context.latents + shift, context.actions)
            assert_same(*(p.plan(moved, objective) for p in (planner, host)), exactly=rule is None)


def test_a_reference_without_a_finite_cost_is_not_asked_again():
    plan = CEM(Broken(), horizon=2, samples=12, iterations=2, elites=3, rescore=3).plan(*inputs())
    assert torch.isfinite(plan.cost).all()
    assert plan.non_finite == 3 * 4


@pytest.mark.parametrize(("rollouts", "least", "rescored"), [(100, 29, 5), (20, 17, 5), (5, 4, 0), (4, 4, 0)])
def test_a_budget_of_rollouts_counts_them(rollouts, least, rescored):
    model = Rough()
    planner = CEM(model, horizon=2, samples=12, iterations=2, elites=3, rescore=4)
    planner.plan(*inputs(), budget=PlanningBudget(rollouts=rollouts))
    asked = {key: sum(actions.shape[1] for actions in part) for key, part in model.asked.items()}
    assert asked["reference"] == rescored
    assert least <= sum(asked.values()) <= rollouts


def test_the_shown_candidates_stay_as_many_as_were_asked_for():
    plan = CEM(Rough(), horizon=2, samples=12, iterations=2, elites=3, rescore=6, candidates=2).plan(*inputs())
    assert plan.candidates is not None
    assert plan.candidates.shape == (3, 2, 2, 4)


def test_a_model_without_a_reference_is_refused():
    with pytest.raises(ValueError, match="CEM: rescore is 3, but Walk has no reference_rollout; give 0"):
        CEM(Walk(), rescore=3)
    with pytest.raises(ValueError, match="rescore is -1"):
        CEM(Rough(), rescore=-1)
