"""Terminal values: what they learn from, against loops and closed forms, and what they add to a plan's cost."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit import registry
from wmkit.contracts import Rollout
from wmkit.data.collect import collect
from wmkit.data.recording import Settings
from wmkit.data.splits import make_splits, save_splits
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.runs import folder_hash
from wmkit.errors import UserError
from wmkit.models import SimulatorModel
from wmkit.planners import RewardObjective, TerminalValue
from wmkit.planners.terminal_value import ValueConfig
from wmkit.planners.value_data import ValueData
from wmkit.planners.value_training import TERMINAL_VALUE, ValuePreset, ValueStage, fit_value

GAMMA, DECAY = 0.8, 0.9


def _config(reward="closeness", discount=GAMMA):
    return ValueConfig(FeatureConfig(1, 1, horizon=1), 1, 0.1, reward, discount, width=32, depth=2)


def _decaying(episodes=24, length=12):
    """Return data of a number that decays by 0.9 a step, rewarded with itself; its value is linear in it."""
    start = torch.linspace(-2, 2, episodes)[:, None]
    states = (start * DECAY ** torch.arange(length + 1)).reshape(-1, 1)
    rewards = torch.cat([states[1:, 0], torch.zeros(1)])
    return ValueData(states, rewards, [length] * episodes, GAMMA)


def _closed_form(states):
    return DECAY * states[:, 0] / (1 - GAMMA * DECAY)


def _fitted(data, trace, steps=150):
    torch.manual_seed(0)
    value = TerminalValue(_config())
    value.features.fit(data.latents[:, None].expand(-1, 2, -1), torch.zeros(len(data.latents), 1, 1))
    value.set_scale(data.rewards)
    preset = ValuePreset(trace=trace, steps=steps, batch=64, lr=1e-2, ema=0.9)
    return fit_value(ValueStage(value, data, data, preset))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(lambda all: max(all) >= 3),
    repeat=st.integers(1, 3),
    trace=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 99),
)
def test_batches_equal_a_loop_over_the_steps(lengths, repeat, trace, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = sum(length + 1 for length in lengths)
    rewards = torch.rand(rows, generator=generator, dtype=torch.float64)
    latents = torch.arange(rows, dtype=torch.float32)[:, None]
    data = ValueData(latents, rewards, lengths, 0.7, repeat)
    end = torch.cat([torch.full((n + 1,), last) for n, last in zip(lengths, _ends(lengths), strict=True)])
    for batch in (data.sample(16, generator, trace), data.all(1000)):
        for k, row in enumerate(batch.latents[:, 0].long().tolist()):
            later, total, weight, at = int(batch.later[k]), 0.0, 1.0, row
            assert row < later <= end[row]
            while at < later:
                total, weight, at = total + weight * float(rewards[at]), weight * 0.7, at + repeat
            assert at == later
            assert batch.returns[k] == pytest.approx(total, abs=1e-5)
            assert batch.discounts[k] == pytest.approx(weight)
    steps = (batch.later - batch.latents)[:, 0] / repeat
    assert torch.equal(steps.long(), data.left[batch.latents[:, 0].long()])


def _ends(lengths):
    return (torch.tensor(lengths) + 1).cumsum(0) - 1


def test_steps_are_geometric_so_that_targets_are_lambdas_in_the_mean():
    data = ValueData(torch.arange(1001.0)[:, None], torch.zeros(1001), [1000], 0.9)
    batch = data.sample(40_000, torch.Generator().manual_seed(0), 0.8)
    steps = (batch.later - batch.latents)[:, 0]
    assert float(steps.mean()) == pytest.approx(5.0, rel=0.03)
    assert float((steps == 1).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float((steps > 3).float().mean()) == pytest.approx(0.8**3, abs=0.01)


@pytest.mark.parametrize("trace", [0.5, 1.0])
def test_recordings_that_end_are_no_end_of_the_world(trace):
    data = _decaying(length=6)
    value = _fitted(data, trace)
    wanted = _closed_form(data.latents)
    with torch.no_grad():
        error = (value(data.latents) - wanted).square().mean() / wanted.var()
    assert float(error) < 0.02
    truncated = _closed_form(data.latents) * (1 - (GAMMA * DECAY) ** 6)
    assert float(error) < 0.1 * float((truncated - wanted).square().mean() / wanted.var())


def test_plan_and_value_together_are_the_endless_return():
    class Exact(TerminalValue):
        def forward(self, latents):
            return DECAY * latents[..., 0] / (1 - GAMMA * DECAY)

    states = torch.tensor([1.0, -0.5])[:, None, None] * DECAY ** torch.arange(1, 6)
    rollout, actions = Rollout(states[..., None], None, {"state": states[..., None]}), torch.zeros(2, 1, 5, 1)
    reward = RewardObjective(lambda s, a: s[..., 0], "state", discount=GAMMA)
    total = (reward + Exact(_config()).objective()).cost(rollout, actions)
    torch.testing.assert_close(total, -_closed_form(torch.tensor([[1.0], [-0.5]]))[:, None])
    half = Exact(_config()).objective(0.5).cost(rollout, actions)
    torch.testing.assert_close(half, 0.5 * (total - reward.cost(rollout, actions)))


def test_saved_values_are_the_same(tmp_path):
    value = _fitted(_decaying(), 0.9, steps=20)
    value.save_pretrained(tmp_path / "value", {"task": "none"})
    again = registry.load("values", "terminal-value").from_pretrained(tmp_path / "value")
    latents = torch.randn(3, 4, 5, 1)
    assert torch.equal(again(latents), value.eval()(latents))
    assert again(latents).shape == (3, 4, 5)
    assert again.config == value.config
    assert again.metadata == {"task": "none", "reward": "closeness"}
    path = tmp_path / "value" / "config.json"
    document = json.loads(path.read_text())
    document["config"]["width"] = 8
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="do not fit"):
        TerminalValue.from_pretrained(tmp_path / "value")


def test_a_value_for_other_latents_is_refused():
    with pytest.raises(ValueError, match="latent_size 1, and this one has 18"):
        TerminalValue(_config()).check(SimulatorModel.from_task("walker").spec)


@pytest.mark.parametrize("change", [{"discount": 1.0}, {"width": 0}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match="must be in"):
        ValueConfig(**vars(_config()) | change)


def test_rewards_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        ValueData(torch.zeros(3, 1), torch.tensor([0.0, float("nan"), 0.0]), [2], 0.9)
    ValueData(torch.zeros(3, 1), torch.tensor([0.0, 0.0, float("nan")]), [2], 0.9)


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Return the folder of 60 short random walks."""
    folder = tmp_path_factory.mktemp("walks")
    store = collect(Settings("walker", "random", reward="walk", max_steps=24), folder, 60).store
    save_splits(store, make_splits(store, (80, 10, 10)))
    return folder


def test_the_preset_learns_from_a_store(walks):
    recipe = TERMINAL_VALUE.recipe(
        walks, overrides={"steps": 120, "batch": 128, "lr": 3e-3, "discount": 0.7, "reward": "target-height=0.5"}
    )
    assert recipe.settings["reward"] == recipe.model.config.reward == "target-height=0.5"
    (stage,) = recipe.stages
    before = stage.validate(torch.Generator())["loss"]
    value = fit_value(stage)
    after = stage.validate(torch.Generator())
    assert after["loss"] < 0.7 * before
    assert after["explained"] > 0.1
    states = torch.randn(4, 18)
    moved, turned = states.clone(), states.clone()
    moved[:, 1] += 50
    turned[:, 2] += 2 * torch.pi
    torch.testing.assert_close(value.eval()(moved), value(states))
    torch.testing.assert_close(value(turned), value(states), rtol=1e-4, atol=1e-4)
    value.check(SimulatorModel.from_task("walker").spec)
    assert TERMINAL_VALUE.recipe(walks).model.config.reward == "walk"


def test_the_encoder_is_written_down(walks, tmp_path):
    small = {"horizon": 4, "width": 16, "depth": 1, "heads": 2, "mlp_size": 32}
    encoder = registry.load("presets", "diffusion-dynamics").recipe(walks, overrides=small).model
    encoder.save_pretrained(tmp_path / "encoder")
    recipe = TERMINAL_VALUE.recipe(walks, overrides={"encoder": str(tmp_path / "encoder")})
    assert recipe.settings["encoder_sha256"] == recipe.model.metadata["encoder"] == folder_hash(tmp_path / "encoder")
    plain = TERMINAL_VALUE.recipe(walks)
    assert plain.settings["encoder_sha256"] == ""
    assert "encoder" not in plain.model.metadata


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"reward": "hop"}, "unknown reward 'hop' of walker; known: walk, stand"),
        ({"reward": "target-speed=x"}, "'x' is no number"),
        ({"discount": 1.5}, "discount"),
        ({"episodes": 99}, "episodes=99, but"),
        ({"episodes": -1}, "episodes=-1, but"),
    ],
)
def test_bad_settings_are_one_line(walks, overrides, message):
    with pytest.raises(UserError, match=message):
        TERMINAL_VALUE.recipe(walks, overrides=overrides)
