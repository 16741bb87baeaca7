"""`wmkit demo`, without a display, on TwoRoom with a small untrained model."""

import re
import shutil
import sys
import time

import numpy as np
import pytest
import torch

from wmkit.errors import UserError
from wmkit.models import LeWM, LeWMConfig
from wmkit.monitor.calibration import calibrate
from wmkit.monitor.signals import Signals
from wmkit.readout import Readout
from wmkit.scripts.demo import Demo, make_session
from wmkit.scripts.main import main
from wmkit.window.snapshot import Command

HEADLESS = ["--headless", "--seconds", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that says it is TwoRoom's, with a readout and without a calibration."""
    folder = tmp_path_factory.mktemp("demo") / "model"
    torch.manual_seed(0)
    torch.set_num_threads(1)
    options = {"channels": (8, 8, 8), "hidden": 16}
    model = LeWM(LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=1, encoder_options=options))
    model.set_action_statistics([0, 0], [0.5, 0.5])
    planning = {"planner": "mppi", "samples": 8, "iterations": 1, "horizon": 4}
    model.save_pretrained(folder, metadata={"task": "two-room", "planning": planning})
    places = torch.rand(40, 2)
    Readout.fit(torch.randn(40, 8), torch.arange(40) // 10, {"agent": places}).save(folder)
    return folder


def _demo(folder, *options, env="two-room"):
    return main(["demo", env, "--model", str(folder), *map(str, options)])


def test_the_whole_command_without_a_display(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    record = tmp_path / "demo.gif"
    assert _demo(folder, *HEADLESS, "--record", record, "--perturb", "teleport=1@0.2", "--size", 540, 310) == 0
    line = capsys.readouterr().out.strip()
    found = re.fullmatch(
        r"(\d+) control steps at [\d.]+ a second, (\d+) frames; frame p50 [\d.]+ ms, p99 [\d.]+ ms; "
        r"decision p50 [\d.]+ ms, p99 [\d.]+ ms; \d+ of \d+ goals reached",
        line,
    )
    assert found is not None, line
    assert 1 <= int(found[1]) <= 23, "20 a second"
    assert int(found[2]) >= 1
    assert record.read_bytes()[:4] == b"GIF8"


def test_a_scene_that_opengl_draws_goes_on_in_the_sessions_thread(tmp_path):
    pytest.importorskip("mujoco")
    options = {"channels": (8, 8, 8), "hidden": 16}
    model = LeWM(LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.5, history=1, encoder_options=options))
    model.set_action_statistics([0, 0], [0.5, 0.5])
    planning = {"planner": "mppi", "samples": 8, "iterations": 1, "horizon": 4}
    model.save_pretrained(tmp_path, metadata={"task": "push-cube", "planning": planning})
    session = make_session(Demo("push-cube", str(tmp_path)))
    before = session.snapshot()
    session.start()
    try:
        session.post(Command("drag", "cube", 0.2, 0.6))
        session.post(Command("goal", x=0.7, y=0.5))
        end = time.monotonic() + 30.0
        while session.snapshot().tick < 3 and session.error is None and time.monotonic() < end:
            time.sleep(0.02)
        after = session.snapshot()
    finally:
        session.stop()
    assert session.error is None
    assert after.tick >= 3
    assert (after.picture != before.picture).any()
    assert (after.goal_picture != before.goal_picture).any()
    assert len(after.goal_outline) == 3, "the cube, its top, and the finger tips"


def test_the_model_and_the_options_decide(folder):
    options = {"protocol": "long50", "reaction": "hold", "rate": 10.0, "perturb": ("weak-actuator=0.5@0",)}
    session = make_session(Demo("two-room", str(folder), **options))
    try:
        assert session.rate_hz == 10.0
        session.tick()
        shown = session.snapshot()
        assert (shown.planner, shown.protocol, shown.changes) == ("mppi", "long50", ("weak-actuator",))
        assert len(shown.futures) == 8
        assert len(shown.futures[0]) == 4
        assert f"wmkit calibrate {folder}" in shown.hint
        assert "wmkit inspect" not in shown.hint
        assert shown.reaction == "", "there is no monitor to react to"
    finally:
        session.stop()


@pytest.fixture(scope="module")
def calibrated(folder, tmp_path_factory):
    """Return a function that copies the model with a calibration for an environment."""
    model, generator = LeWM.from_pretrained(folder), torch.Generator().manual_seed(0)
    signals = Signals(model, k=0)
    episodes, row = [], np.zeros(1, np.int64)
    for _ in range(60):
        signals.reset()
        latents, blocks = (torch.randn(6, size, generator=generator) for size in (8, 10))
        episodes.append([signals.update(latents[[t]], blocks[[t]] if t else None, None, row, 1) for t in range(6)])

    def function(task):
        copy = tmp_path_factory.mktemp("calibrated") / "model"
        shutil.copytree(folder, copy)
        calibrate(episodes, model, per_step=0.3, per_episode=0.5, k=0, facts={"task": task}).save(copy)
        return copy

    return function


def test_with_a_calibration_surprise_is_shown_and_reacted_to(calibrated):
    session = make_session(Demo("two-room", str(calibrated("two-room")), reaction="slow down"))
    try:
        for _ in range(11):
            session.tick()
        shown = session.snapshot()
        assert len(shown.scores) == len(shown.alarms) == 3
        assert (shown.reaction, shown.hint) == ("slow down", "")
        session.post(Command("reaction"))
        session.tick()
        assert session.snapshot().reaction == "hold"
    finally:
        session.stop()


def test_a_model_calibrated_for_another_environment_is_refused(calibrated, capsys):
    assert _demo(calibrated("pusht"), *HEADLESS) == 2
    assert "was calibrated for pusht, not for two-room" in capsys.readouterr().err


def test_every_registered_planner_can_be_chosen_with_a_key(folder):
    from wmkit import registry

    session = make_session(Demo("two-room", str(folder), planner="cem"))
    try:
        seen = []
        for _ in registry.names("planners"):
            seen.append(session.snapshot().planner)
            session.post(Command("planner"))
            session.tick()
        assert seen[0] == "cem"
        assert sorted(seen) == registry.names("planners")
        assert session.snapshot().planner == "cem"
    finally:
        session.stop()


def test_a_planner_fits_into_the_control_step(folder):
    session = make_session(Demo("two-room", str(folder), planner="icem", rate=10.0))
    try:
        assert session._play._controller.budget.seconds == pytest.approx(0.06)
    finally:
        session.stop()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--headless"], "say with --seconds when to end"),
        ([*HEADLESS, "--rate", "0"], "--rate must be above 0"),
        ([*HEADLESS, "--seconds", "-1"], "--seconds must be above 0"),
        ([*HEADLESS, "--size", "10", "10"], "--size must be 200 pixels or more"),
        ([*HEADLESS, "--perturb", "teleport"], "write NAME=STRENGTH@SECOND"),
        ([*HEADLESS, "--perturb", "teleport=2@1"], "a strength in [0, 1]"),
        ([*HEADLESS, "--perturb", "earthquake=1@1"], "two-room knows teleport, colour"),
        ([*HEADLESS, "--perturb", "earthquake=1@1", "--perturb", "teleport=1@1"], "--perturb earthquake"),
        ([*HEADLESS, "--planner", "guess"], "unknown name 'guess' among planners"),
        ([*HEADLESS, "--record", "film.avi"], ".gif"),
    ],
)
def test_bad_options_are_one_line(folder, options, said, capsys):
    assert _demo(folder, *options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_model_of_another_environment_is_refused(folder, capsys):
    assert _demo(folder, *HEADLESS, env="pusht") == 2
    assert "was trained on two-room, not on pusht" in capsys.readouterr().err


def test_an_environment_without_a_window_is_refused(folder, capsys):
    assert _demo(folder, *HEADLESS, env="walker") == 2
    assert "those that have one: push-cube, pusht, two-room" in capsys.readouterr().err


def test_without_a_model_it_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="`wmkit quickstart`"):
        make_session(Demo("two-room"))


def test_without_a_display_it_names_headless(folder, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert _demo(folder, "--seconds", "1") == 2
    assert "--headless" in capsys.readouterr().err


def test_without_pygame_it_names_the_extra(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert _demo(folder, *HEADLESS) == 2
    assert "pip install 'wmkit[demo]'" in capsys.readouterr().err
