"""Ensembles: one model of several, and how far they disagree."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from wmkit import registry
from wmkit.conformance import check_model
from wmkit.contracts import Context, Rollout, SupportsDecode, SupportsInverse
from wmkit.errors import UserError
from wmkit.linear_model import LinearModel
from wmkit.models import AutoregressiveDynamics, DiffusionDynamics, Ensemble
from wmkit.models.lewm import LeWM, LeWMConfig
from wmkit.planners import CEM, GoalObjective, UncertaintyPenalty
from wmkit.scripts.info import Info
from wmkit.scripts.info import run as info

FAMILIES = (AutoregressiveDynamics, DiffusionDynamics)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _lewm(seed: int, inverse: dict | None = None) -> LeWM:
    torch.manual_seed(seed)
    sizes = {"image_size": 16, "latent_size": 3, "action_repeat": 1, "seconds_per_step": 0.1}
    encoder = {"encoder": "vit", "encoder_options": {"patch_size": 8, "depth": 1, "heads": 3}}
    bounds = {"action_low": (-1.0,), "action_high": (1.0,)}
    parts = {"predictor_options": {}, "projector": {"hidden_size": 8}, "inverse": inverse}
    model = LeWM(LeWMConfig(**sizes, **encoder, **bounds, **parts))
    model.set_action_statistics([0.0], [1.0])
    return model.eval()


def _point(*gains: float, **options) -> LinearModel:
    """A point in the plane that goes so far for an action of 1, in x and in y."""
    return LinearModel(torch.eye(2), torch.diag(torch.tensor(gains)), **options)


class _Plain:
    """A linear model that neither decodes nor inverts, and offers "speed" beside its latents."""

    def __init__(self, model):
        self._model, self.spec, self.encode = model, model.spec, model.encode

    def rollout(self, context, actions, generator=None):
        rollout = self._model.rollout(context, actions)
        return Rollout(rollout.latents, quantities={"speed": rollout.latents[..., :1]})


@pytest.fixture
def members(config, ready):
    """Return a function that makes dynamics of a family that differ."""

    def function(count: int, family: type = AutoregressiveDynamics) -> list:
        made = [ready(family(config())) for _ in range(count)]
        for index, model in enumerate(made):
            for parameter in model.parameters():
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=_seeded(index))
        return made

    return function


@pytest.mark.parametrize("family", FAMILIES)
def test_contract(members, family):
    check_model(Ensemble(members(2, family)))
    check_model(Ensemble([_point(1.0, 0.5), _point(0.5, 1.0)]))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_member_is_that_member(members, family, situation):
    (member,) = members(1, family)
    member.uncertainty_draws = 3
    one, other = _seeded(), _seeded()
    wanted, found = member.rollout(*situation(2, 9, 13), one), Ensemble([member]).rollout(*situation(2, 9, 13), other)
    assert torch.equal(found.latents, wanted.latents)
    assert torch.equal(found.quantities["state"], wanted.latents)
    assert torch.equal(found.quantities["members"], wanted.latents.unsqueeze(3))
    assert torch.equal(one.get_state(), other.get_state())
    if family is DiffusionDynamics:
        assert torch.equal(found.uncertainty, wanted.uncertainty)
    else:
        assert found.uncertainty is None, "one deterministic member knows nothing of its errors"


def test_identical_members_agree_exactly(members, situation):
    (member,) = members(1)
    context, actions = situation(2, 9, 13)
    found = Ensemble([member] * 3).rollout(context, actions)
    assert torch.equal(found.latents, member.rollout(context, actions).latents)
    assert (found.uncertainty == 0).all()


def test_disagreement_is_the_standard_deviation_over_members_in_units_of_scale():
    gains = torch.tensor([[1.0, 2.0], [2.0, 2.0], [6.0, 5.0]])
    ensemble = Ensemble([_point(*row.tolist()) for row in gains], scale=torch.tensor([2.0, 1.0]))
    context = Context(torch.zeros(1, 1, 2), torch.zeros(1, 0, 2))
    rollout = ensemble.rollout(context, torch.full((1, 1, 2, 2), 0.5))
    wanted = math.sqrt((gains[:, 0].std() / 2) ** 2 / 2 + gains[:, 1].std() ** 2 / 2)
    assert rollout.uncertainty.flatten().tolist() == pytest.approx([0.5 * wanted, wanted], rel=1e-5)
    assert rollout.latents[0, 0].tolist() == pytest.approx(
        np.array([0.5, 1.0])[:, None] * gains.mean(0).numpy(), rel=1e-5
    )


def test_every_member_goes_on_from_its_own_predictions(members, situation):
    made, (context, actions) = members(3), situation(2, 5, 13)
    rollout = Ensemble(made).rollout(context, actions)
    alone = torch.stack([member.rollout(context, actions).latents for member in made], dim=3)
    torch.testing.assert_close(rollout.quantities["members"], alone, rtol=0, atol=0)
    torch.testing.assert_close(rollout.latents, alone.mean(dim=3), rtol=1e-4, atol=1e-5)
    spread = ((alone - alone.mean(3, keepdim=True)) / made[0].features.change_std[-1]).square().sum(3).mean(-1) / 2
    torch.testing.assert_close(rollout.uncertainty, spread.sqrt(), rtol=1e-3, atol=1e-5)


def test_stochastic_members_draw_one_after_another(members, situation):
    made, generator = members(2, DiffusionDynamics), _seeded()
    rollout = Ensemble(made).rollout(*situation(2, 5, 8), _seeded())
    for k, member in enumerate(made):
        alone = member.rollout(*situation(2, 5, 8), generator).latents
        torch.testing.assert_close(rollout.quantities["members"][:, :, :, k], alone, rtol=0, atol=0)


def test_batched_equals_looped(members, situation):
    ensemble, (context, actions) = Ensemble(members(2)), situation(3, 9, 10)
    whole = ensemble.rollout(context, actions)
    for row in range(3):
        alone = ensemble.rollout(context.select(torch.tensor([row])), actions[row : row + 1])
        torch.testing.assert_close(alone.latents[0], whole.latents[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.uncertainty[0], whole.uncertainty[row], rtol=1e-3, atol=1e-4)


def test_disagreement_rises_off_the_data(config, trained, windows):
    made = []
    for seed in range(3):
        torch.manual_seed(seed)
        made.append(AutoregressiveDynamics(config()))
        trained(made[-1], 60)
    known, ensemble = windows(128, seed=1), Ensemble(made)

    def doubt(of_latents: float, of_actions: float) -> torch.Tensor:
        context = Context(of_latents * known.latents[:, :2], known.actions[:, :1])
        return ensemble.rollout(context, of_actions * known.actions[:, None, 1:]).uncertainty[:, 0, -1]

    usual = doubt(1.0, 1.0)
    assert (doubt(20.0, 1.0)[:, None] > usual).float().mean() > 0.75, "states that are not in the data"
    assert (doubt(1.0, 10.0)[:, None] > usual).float().mean() > 0.85, "actions that are not in the data"
    assert 0.01 < usual.mean() < 0.5, "in standard deviations of the latent's change"


def test_members_of_one_mind_are_preferred():
    ensemble = Ensemble([_point(1.0, 0.1), _point(1.0, 1.9)])
    context = Context(torch.zeros(1, 1, 2), torch.zeros(1, 0, 2))
    goal = GoalObjective(torch.ones(1, 2))
    plans = {}
    for weight in (0.0, 20.0):
        planner = CEM(ensemble, horizon=2, samples=256, iterations=8, elites=16, seed=0)
        plans[weight] = planner.plan(context, goal + weight * UncertaintyPenalty()).latents[0, -1]
    assert plans[0.0].tolist() == pytest.approx([1.0, 1.0], abs=0.1)
    assert plans[20.0].tolist() == pytest.approx([1.0, 0.0], abs=0.15)


def test_gradients_are_finite_where_all_agree():
    actions = torch.zeros(1, 2, 3, 2, requires_grad=True)
    ensemble = Ensemble([_point(1.0, 1.0), _point(1.0, 2.0)])
    rollout = ensemble.rollout(Context(torch.zeros(1, 1, 2), torch.zeros(1, 0, 2)), actions)
    (gradient,) = torch.autograd.grad(rollout.uncertainty.sum() + rollout.latents.sum(), actions)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()


def test_quantities_of_all_members_are_averaged():
    ensemble = Ensemble([_Plain(_point(1.0, 1.0)), _Plain(_point(3.0, 1.0))])
    context, actions = Context(torch.zeros(2, 1, 2), torch.zeros(2, 0, 2)), torch.full((2, 1, 1, 2), 0.5)
    quantities = ensemble.rollout(context, actions).quantities
    assert quantities["speed"].flatten().tolist() == [1.0, 1.0]
    mixed = Ensemble([_Plain(_point(1.0, 1.0)), _point(3.0, 1.0)])
    assert set(mixed.rollout(context, actions).quantities) == {"members"}


def test_it_decodes_and_inverts_where_its_members_do(members):
    point = _point(1.0, 1.0)
    for member in (point, _Plain(point), *members(1), _lewm(0), _lewm(0, inverse={})):
        ensemble = Ensemble([member, member])
        for ability in (SupportsDecode, SupportsInverse):
            assert isinstance(ensemble, ability) == isinstance(member, ability)
    ensemble, latents = Ensemble([point, point]), torch.tensor([[1.0, 2.0]])
    assert torch.equal(ensemble.decode(latents, "state"), latents)
    found = ensemble.inverse(latents, latents + 1, torch.tensor([2]))
    assert torch.equal(found, point.inverse(latents, latents + 1, torch.tensor([2])))


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load(members, family, situation, tmp_path):
    ensemble = Ensemble([*members(1, family), *members(1)], scale=torch.tensor([1.0, 2.0, 3.0]))
    ensemble.metadata = {"task": "cart"}
    ensemble.save_pretrained(tmp_path / "e")
    loaded = registry.load("models", "ensemble").from_pretrained(tmp_path / "e")
    assert [type(member) for member in loaded.members] == [family, AutoregressiveDynamics]
    assert loaded.metadata == {"task": "cart"}
    assert not any(member.training for member in loaded.members)
    wanted, found = (each.rollout(*situation(2, 9, 8), _seeded()) for each in (ensemble, loaded))
    assert torch.equal(found.latents, wanted.latents)
    assert torch.equal(found.uncertainty, wanted.uncertainty)


def test_info_and_card_tell_the_members(members, tmp_path, capsys):
    Ensemble(members(2)).save_pretrained(tmp_path / "e")
    info(Info(str(tmp_path / "e"), json=True))
    told = json.loads(capsys.readouterr().out)["model"]
    weights = [json.loads((tmp_path / "e" / "members" / k / "config.json").read_text())["sha256"] for k in "01"]
    assert [told["config"]["members"][f"members/{k}"] for k in "01"] == [
        {"kind": "autoregressive", "sha256": sha} for sha in weights
    ]
    assert "registry.load('models', 'ensemble').from_pretrained('e')" in (tmp_path / "e" / "README.md").read_text()


def test_another_member_in_the_folder_is_refused(members, tmp_path):
    first, second, third = members(3)
    Ensemble([first, second]).save_pretrained(tmp_path / "e")
    third.save_pretrained(tmp_path / "e" / "members" / "1")
    with pytest.raises(UserError, match=r"members/1 is not the autoregressive that the ensemble was saved with"):
        Ensemble.from_pretrained(tmp_path / "e")


def test_a_missing_member_is_named(members, tmp_path):
    Ensemble(members(2)).save_pretrained(tmp_path / "e")
    (tmp_path / "e" / "members" / "1").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"members/1 is no model folder"):
        Ensemble.from_pretrained(tmp_path / "e")


@pytest.mark.parametrize("members_of_config", [{"members/3": {}}, 7, {}])
def test_a_configuration_that_does_not_fit(members, tmp_path, members_of_config):
    Ensemble(members(1)).save_pretrained(tmp_path / "e")
    document = json.loads((tmp_path / "e" / "config.json").read_text())
    document["config"]["members"] = members_of_config
    (tmp_path / "e" / "config.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"members and configuration of .* do not fit"):
        Ensemble.from_pretrained(tmp_path / "e")


def test_members_that_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="LinearModel has no save_pretrained"):
        Ensemble([_point(1.0, 1.0)]).save_pretrained(tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_members_that_do_not_fit(members):
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
    with pytest.raises(ValueError, match="members 0 and 2 differ in action_repeat, 1 and 2"):
        Ensemble([_point(1.0, 1.0), _point(2.0, 1.0), _point(1.0, 1.0, action_repeat=2)])
    with pytest.raises(ValueError, match=r"scale has shape \(3,\); expected 2 finite numbers above 0"):
        Ensemble([_point(1.0, 1.0)], scale=torch.ones(3))
    with pytest.raises(ValueError, match="finite numbers above 0"):
        Ensemble([_point(1.0, 1.0)], scale=torch.tensor([0.0, 1.0]))


def test_members_with_other_encoders_are_refused():
    first, second = _lewm(0), _lewm(1)
    with pytest.raises(ValueError, match="members 0 and 1 give other latents for the same observation"):
        Ensemble([first, second])
    for part in ("encoder", "projector"):
        getattr(second, part).load_state_dict(getattr(first, part).state_dict())
    assert torch.equal(Ensemble([first, second]).scale, torch.ones(3))


def test_metadata_that_all_members_share(members):
    made = members(2)
    for seed, member in enumerate(made):
        member.metadata = {"task": "cart", "training": {"seed": seed}}
    assert Ensemble(made).metadata == {"task": "cart"}


def test_members_come_along_and_copies_are_on_their_own(members, situation):
    ensemble = Ensemble(members(2))
    twin = copy.deepcopy(ensemble).double()
    assert all(parameter.dtype == torch.float64 for member in twin.members for parameter in member.parameters())
    assert twin.decode.__self__ is twin.members[0]
    assert {id(p) for p in twin.parameters()}.isdisjoint(id(p) for p in ensemble.parameters())
    context, actions = situation(1, 2, 3)
    wide = twin.rollout(replace(context, latents=context.latents.double(), actions=context.actions.double()), actions)
    torch.testing.assert_close(wide.latents.float(), ensemble.rollout(context, actions).latents, rtol=1e-3, atol=1e-4)
