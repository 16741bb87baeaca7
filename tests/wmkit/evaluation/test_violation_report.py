"""The study's tables, files and figure."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from wmkit.evaluation.violation import Trace
from wmkit.evaluation.violation_analysis import analyse
from wmkit.evaluation.violation_effects import Timing
from wmkit.evaluation.violation_figure import choose_episode, figure_title, save_figure
from wmkit.evaluation.violation_report import (
    detection_table,
    kinds_table,
    load_traces,
    notes,
    save_study,
    separation_table,
)
from wmkit.monitor.report import KINDS

STEPS = np.arange(11) * 5
MOMENTS = np.array([12, 7, 18, 9])
TIMING = Timing(STEPS, MOMENTS, second=10, window=20)


def _trace(seed, factor=1.0, kind="state", frames=True):
    random = np.random.default_rng(seed)
    score = np.exp(random.normal(-1, 0.2, (4, 11)))
    score[TIMING.after] *= factor
    alarm = score > 1
    pictures = random.integers(0, 255, (4, 51, 16, 16, 3)).astype(np.uint8) if frames else None
    kinds = np.where(alarm, KINDS.index(kind), -1).astype(np.int8)
    ends, reached = np.full(4, 50), alarm.any(axis=1)
    return Trace(STEPS, score.astype(np.float32), alarm, kinds, {"drift": score / 2}, reached, pictures, ends, 1.5)


@pytest.fixture(scope="module")
def traces():
    return {"nominal": _trace(0), "teleport": _trace(1, 30.0), "colour": _trace(2, 20.0, "looks")}


@pytest.fixture(scope="module")
def result(traces):
    changed = {name: traces[name] for name in ("teleport", "colour")}
    return analyse(traces["nominal"], changed, TIMING, {"teleport": 0.5, "colour": 1.0})


def _text(*parts):
    console = Console(file=io.StringIO(), width=100)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def test_the_tables_say_what_was_found(result):
    text = _text(detection_table("pusht", result), kinds_table(result), separation_table(result))
    assert "teleport 0.5" in text
    assert "colour 1" in text
    assert text.count("100.0 %") == 8
    assert "reported as" in text
    assert "drift, " in text or "score, " in text
    (row,) = [line.split() for line in _text(kinds_table(result)).splitlines() if "colour" in line]
    assert [word for word in row if word.isdigit()] == ["4", "0"]


def test_the_lines_below_the_tables(result):
    lines = notes(result)
    assert lines[0].startswith("false alarms: 0.00 % (95 %: 0.00 to 8.03) of 44 nominal observations score above 1")
    assert lines[-1] == "colour told apart from teleport: 100.0 % of those with an alarm"


def test_traces_come_back_as_they_were(traces, result, tmp_path):
    saved = save_study(tmp_path / "out", result, traces, MOMENTS, environment="pusht")
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == saved
    assert saved["environment"] == "pusht"
    assert saved["packages"]["numpy"] == np.__version__
    found, moments = load_traces(tmp_path / "out" / "traces.npz")
    np.testing.assert_array_equal(moments, MOMENTS)
    assert list(found) == list(traces)
    for name, trace in traces.items():
        for key in ("steps", "score", "alarm", "kind", "success", "ends"):
            np.testing.assert_array_equal(getattr(found[name], key), getattr(trace, key))
        np.testing.assert_array_equal(found[name].signals["drift"], trace.signals["drift"])
    again = analyse(found["nominal"], {"teleport": found["teleport"]}, TIMING, {"teleport": 0.5})
    assert again["conditions"]["teleport"]["detection"] == result["conditions"]["teleport"]["detection"]


def test_the_episode_shown_is_in_the_middle_and_not_in_alarm_before():
    score = np.full((4, 11), 0.5)
    score[:, 5] = [9.0, 3.0, 5.0, 1000.0]
    alarm = score > 1
    alarm[2, 1] = True
    trace = Trace(STEPS, score, alarm, np.full((4, 11), -1), {})
    timing = Timing(STEPS, np.full(4, 12), 10, 20)
    score[3, 3:] = np.nan
    assert choose_episode({"one": trace}, timing, 4) == 1
    score[3, 3:] = 1000.0
    assert choose_episode({"one": trace}, timing, 4) == 0
    assert choose_episode({"one": trace}, timing, 2) == 1


@pytest.mark.parametrize("frames", [True, False])
def test_the_figure(traces, tmp_path, frames):
    pytest.importorskip("matplotlib")
    shown = traces if frames else {name: _trace(5, frames=False) for name in ("nominal", "mass")}
    path = tmp_path / "figures" / "surprise.png"
    save_figure(path, shown, TIMING, episode=1, seconds_per_step=0.1, title=figure_title("pusht", 4, list(shown)))
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] == 1650
    assert (picture[:5] == 255).all()
    red = (np.abs(picture.astype(int) - (192, 57, 43)).sum(axis=2) < 30).sum()
    assert red > 500
    coloured = (picture.max(axis=2).astype(int) - picture.min(axis=2) > 60).mean()
    assert (coloured > 0.2) == frames
