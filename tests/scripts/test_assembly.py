"""From settings to planners: what is given must matter, what does not apply is left out."""

import numpy as np
import pytest
import torch

from wmkit import registry
from wmkit.contracts import Rollout
from wmkit.errors import UserError
from wmkit.linear_model import LinearModel
from wmkit.planners import CertaintyStop, Hold, SamplingPlanner, Spline
from wmkit.scripts.assembly import (
    PLANNING,
    check_task,
    controller_maker,
    device_of,
    load_model,
    resolve_planning,
    with_defaults,
)
from wmkit.scripts.eval import Eval

PLANNERS = registry.names("planners")


def model_of():
    return LinearModel(torch.eye(2), torch.eye(2), action_repeat=3)


def planner_of(given, metadata=None):
    return controller_maker(model_of(), resolve_planning(metadata or {}, given))(1).planner


@pytest.mark.parametrize("name", PLANNERS)
def test_every_registered_planner_takes_the_settings_of_another(name):
    tuned = {"samples": 7, "iterations": 3, "elites": 3, "std": 0.9, "horizon": 4, "hold": "block"}
    planner = planner_of({"planner": name}, {"planning": tuned})
    assert type(planner) is registry.load("planners", name)
    assert planner.horizon == 4
    assert planner.parametrisation.steps == 3
    own = registry.load("planners", name)(model_of())
    if name != "cem":
        assert (planner.samples, planner.iterations) == (own.samples, own.iterations), "tuned for CEM, not for this"
        assert getattr(planner, "std", None) == getattr(own, "std", None)


@pytest.mark.parametrize("name", PLANNERS)
def test_what_is_given_reaches_every_planner(name):
    given = {"samples": 40, "iterations": 4, "noise_exponent": 0.5, "decay": 1.5, "max_rate": 9.0, "certainty": 0.1}
    planner = planner_of({"planner": name, "knots": 3, "spline": "linear", **given})
    assert {key: getattr(planner, key) for key in given} == given | {"certainty": CertaintyStop(tolerance=0.1)}
    assert isinstance(planner.parametrisation, Spline)
    assert (planner.parametrisation.count, planner.parametrisation.order) == (3, "linear")


@pytest.mark.parametrize(("name", "setting"), [("mppi", "elites"), ("cem", "temperature"), ("random-shooting", "std")])
def test_a_given_setting_that_a_planner_does_not_know_is_one_clear_line(name, setting):
    with pytest.raises(UserError) as error:
        resolve_planning({}, {"planner": name, setting: 1})
    text = str(error.value)
    assert text.startswith(f"planner '{name}' takes no {setting}; it takes samples, iterations,")
    assert "\n" not in text
    assert "knots" in text


def test_hold_and_knots_exclude_each_other():
    with pytest.raises(UserError, match="hold or knots, not both"):
        resolve_planning({}, {"hold": 2, "knots": 3})
    with pytest.raises(UserError, match="knots"):
        resolve_planning({}, {"spline": "zero"})
    assert isinstance(planner_of({"hold": 2}, {"planning": {"knots": 3}}).parametrisation, Hold)
    assert isinstance(planner_of({"knots": 2}, {"planning": {"hold": 3}}).parametrisation, Spline)


@pytest.mark.parametrize("given", [{"certainty": -1.0}, {"knots": 0}, {"max_rate": -1.0}, {"decay": 0.5}])
def test_numbers_out_of_range_are_the_users_mistake(given):
    with pytest.raises(UserError, match="planner settings"):
        planner_of(given)


@pytest.mark.parametrize(
    ("given", "steps"), [({"renew": 4}, 12), ({"renew": 0}, -1), ({"renew": 4, "shrink": False}, -1)]
)
def test_renewing_can_be_switched_off(given, steps):
    controller = controller_maker(model_of(), resolve_planning({"planning": {"renew": 3}}, given))(1)
    assert controller.steps_left(np.array([-1]), 0).tolist() == [steps]


def test_a_model_that_acts_in_another_way_is_one_line():
    with pytest.raises(UserError, match=r"mine acts by \d numbers, ogbench-cube takes 5"):
        check_task(model_of(), "mine", registry.load("environments", "ogbench-cube"))


def test_the_action_cost_is_weighted_and_added():
    rollout, actions = Rollout(torch.zeros(1, 1, 2, 2)), torch.full((1, 1, 2, 6), 0.5)
    costs = [
        controller_maker(model_of(), resolve_planning({}, {"action_cost": weight}))(1)
        ._objective(torch.ones(1, 2))
        .cost(rollout, actions)
        .item()
        for weight in (0.0, 2.0)
    ]
    assert costs == [2.0, 2.0 + 2.0 * 6 * 0.25]


def test_the_settings_that_are_saved_name_the_planners_own_defaults():
    planning = resolve_planning({}, {"planner": "icem", "samples": 64})
    saved = with_defaults(planning, controller_maker(model_of(), planning)(1).planner)
    assert (saved["decay"], saved["noise_exponent"], saved["samples"], saved["elites"]) == (1.25, 2.0, 64, 30)
    assert saved["temperature"] is None


def test_a_planner_of_someone_else_gets_only_what_it_takes():
    class Plain(SamplingPlanner):
        def __init__(self, model, *, horizon=2, std=1.0):
            super().__init__(model, horizon=horizon)
            self.std = std

        start = sample = update = None

    registry.register("planners", "test-plain", f"{__name__}:_Plain")
    globals()["_Plain"] = Plain
    try:
        assert planner_of({"planner": "test-plain", "std": 0.25}).std == 0.25
        with pytest.raises(UserError, match=r"takes no samples; it takes std, horizon$"):
            resolve_planning({}, {"planner": "test-plain", "samples": 3})
    finally:
        del registry._TARGETS["planners"]["test-plain"]


def test_every_setting_has_its_option():
    assert set(PLANNING) <= set(Eval.__dataclass_fields__)


def test_the_rollouts_path_and_dtype_are_settings():
    model, _ = load_model("pretrained:pusht-tiny")
    settings = {"rollout_path": "reference", "rollout_dtype": "bfloat16", "rescore": 3}
    planner = controller_maker(model, resolve_planning(model.metadata, settings))(1).planner
    assert (model.rollout_path, model.rollout_dtype, planner.rescore) == ("reference", torch.bfloat16, 3)
    controller_maker(model, resolve_planning(model.metadata, {}))
    assert (model.rollout_path, model.rollout_dtype) == ("reference", torch.bfloat16)
    controller_maker(model, resolve_planning(model.metadata, {"rollout_dtype": "float32"}))
    assert model.rollout_dtype is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"rollout_path": "quick"}, "--rollout-path is 'quick'; give one of auto, reference, fast, fused"),
        ({"rollout_dtype": "float16"}, "--rollout-dtype is 'float16'; give one of float32, bfloat16"),
    ],
)
def test_unknown_paths_and_dtypes_are_one_line(settings, text):
    model, _ = load_model("pretrained:pusht-tiny")
    with pytest.raises(UserError, match=text):
        controller_maker(model, resolve_planning(model.metadata, settings))


def test_devices():
    assert device_of("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu") == "cpu"
    with pytest.raises(UserError, match="unknown device 'gpu'; give auto, cpu or cuda"):
        device_of("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_missing_gpu_is_one_line():
    with pytest.raises(UserError, match="--device cuda:1: no CUDA GPU is at hand; give --device cpu"):
        device_of("cuda:1")
