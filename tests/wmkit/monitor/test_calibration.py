"""Calibrations are saved whole, refuse what they are not for, and say how many episodes a rate needs."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from robots import MODEL, episodes, raw_episodes, watch

from wmkit import SurpriseMonitor
from wmkit.errors import UserError
from wmkit.linear_model import LinearModel
from wmkit.monitor.calibration import FIT_SHARE, Calibration, calibrate, episodes_for
from wmkit.monitor.conformal import episodes_needed
from wmkit.monitor.nominal import Nominal


@pytest.fixture(scope="module")
def raw():
    return raw_episodes(60, 12)


@pytest.fixture
def calibration(raw):
    return calibrate(raw, MODEL, per_step=0.05, per_episode=0.1, facts={"task": "linear"})


def test_what_is_loaded_says_what_was_saved(calibration, tmp_path):
    calibration.save(tmp_path)
    loaded = Calibration.load(tmp_path)
    for each in fields(Nominal):
        np.testing.assert_array_equal(getattr(loaded.nominal, each.name), getattr(calibration.nominal, each.name))
    assert (loaded.step_threshold, loaded.per_step, loaded.facts) == (
        calibration.step_threshold,
        calibration.per_step,
        calibration.facts,
    )
    data = episodes(3, 12, seed=1)
    first, second = (watch(SurpriseMonitor(MODEL, one), *data) for one in (calibration, loaded))
    assert [[one.score for one in rows] for rows in first[1:]] == [[one.score for one in rows] for rows in second[1:]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["surprise.json", "surprise.safetensors"]


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_so_many_episodes_are_enough_and_one_less_is_not(rate):
    needed = episodes_for(rate)
    for count, enough in ((needed, True), (needed - 1, False)):
        left = count - max(10, int(FIT_SHARE * count))
        assert (left >= episodes_needed(rate)) == enough


def test_too_few_episodes_are_told_how_many_it_takes(raw):
    with pytest.raises(UserError, match=f"needs {episodes_for(0.01)}"):
        calibrate(raw, MODEL, per_step=0.01)


def test_a_rate_per_episode_that_cannot_be_promised_is_refused_only_where_it_is_asked_for(raw):
    found = calibrate(raw, MODEL, per_step=0.05, per_episode=0.01)
    assert found.threshold("step") > 0
    with pytest.raises(UserError, match=f"give {episodes_for(0.01)} or more"):
        found.threshold("episode")


def test_a_lower_rate_has_a_higher_threshold(raw):
    strict, loose = (calibrate(raw, MODEL, per_step=rate).step_threshold for rate in (0.05, 0.2))
    assert strict > loose


def test_a_model_without_calibration_says_how_to_calibrate(tmp_path):
    with pytest.raises(UserError, match=r"wmkit calibrate .* --data DIR --false-alarms 0.01"):
        SurpriseMonitor.from_pretrained(tmp_path, MODEL)


def test_another_environment_repeat_or_weights_are_refused(calibration, tmp_path):
    calibration.save(tmp_path)
    with pytest.raises(UserError, match="calibrated for linear, not for pusht"):
        SurpriseMonitor.from_pretrained(tmp_path, MODEL, task="pusht")
    other = LinearModel(torch.eye(3), torch.ones(2, 3), action_repeat=3)
    with pytest.raises(UserError, match="action_repeat 2, and has 3"):
        SurpriseMonitor(other, calibration)

    class Weighed(LinearModel):
        def state_dict(self):
            return {"weight": torch.ones(1)}

    weighed = Weighed(torch.eye(3), torch.ones(2, 3), action_repeat=2)
    with pytest.raises(UserError, match="other weights"):
        SurpriseMonitor(weighed, calibration)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "version", "json"])
def test_a_damaged_calibration_is_named(calibration, tmp_path, damage):
    calibration.save(tmp_path)
    facts, arrays = tmp_path / "surprise.json", tmp_path / "surprise.safetensors"
    if damage == "truncated":
        arrays.write_bytes(arrays.read_bytes()[:-5])
    elif damage == "json":
        facts.write_text(facts.read_text()[:-20])
    else:
        document = json.loads(facts.read_text())
        document |= {"version": 99} if damage == "version" else {"sha256": "0" * 64}
        facts.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"surprise\.(json|safetensors)"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize("per", ["step", "episode"])
def test_the_shipped_models_calibration_belongs_to_it(per):
    from wmkit.models import LeWM

    model = LeWM.from_pretrained("pretrained:pusht-tiny")
    monitor = SurpriseMonitor.from_pretrained("pretrained:pusht-tiny", model, task="pusht", per=per)
    still = np.full((1, 64, 64, 3), 255, np.uint8)
    latents = model.encode({"pixels": still[:, None]})[:, 0]
    monitor.update(latents, None, {"pixels": still})
    assert np.isfinite(monitor.update(latents, torch.zeros(1, 10), {"pixels": still})[0].score)
