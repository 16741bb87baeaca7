"""Each rule of the checkers, with a model or a planner that breaks it and nothing else."""

from dataclasses import replace

import pytest
import torch

from wmkit.conformance import check_model, check_planner
from wmkit.contracts import Context, Rollout
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM

TRANSITION = torch.tensor([[1.0, 0.0], [0.1, 0.9]])
CONTROL = torch.tensor([[0.0, 0.2]])


class Model(LinearModel):
    """A model that keeps every rule; the ones below break one each."""

    def __init__(self):
        super().__init__(TRANSITION, CONTROL, action_repeat=2, history=2)


class Stochastic(Model):
    """Noise from the generator is no fault."""

    def rollout(self, context, actions, generator=None):
        rollout = super().rollout(context, actions)
        return Rollout(rollout.latents + 0.01 * torch.randn(rollout.latents.shape, generator=generator))


class Rich(Model):
    """Uncertainty and quantities of the right shapes."""

    def rollout(self, context, actions, generator=None):
        latents = super().rollout(context, actions).latents
        return Rollout(latents, latents[..., 0].abs(), {"reward": latents[..., 0], "state": latents})


def spec_with(**changes):
    class Changed(Model):
        @property
        def spec(self):
            return replace(super().spec, **changes)

    return Changed


def encodes(function):
    class Changed(Model):
        def encode(self, observations):
            return function(super().encode(observations), observations)

    return Changed


def rolls(function):
    """Break the rollout: function(right rollout, context, actions) -> Rollout."""

    class Changed(Model):
        def rollout(self, context, actions, generator=None):
            return function(super().rollout(context, actions), context, actions)

    return Changed


def with_latents(function):
    return rolls(lambda rollout, context, actions: Rollout(function(rollout.latents)))


def in_place(rollout, context, actions):
    actions.mul_(0.5)
    return rollout


def encode_in_place(latents, observations):
    observations["state"][...] = 0
    return latents


def ignores_history_limit(rollout, context, actions):
    return Rollout(rollout.latents[:, :, :1]) if context.latents.shape[1] == 2 else rollout


def mixes_rows(rollout, context, actions):
    return Rollout(rollout.latents + context.latents.mean())


class Deaf(Model):
    def inverse(self, latents, goals, steps):
        return torch.zeros(len(latents), 1)


class Agreeable(Model):
    def decode(self, latents, name):
        return latents


BROKEN_MODELS = {
    "no world model": (lambda: object(), "has no spec, encode or rollout"),
    "bounds": (spec_with(action_low=(1.0,), action_high=(1.0,)), "action bounds"),
    "infinite bounds": (spec_with(action_high=(float("inf"),)), "action bounds"),
    "history": (spec_with(history=0), "spec.history is 0"),
    "seconds": (spec_with(seconds_per_step=0.0), "spec.seconds_per_step is 0.0"),
    "keys": (spec_with(observations={}), "names no key"),
    "encode shape": (encodes(lambda z, o: z[:, -1]), r"encode has shape \(3, 2\); expected \(3, 2, 2\)"),
    "encode dtype": (encodes(lambda z, o: z.long()), "encode has dtype torch.int64"),
    "encode finite": (encodes(lambda z, o: z / 0), "encode has values that are not finite"),
    "encode random": (encodes(lambda z, o: z + torch.rand(1)), "encode gives another result the second time"),
    "encode rows": (encodes(lambda z, o: z - z.mean(0)), "encode lets the rows of B influence each other"),
    "encode in place": (encodes(encode_in_place), "encode changes its inputs in place"),
    "rollout history": (rolls(ignores_history_limit), r"with 2 latents of history has shape \(3, 4, 1, 2\)"),
    "rollout type": (with_latents(lambda z: z.numpy()), "is a ndarray; expected a tensor"),
    "rollout dtype": (with_latents(lambda z: z.double()), "torch.float64 on cpu; expected those of encode"),
    "rollout finite": (with_latents(lambda z: z * float("nan")), "not finite"),
    "rollout in place": (rolls(in_place), "rollout changes its inputs in place"),
    "uncertainty shape": (rolls(lambda r, c, a: Rollout(r.latents, r.latents)), "uncertainty has shape"),
    "uncertainty sign": (rolls(lambda r, c, a: Rollout(r.latents, -torch.ones(3, 4, 2))), "uncertainty is below 0"),
    "quantity": (rolls(lambda r, c, a: Rollout(r.latents, None, {"x": r.latents[0]})), "quantity 'x' has shape"),
    "global noise": (with_latents(lambda z: z + torch.rand(1)), "from elsewhere than the generator"),
    "candidates": (with_latents(lambda z: z - z.mean(1, keepdim=True)), "lets candidates influence each other"),
    "rows": (rolls(mixes_rows), "rollout with 1 latents of history lets the rows of B influence each other"),
    "time": (with_latents(lambda z: z + z.mean(2, keepdim=True)), "lets later actions change earlier latents"),
    "inverse": (Deaf, r"inverse has shape \(3, 1\); expected \(3, 2\)"),
    "decode": (Agreeable, r"decode\(latents, 'no such name'\) raises no ValueError"),
}


@pytest.mark.parametrize("model", [Model, Stochastic, Rich])
def test_good_models_pass(model):
    check_model(model())


@pytest.mark.parametrize("rule", BROKEN_MODELS)
def test_broken_models_are_caught(rule):
    make, text = BROKEN_MODELS[rule]
    with pytest.raises(ValueError, match=text):
        check_model(make())


def planner(model=Model, **options):
    return CEM(model(), horizon=3, samples=16, iterations=2, elites=4, **options)


def answers(function):
    """Break the answer: function(right plan, its context) -> Plan."""

    class Changed(CEM):
        def plan(self, context, *args, **options):
            return function(super().plan(context, *args, **options), context)

    return Changed


def asks(function):
    """Break the question: function(context, objective, options) -> the same."""

    class Changed(CEM):
        def plan(self, context, objective, warm_start=None, budget=None, **options):
            options |= {"warm_start": warm_start, "budget": budget}
            context, objective, options = function(context, objective, options)
            return super().plan(context, objective, **options)

    return Changed


def changed(**fields):
    return answers(lambda plan, context: replace(plan, **{k: f(getattr(plan, k)) for k, f in fields.items()}))


def without(*names):
    return asks(lambda c, o, options: (c, o, {k: v for k, v in options.items() if k not in names}))


def writes_context(context, objective, options):
    context.latents.mul_(0.5)
    return context, objective, options


def writes_warm_start(context, objective, options):
    if options["warm_start"] is not None:
        options["warm_start"].add_(0.1)
    return context, objective, options


def drops_pending(context, objective, options):
    return replace(context, pending=None), objective, options


def couples_rows(context, objective, options):
    return replace(context, latents=context.latents + context.latents.mean()), objective, options


def chunk_dependent(context, objective, options):
    limited = options["budget"] is not None and options["budget"].bytes is not None
    return (
        (Context(context.latents * 0.5, context.actions, context.pending) if limited else context),
        objective,
        options,
    )


class Forgiving(CEM):
    def plan(self, context, objective, warm_start=None, budget=None, **options):
        class Zero(type(objective)):
            def cost(self, rollout, actions):
                return super().cost(rollout, actions).nan_to_num(0)

        return super().plan(context, Zero(objective.goal), warm_start, budget, **options)


class Nameless(CEM):
    def plan(self, *args, **options):
        try:
            return super().plan(*args, **options)
        except ValueError:
            raise ValueError("it failed") from None


BROKEN_PLANNERS = {
    "actions": (changed(actions=lambda x: x[:, :1]), r"Plan.actions has shape \(3, 1, 2\); expected \(3, 3, 2\)"),
    "cost": (changed(cost=lambda x: x[:, None]), r"Plan.cost has shape \(3, 1\)"),
    "latents": (changed(latents=lambda x: x[:, -1]), "Plan.latents has shape"),
    "gradient": (changed(latents=lambda x: x.requires_grad_()), "Plan.latents carries a gradient"),
    "bounds": (changed(actions=lambda x: x + 2.5), "Plan.actions leaves the bounds"),
    "stopped": (changed(stopped=lambda x: "tired"), "Plan.stopped is 'tired'"),
    "iterations": (changed(iterations=lambda x: 0), "not above 0"),
    "horizon": (without("horizon"), r"Plan.actions has shape \(3, 3, 2\); expected \(3, 1, 2\)"),
    "generator": (changed(actions=lambda x: x * torch.rand(1)), "from elsewhere than the generator"),
    "in place": (asks(writes_context), "plan changes its inputs in place"),
    "warm start in place": (asks(writes_warm_start), "plan changes its inputs in place"),
    "rows": (asks(couples_rows), "lets the rows of B influence each other"),
    "budget": (without("budget"), "plan ran 2 iterations"),
    "nan as zero": (Forgiving, "plan without any finite cost raises no ValueError"),
    "nan without name": (Nameless, "which does not name Model"),
    "imagined": (changed(latents=lambda x: x + 0.1), "Plan.latents is not what the model imagines"),
    "reported cost": (changed(cost=lambda x: x + 0.1), "Plan.cost is not the objective's cost"),
    "chunks": (asks(chunk_dependent), "another result under a limit of bytes"),
    "pending": (asks(drops_pending), "does not roll the pending actions out first"),
}


@pytest.mark.parametrize("model", [Model, Stochastic, Rich])
@pytest.mark.parametrize("result", ["best", "mean"])
def test_good_planners_pass(model, result):
    check_planner(planner(model, result=result))


@pytest.mark.parametrize("rule", BROKEN_PLANNERS)
def test_broken_planners_are_caught(rule):
    make, text = BROKEN_PLANNERS[rule]
    with pytest.raises(ValueError, match=text):
        check_planner(make(Model(), horizon=3, samples=16, iterations=2, elites=4))


def test_no_planner_is_caught():
    with pytest.raises(ValueError, match="object: has no model, horizon or plan"):
        check_planner(object())
