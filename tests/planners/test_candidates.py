"""`Plan.candidates`: what the search last weighed, for whoever wants to see it."""

import pytest
import torch
from integrators import double_integrators
from registered import NAMES, fresh, make

from wmkit.contracts import Context, PlanningBudget, Rollout
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, CertaintyStop, GoalObjective

SHOWN = 5


def _recorded(model):
    """Return a list that fills with the latents (B, N, H, D) of all that the model rolls out from now on."""
    seen, rollout = [], model.rollout

    def recording(*arguments):
        result = rollout(*arguments)
        seen.append(result.latents.detach())
        return result

    model.rollout = recording
    return seen


def _inputs():
    states = torch.tensor([[1.0, -0.5, 0.2, 0.1], [0.3, 0.8, -0.4, 0.0], [-0.6, -0.2, 0.0, 0.5]])
    return Context(states[:, None], torch.zeros(3, 0, 2)), GoalObjective(torch.zeros(3, 4), "mean")


def _cost(latents):
    """Return (B, E), the objective of `_inputs` for latents (B, E, H, D)."""
    return GoalObjective(torch.zeros(len(latents), 4), "mean").cost(Rollout(latents), latents)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def _planner(name, model, **options):
    return make(name, model, **({"horizon": 3, "samples": 24, "iterations": 3} | options))


def test_they_are_the_cheapest_rollouts_of_the_last_iteration_in_order(name):
    model = double_integrators()
    seen = _recorded(model)
    context, objective = _inputs()
    found = _planner(name, model, candidates=SHOWN).plan(context, objective, generator=fresh()).candidates
    last = [latents for latents in seen if latents.shape[1] > 1][-1]
    costs = _cost(last)
    for row in range(3):
        torch.testing.assert_close(_cost(found)[row], costs[row].sort().values[:SHOWN])
        distance = (found[row][:, None] - last[row][None]).flatten(2).norm(dim=2)
        assert distance.min(dim=1).values.max() == 0, "each is a rollout that the search really made"


def test_none_are_kept_unless_asked_for_and_the_plan_is_the_same(name):
    context, objective = _inputs()
    plain = _planner(name, double_integrators()).plan(context, objective, generator=fresh())
    kept = _planner(name, double_integrators(), candidates=SHOWN).plan(context, objective, generator=fresh())
    assert plain.candidates is None
    assert kept.candidates.shape == (3, SHOWN, 3, 4)
    assert torch.equal(plain.actions, kept.actions)


def test_batched_equals_looped(name):
    context, objective = _inputs()
    planner = _planner(name, double_integrators(), candidates=SHOWN)
    batched = planner.plan(context, objective, generator=fresh()).candidates
    for row in range(3):
        index = torch.tensor([row])
        alone = planner.plan(context.select(index), objective.select(index), generator=fresh()).candidates
        torch.testing.assert_close(batched[row], alone[0], rtol=1e-4, atol=1e-4)


def test_chunks_are_ranked_together(name):
    context, objective = _inputs()
    planner = _planner(name, double_integrators(), candidates=SHOWN)
    whole = planner.plan(context, objective, generator=fresh()).candidates
    chunked = planner.plan(context, objective, None, PlanningBudget(bytes=1), generator=fresh()).candidates
    torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-4)


def test_rows_that_leave_early_keep_theirs():
    context, objective = _inputs()
    stop = CertaintyStop(tolerance=0.05)
    options = {"horizon": 3, "samples": 24, "elites": 6, "iterations": 20, "decay": 1.4, "certainty": stop}
    planner = CEM(double_integrators(), candidates=SHOWN, **options)
    plan = planner.plan(context, objective, generator=fresh())
    assert len(set(plan.row_iterations.tolist())) > 1, "rows that leave together test nothing"
    for row in range(3):
        index = torch.tensor([row])
        alone = planner.plan(context.select(index), objective.select(index), generator=fresh())
        torch.testing.assert_close(plan.candidates[row], alone.candidates[0], rtol=1e-4, atol=1e-4)


def test_the_last_is_repeated_where_there_are_fewer_or_they_diverge():
    class Diverging(LinearModel):
        def rollout(self, context, actions, generator=None):
            rollout = super().rollout(context, actions, generator)
            rollout.latents[:, 2:] = torch.nan
            return rollout

    planner = CEM(Diverging(torch.eye(1), torch.eye(1)), horizon=2, samples=4, elites=2, iterations=2, candidates=6)
    plan = planner.plan(Context(torch.zeros(1, 1, 1), torch.zeros(1, 0, 1)), GoalObjective(torch.ones(1, 1)))
    assert plan.candidates.shape == (1, 6, 2, 1)
    assert torch.isfinite(plan.candidates).all()
    assert (plan.candidates[0, 1:] == plan.candidates[0, 1]).all()
    assert (plan.candidates[0, 0] != plan.candidates[0, 1]).any()


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="candidates is -1; give 0 to show none"):
        CEM(double_integrators(), candidates=-1)
