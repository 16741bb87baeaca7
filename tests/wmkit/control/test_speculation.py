"""Planning ahead: exact predictions give the plans made on the spot, wrong ones are planned around."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from wmkit.contracts import Rollout
from wmkit.control import Controller, SpeculativeController
from wmkit.control.speculation_errors import RecordedErrors
from wmkit.control.speculation_thread import Worker
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, GoalObjective

REPEAT = 2


def point(**options):
    """Return a point that moves by a quarter of its action: additions of the prediction and the world are the same."""
    return LinearModel(torch.eye(2), torch.eye(2) / 4, action_repeat=REPEAT, history=2, **options)


class Spy(CEM):
    """Writes down from where it plans and with which warm start; may wait for a signal, or fail."""

    def __init__(self, model, **options):
        super().__init__(model, **({"horizon": 4, "samples": 32, "iterations": 3, "elites": 6} | options))
        self.calls, self.gate, self.broken = [], None, False

    def plan(self, context, objective, warm_start=None, budget=None, *, horizon=None, generator=None):
        if threading.current_thread() is not threading.main_thread():
            if self.gate is not None:
                self.gate.wait(10)
            if self.broken:
                raise RuntimeError("the drafting thread's planner is broken")
        self.calls.append((context, warm_start, horizon))
        return super().plan(context, objective, warm_start, budget, horizon=horizon, generator=generator)


def made(kind=SpeculativeController, model=None, planner=None, **options):
    generator = torch.Generator().manual_seed(3)
    planner = Spy(point() if model is None else model) if planner is None else planner
    return kind(planner, GoalObjective, generator=generator, **options)


def observed(position):
    return {"state": position.astype(np.float32)}


def drive(controller, steps, goal, disturb=lambda step: 0.0, budget=None):
    """Return the positions (steps + 1, B, 2) under a controller, which drafts after each action."""
    controller.set_goal(observed(goal), steps=budget)
    positions = [np.zeros_like(goal)]
    for step in range(steps):
        action = controller.act(observed(positions[-1]))
        if isinstance(controller, SpeculativeController):
            controller.speculate()
        positions.append(positions[-1] + action / 4 + disturb(step))
    return np.stack(positions)


GOALS = np.array([[1.0, -0.5], [0.25, 0.75], [-1.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize("renew", [None, 2])
@pytest.mark.parametrize("budget", [None, 14])
@pytest.mark.parametrize("execute", [1, 3])
def test_exact_predictions_always_hit_and_move_as_without_speculation(execute, budget, renew):
    plain = made(Controller, execute=execute, renew=renew)
    drafting = made(execute=execute, drafts=1, spread="none", tolerance=0.0, renew=renew)
    expected = drive(plain, 20, GOALS, budget=budget)
    np.testing.assert_array_equal(drive(drafting, 20, GOALS, budget=budget), expected)
    assert len(drafting.decisions) == len(plain.decisions) >= 20 / (REPEAT * execute)
    assert (drafting.counts.hits, drafting.counts.misses) == (3 * (len(plain.decisions) - 1), 0)
    assert drafting.counts.hit_rate == 1


def test_a_draft_at_the_observed_latent_is_the_plan_made_there():
    controller = made(drafts=3, spread="none", tolerance=0.0)
    drive(controller, REPEAT * 2, GOALS[:1])
    before = controller.generator.get_state()
    context, warm, horizon = controller.planner.calls[-1]
    controller.act(observed(context.latents[:, -1].numpy()))
    assert controller.counts.misses == 0
    generator = torch.Generator()
    generator.set_state(before)
    goal = torch.from_numpy(GOALS[:1])
    again = controller.planner.plan(context, GoalObjective(goal), warm, horizon=horizon, generator=generator)
    assert torch.equal(controller.plan.actions, again.actions)
    assert torch.equal(controller.generator.get_state(), generator.get_state())


def test_misses_without_warm_start_move_as_without_speculation():
    expected = drive(made(Controller, warm_start=False), 12, GOALS)
    controller = made(warm_start=False, tolerance=0.0, spread="none", drafts=1)
    kicked = drive(controller, 12, GOALS, lambda step: 1e-3)
    assert controller.counts.hits == 0
    assert np.abs(kicked - expected).max() > 1e-3
    np.testing.assert_array_equal(drive(made(Controller, warm_start=False), 12, GOALS, lambda step: 1e-3), kicked)


def test_a_miss_starts_from_the_nearest_draft():
    controller = made(tolerance=1e-3)
    drive(controller, REPEAT, GOALS[:1])
    drafted = controller._ready[0][0].plan.actions
    controller.act(observed(np.array([[0.9, 0.9]])))
    assert controller.counts.misses == 1
    assert torch.equal(controller.planner.calls[-1][1], drafted)
    assert controller.planner.calls[-1][0].latents[0, -1].tolist() == pytest.approx([0.9, 0.9])


def test_rows_that_hit_are_not_planned_again_and_those_that_miss_share_a_call():
    controller = made(tolerance=1e-3)
    positions = drive(controller, REPEAT, GOALS)[-1]
    drafts = len(controller.planner.calls)
    controller.act(observed(positions + np.array([[0.5], [0.0], [0.5]])))
    assert len(controller.planner.calls) == drafts + 1
    np.testing.assert_allclose(controller.planner.calls[-1][0].latents[:, -1], (positions + 0.5)[[0, 2]], atol=1e-6)
    assert (controller.counts.hits, controller.counts.misses) == (1, 2)
    assert controller.planned_rows.tolist() == [0, 2]


def test_rows_at_different_phases_hit_at_their_own_times():
    controller = made(spread="none", tolerance=0.0, drafts=1)
    controller.set_goal(observed(GOALS))
    position = np.zeros_like(GOALS)
    for step in range(12):
        if step == 3:
            controller.reset(np.array([False, True, False]))
        position = position + controller.act(observed(position)) / 4
        controller.speculate()
    assert controller.counts.misses == 0
    assert controller.counts.hits == 2 * 5 + 1 + 4
    assert controller.counts.unfinished == 0


def test_disturbances_raise_misses_and_the_fallback_keeps_the_goal():
    def ends(controller, chance):
        """Return how far from the goals 8 rows end, kicked with this chance until 16 steps before the end."""
        dice = np.random.default_rng(5)
        goals = np.tile(GOALS[:2], (4, 1))
        kicks = 0.3 * dice.standard_normal((44, 8, 2)) * (dice.random((44, 8, 1)) < chance)
        last = drive(controller, 60, goals, lambda step: kicks[step] if step < 44 else 0.0, budget=60)[-1]
        return np.abs(last - goals).max(axis=1)

    def settled(kind, **options):
        return made(kind, planner=Spy(point(), samples=64, iterations=6, elites=8), **options)

    plain = settled(Controller)
    calm, kicked = (settled(SpeculativeController, tolerance=0.05) for _ in range(2))
    assert (ends(plain, 0.3) < 0.1).all()
    assert (ends(calm, 0.0) < 0.1).all()
    assert (ends(kicked, 0.3) < 0.1).all()
    assert calm.counts.misses == 0
    assert 80 < kicked.counts.misses < 8 * 29 * 0.6
    assert kicked.counts.hits + kicked.counts.misses == 8 * 29


def test_nothing_hits_before_enough_errors_and_then_the_quantile_does():
    dice = np.random.default_rng(0)
    noise = 0.02 * dice.standard_normal((900, 1, 2))
    controller = made(quantile=0.8, drafts=1)
    drive(controller, REPEAT * 20, GOALS[:1], lambda step: noise[step])
    assert controller.counts.hits == 0
    assert len(controller.errors) == 19
    drive(controller, 600, GOALS[:1], lambda step: noise[100 + step])
    rate = controller.counts.hits / len(controller.distances[20:])
    assert 0.7 < rate < 0.9
    assert controller.counts.drafts == len(controller.drafting)


def test_errors_spread_the_drafts_around_the_prediction():
    controller = made(drafts=3)
    controller.set_goal(observed(GOALS))
    controller.errors.add(torch.tensor([[1.0, 2.0]]))
    controller.act(observed(np.zeros_like(GOALS)))
    assert controller.speculate() == 3
    assert controller.speculate() == 0
    latents = controller._ready[2][0].latents
    assert latents.shape == (3, 3, 2)
    assert torch.equal(latents[:, 1], latents[:, 0] + torch.tensor([1.0, 2.0]))
    assert torch.equal(latents[:, 2], latents[:, 1])
    assert torch.equal(controller.planner.calls[-1][0].latents[:, -1], latents.flatten(0, 1))
    assert controller.counts.drafts == 9


class Loose(LinearModel):
    """Every candidate ends a random distance away; members are 1 and 2 off the mean."""

    def rollout(self, context, actions, generator=None):
        latents = super().rollout(context, actions).latents
        members = latents.unsqueeze(3) + torch.tensor([-1.0, -2.0, 3.0]).view(3, 1)
        noise = 0 if generator is None else torch.randn(latents.shape[:2], generator=generator)[..., None, None]
        return Rollout(latents + noise, quantities={"members": members})


@pytest.mark.parametrize(("spread", "wanted"), [("samples", 4), ("members", 4), ("none", 1)])
def test_spreads_of_stochastic_models_and_ensembles(spread, wanted):
    model = Loose(torch.eye(2), torch.eye(2) / 4, action_repeat=REPEAT)
    controller = made(model=model, planner=Spy(model), spread=spread, drafts=4)
    controller.set_goal(observed(GOALS))
    controller.act(observed(np.zeros_like(GOALS)))
    controller.speculate()
    latents = controller._ready[0][0].latents
    assert latents.shape == (3, wanted, 2)
    if spread == "samples":
        offsets = latents[:, 1:] - latents[:, :1]
        assert (offsets.std(dim=1) > 0.01).all()
        assert offsets.abs().max() < 5
    if spread == "members":
        noise = latents[:, 1] + 1
        assert torch.allclose(latents[:, 2] + 2, noise)
        assert torch.allclose(latents[:, 3] - 3, noise)


def test_members_of_a_model_without_are_refused():
    controller = made(spread="members")
    controller.set_goal(observed(GOALS))
    controller.act(observed(np.zeros_like(GOALS)))
    with pytest.raises(ValueError, match='LinearModel has no ensemble members; give another spread than "members"'):
        controller.speculate()


def test_new_goals_and_resets_drop_drafts_but_not_errors():
    controller = made(tolerance=1e9)
    drive(controller, REPEAT, GOALS)
    controller.set_goal(observed(GOALS[::-1]), mask=np.array([True, False, False]))
    calls = len(controller.planner.calls)
    controller.act(observed(np.zeros_like(GOALS)))
    assert len(controller.planner.calls) == calls + 1
    assert controller.planner.calls[-1][0].goal.tolist() == [GOALS[2].tolist()]
    assert controller.counts.hits == 2
    drive(controller, REPEAT, GOALS)
    controller.reset()
    errors = len(controller.errors)
    controller.act(observed(np.zeros_like(GOALS)))
    assert controller.counts.hits == 2
    assert len(controller.errors) == errors > 0


def test_without_speculating_it_is_a_plain_controller():
    controller = made()
    controller.set_goal(observed(GOALS))
    plain = made(Controller)
    plain.set_goal(observed(GOALS))
    position = np.zeros_like(GOALS)
    for _ in range(6):
        action = controller.act(observed(position))
        np.testing.assert_array_equal(action, plain.act(observed(position)))
        position = position + action / 4
    assert (controller.counts.unfinished, controller.counts.drafts) == (6, 0)
    assert controller.counts.hit_rate == 0


def wait_for(condition, *arguments):
    """Wait until a condition holds, 20 s at most."""
    for _ in range(2000):
        if condition(*arguments):
            return
        threading.Event().wait(0.01)
    raise AssertionError("the thread did not get there")


def drafted(controller):
    """Return whether row 0 has a draft."""
    controller._collect()
    return 0 in controller._ready


def failed(controller, times):
    """Return whether the thread failed so often."""
    controller._collect()
    return controller.counts.failures == times


def test_the_thread_drafts_when_act_has_returned():
    with made(background=True, spread="none", drafts=1, tolerance=0.0) as controller:
        controller.set_goal(observed(GOALS))
        position = np.zeros_like(GOALS)
        for _ in range(12):
            position = position + controller.act(observed(position)) / 4
            wait_for(drafted, controller)
        worker = controller._worker
    np.testing.assert_array_equal(position, drive(made(Controller), 12, GOALS)[-1])
    assert (controller.counts.hits, controller.counts.unfinished) == (15, 0)
    assert not worker.alive
    controller.act(observed(position))
    assert controller.counts.unfinished == 0


def test_unfinished_drafts_are_not_waited_for_and_stale_ones_not_used():
    planner = Spy(point())
    planner.gate = threading.Event()
    with made(planner=planner, background=True, spread="none", drafts=1, tolerance=1e9) as controller:
        controller.set_goal(observed(GOALS[:1]))
        position = np.zeros((1, 2))
        for _ in range(REPEAT + 1):
            position = position + controller.act(observed(position)) / 4
        assert (controller.counts.hits, controller.counts.unfinished) == (0, 1)
        planner.gate.set()
        wait_for(drafted, controller)
        assert controller._ready[0][0].errand.chunks[0] == controller._chunks[0]
        for _ in range(REPEAT):
            position = position + controller.act(observed(position)) / 4
        assert (controller.counts.hits, controller.counts.unfinished) == (1, 1)


def test_errors_of_the_thread_are_counted_and_planned_around():
    planner = Spy(point())
    planner.broken = True
    with made(planner=planner, background=True) as controller:
        controller.set_goal(observed(GOALS))
        position = np.zeros_like(GOALS)
        for step in range(2 * REPEAT):
            position = position + controller.act(observed(position)) / 4
            wait_for(failed, controller, 1 + step // REPEAT)
        assert (controller.counts.failures, controller.counts.unfinished) == (2, 3)
        assert "planner is broken" in str(controller.failure)


def test_a_controller_that_is_let_go_takes_its_thread_with_it():
    controller = made(background=True)
    drive(controller, 2 * REPEAT, GOALS)
    wait_for(drafted, controller)
    worker, gone = controller._worker, weakref.ref(controller)
    del controller
    wait_for(lambda: gc.collect() >= 0 and gone() is None)
    wait_for(lambda: not worker.alive)


def test_worker_drops_what_was_not_begun():
    worker, begun, gate, calls = Worker("test"), threading.Event(), threading.Event(), []
    worker.submit(lambda: (begun.set(), gate.wait(10)))
    worker.submit(lambda: calls.append(1))
    assert begun.wait(10)
    threading.Timer(0.05, gate.set).start()
    worker.close()
    assert not worker.alive
    assert calls == []


def test_recorded_errors_are_bounded_and_robust():
    errors = RecordedErrors(capacity=4)
    errors.add(torch.tensor([[9.0, 9.0], [1.0, -2.0]]))
    errors.add(torch.tensor([[-1.0, 2.0], [1.0, 2.0], [1.0, 100.0]]))
    assert len(errors) == 4
    assert [9.0, 9.0] not in errors.errors.tolist()
    assert errors.scale().tolist() == [1.0, 2.0]
    assert errors.quantile(0.5, errors.scale()) == pytest.approx(1.0)
    assert errors.quantile(1.0, errors.scale()) == pytest.approx(((1 + 50**2) / 2) ** 0.5)
    drawn = errors.draw(50, torch.Generator().manual_seed(0))
    assert {tuple(row) for row in drawn.tolist()} == {tuple(row) for row in errors.errors.tolist()}


def test_scales_are_never_zero():
    errors = RecordedErrors()
    errors.add(torch.zeros(3, 2))
    assert (errors.scale() > 0).all()
    errors.add(torch.tensor([[10.0, 0.0]] * 9))
    assert errors.scale().tolist() == [10.0, 0.5]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"drafts": 0}, "drafts is 0"),
        ({"spread": "wide"}, "unknown spread 'wide'; known: errors, samples, members, none"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"quantile": 1.5}, "quantile is 1.5"),
        ({"recorded": 0}, "capacity is 0"),
        ({"execute": 9}, "execute is 9"),
    ],
)
def test_mistakes_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        made(**options)
