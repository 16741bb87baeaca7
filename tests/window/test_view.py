"""What a snapshot says is on the screen; drawn without a display."""

import time
from dataclasses import replace

import numpy as np
import pytest

pygame = pytest.importorskip("pygame")

from fake_simulation import GOAL, PLAYGROUND, STATE, future, sketch, snapshot  # noqa: E402

from wmkit.window import theme  # noqa: E402
from wmkit.window.controls import KEYS  # noqa: E402
from wmkit.window.curves import score_height  # noqa: E402
from wmkit.window.panel import LEGEND  # noqa: E402
from wmkit.window.view import DEFAULT_SIZE, View  # noqa: E402


@pytest.fixture(scope="module")
def view():
    pygame.font.init()
    return View()


def drawn(view, shown, **options):
    """Return the pixels (height, width, 3) of one frame as int64."""
    surface = pygame.Surface(DEFAULT_SIZE)
    view.draw(surface, shown, **({"fps": 30.0, "recording": False} | options))
    return pygame.surfarray.array3d(surface).swapaxes(0, 1).astype(int)


def scene(view, frame):
    rect = view.scene
    return frame[rect.top : rect.bottom, rect.left : rect.right]


def panel(view, frame):
    return frame[:, view.scene.right + 1 :]


def has(pixels, color, tolerance=30):
    """Return how many pixels have about a colour."""
    return int((np.abs(pixels - np.array(color)).max(axis=-1) <= tolerance).sum())


def near(view, frame, place, reach=4):
    """Return the pixels about a place of the scene."""
    x, y = (round(p * view.scene.width) for p in place)
    return scene(view, frame)[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]


def alarmed(**changes):
    return snapshot(scores=(0.4, 0.5, 8.0), alarms=(False, False, True), kind="state", text="it moved", **changes)


def test_the_scene_is_the_picture_enlarged(view):
    frame = drawn(view, snapshot())
    assert has(near(view, frame, STATE[:2] / 512), (78, 126, 255)) > 50
    assert has(near(view, frame, (0.9, 0.9)), (255, 255, 255), 0) == 81


def test_an_alarm_is_a_banner_in_the_scene_and_red_in_the_curve(view):
    calm, alarm = drawn(view, snapshot()), drawn(view, alarmed())
    top = slice(0, round(0.08 * view.scene.height))
    assert has(scene(view, calm)[top], theme.ALARM) == 0
    assert has(scene(view, alarm)[top], theme.ALARM) > 0.6 * scene(view, alarm)[top].shape[0] * view.scene.width
    assert has(panel(view, calm), theme.ALARM) == 0
    assert has(panel(view, alarm), theme.ALARM, 5) > 200
    assert has(panel(view, alarm), theme.ALARM_PALE, 5) > 100


@pytest.mark.parametrize("change", [{"text": "another"}, {"kind": "dynamics"}])
def test_the_banner_says_what_and_why(view, change):
    top = slice(0, round(0.08 * view.scene.height))
    first, second = (scene(view, drawn(view, shown))[top] for shown in (alarmed(), replace(alarmed(), **change)))
    assert (first != second).any()


def test_a_past_alarm_stays_red_in_the_curve_without_a_banner(view):
    shown = snapshot(scores=(0.4, 8.0, 0.5), alarms=(False, True, False))
    frame = drawn(view, shown)
    assert has(scene(view, frame), theme.ALARM) == 0
    assert has(panel(view, frame), theme.ALARM, 5) > 100


def test_the_threshold_is_a_dashed_line_and_surprise_above_lies_above(view):
    rect = view._panel._scores.rect
    frame = drawn(view, snapshot(scores=(0.0,) * 3, alarms=(False,) * 3))
    plot = frame[rect.top : rect.bottom, rect.left : rect.right]
    dark = (plot.mean(axis=-1) < 200).sum(axis=1)
    row = int(np.argmax(dark[: round(0.9 * rect.height)]))
    assert 0.35 * rect.width < dark[row] < 0.65 * rect.width
    assert row == pytest.approx(rect.height * (1 - score_height(1.0)), abs=3)
    for score, above in ((0.8, False), (1.3, True)):
        frame = drawn(view, snapshot(scores=(score,) * 60, alarms=(False,) * 60))
        ink = np.abs(frame[rect.top : rect.bottom, rect.left : rect.right] - np.array(theme.INK)).max(axis=-1) < 20
        assert (np.flatnonzero(ink.any(axis=1)).mean() < row) == above


def test_the_scale_of_surprise_is_monotonic_and_capped():
    heights = [score_height(score) for score in (0.0, 0.5, 0.99, 1.0, 1.01, 3.0, 29.0, 31.0, 1e9)]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (0.0, 1.0)
    assert score_height(1.0) == pytest.approx(score_height(1.0 + 1e-9))


def test_missing_scores_leave_a_gap(view):
    rect, nan = view._panel._scores.rect, float("nan")
    frame = drawn(view, snapshot(scores=(0.5,) * 20 + (nan,) * 20 + (0.5,) * 20, alarms=(False,) * 60))
    below = slice(rect.bottom - round(0.4 * rect.height), rect.bottom - 4)
    columns = (frame[below, rect.left : rect.right].mean(axis=-1) < 150).any(axis=0)
    third = rect.width // 3
    assert columns[:third].mean() > 0.8
    assert columns[third + 8 : 2 * third - 8].mean() < 0.1


def test_futures_are_in_the_scene_the_best_strongest(view):
    best, other = future((20, 10)), future((10, -30))
    none = scene(view, drawn(view, snapshot()))
    first = scene(view, drawn(view, snapshot(futures=(best, other))))
    second = scene(view, drawn(view, snapshot(futures=(other, best))))
    changed = np.abs(first - none).sum(axis=(0, 1, 2))
    assert changed > 0
    corner = best[0][0][0]
    inked = [np.abs(p - none)[_box(view, corner)].sum() for p in (first, second)]
    assert inked[0] > 1.5 * inked[1] > 0


def test_later_steps_of_a_future_are_fainter(view):
    none = scene(view, drawn(view, snapshot()))
    lines = scene(view, drawn(view, snapshot(futures=(future((60, -40), 3),))))
    inked = [np.abs(lines - none)[_box(view, step[1].mean(axis=0), 30)].max() for step in future((60, -40), 3)]
    assert inked[0] > inked[1] > inked[2] > 0


def _box(view, place, reach=6):
    x, y = (round(p * view.scene.width) for p in place)
    return slice(max(y - reach, 0), y + reach), slice(max(x - reach, 0), x + reach)


def test_the_goal_is_a_dashed_green_outline(view):
    frame = scene(view, drawn(view, snapshot()))
    start, end = sketch(GOAL)[0][0], sketch(GOAL)[0][1]
    along = [np.rint((start + t * (end - start)) * view.scene.width).astype(int) for t in np.linspace(0.03, 0.97, 90)]
    green = [has(frame[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3), theme.GOAL, 60) > 0 for x, y in along]
    assert 0.3 < np.mean(green) < 0.95
    assert has(scene(view, drawn(view, snapshot(goal_outline=()))), theme.GOAL, 60) == 0


def test_what_the_mouse_holds_is_drawn_over_the_scene(view):
    state = PLAYGROUND.drag(STATE, "block", 0.7, 0.6)
    shown = snapshot()
    without, held = drawn(view, shown), drawn(view, shown, dragged=PLAYGROUND.outline(state, "block"))
    assert np.abs(held - without)[_box(view, (0.7, 0.6), 80)].max() > 100
    assert (drawn(view, shown) == without).all()


@pytest.mark.parametrize(
    "change",
    [
        {"planner": "mppi"},
        {"protocol": "long75"},
        {"reaction": "hold"},
        {"reached": 7},
        {"episodes": 9},
        {"decision_ms": 33.0},
        {"decision_p99_ms": 44.0},
        {"control_hz": 9.5},
        {"costs": (3.0, 1.0, 2.0)},
        {"scores": (0.1, 0.9), "alarms": (False, False)},
        {"goal_picture": np.zeros((64, 64, 3), np.uint8)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_panel_shows(view, change):
    before, after = drawn(view, snapshot()), drawn(view, snapshot(**change))
    assert (panel(view, before) != panel(view, after)).any()
    assert (scene(view, before) == scene(view, after)).all()


@pytest.mark.parametrize("change", [{"changes": ("colour",)}, {"paused": True}, {"success": True}], ids=str)
def test_the_scene_says(view, change):
    before, after = drawn(view, snapshot()), drawn(view, snapshot(**change))
    assert (scene(view, before) != scene(view, after)).any()


def test_hints_are_shown_with_and_without_scores(view):
    shown = snapshot(scores=(), alarms=())
    without, hinted = drawn(view, shown), drawn(view, replace(shown, hint="wmkit calibrate " * 9))
    assert (panel(view, without) != panel(view, hinted)).any()
    assert (drawn(view, snapshot()) != drawn(view, snapshot(hint="wmkit inspect RUN"))).any()


def test_the_rate_and_the_recording_change_though_the_snapshot_does_not(view):
    shown = snapshot()
    first = drawn(view, shown)
    assert (panel(view, first) != panel(view, drawn(view, shown, fps=12.0))).any()
    recording = drawn(view, shown, recording=True)
    assert has(recording, theme.ALARM, 5) > 100 > has(first, theme.ALARM, 5)


def test_what_changes_is_told(view):
    """What lies outside the parts that are told does not change; they are small while the snapshot stays."""
    shown, surface = snapshot(), pygame.Surface(DEFAULT_SIZE)
    held = PLAYGROUND.outline(STATE, "block")
    frames = [
        ({"fps": 30.0}, True),
        ({"fps": 31.0}, False),
        ({"dragged": held}, False),
        ({}, False),
        ({}, False),
        ({"recording": True}, True),
        ({}, True),
    ]
    before = np.full((*DEFAULT_SIZE, 3), -1)
    for options, whole in frames:
        changed = view.draw(surface, shown, **({"fps": 31.0, "recording": False} | options))
        after = pygame.surfarray.array3d(surface).astype(int)
        assert (changed == [surface.get_rect()]) == whole
        outside = np.ones(DEFAULT_SIZE, bool)
        for rect in changed:
            outside[rect.left : rect.right, rect.top : rect.bottom] = False
        np.testing.assert_array_equal(before[outside], after[outside])
        before = after


def test_every_key_is_on_the_screen():
    shown = {key for row in LEGEND for key, _ in row} | {"P", "O", "A"}
    assert {pygame.key.name(key) for key in KEYS} - {"right"} <= {key.lower() for key in shown}
    assert {"drag", "right-drag", "shift-click", "V", "Esc"} <= shown


def test_places_of_the_scene_are_zero_to_one(view):
    rect = view.scene
    assert view.place(rect.topleft) == (0.0, 0.0)
    assert view.place(rect.bottomright) == (1.0, 1.0)
    assert view.place((rect.right + rect.width, rect.top)) == (2.0, 0.0)


@pytest.mark.parametrize("size", [(200, 200), (640, 400), (1600, 700), (900, 1200)])
def test_other_sizes_fit(size):
    view, surface = View(size), pygame.Surface(size)
    view.draw(surface, alarmed(futures=(future((20, 10)),)), fps=30.0, recording=True)
    assert surface.get_rect().contains(view.scene)
    assert view.scene.width == view.scene.height
    assert view.scene.width == pytest.approx(540 * min(size[0] / 1080, size[1] / 620), abs=1)


@pytest.mark.parametrize("side", [32, 64, 700])
def test_pictures_of_any_size_and_odd_numbers_are_drawn(view, side):
    nan = float("nan")
    shown = snapshot(
        picture=np.zeros((side, side, 3), np.uint8), costs=(nan, float("inf"), 1.0), scores=(nan,), alarms=(True,)
    )
    assert scene(view, drawn(view, shown)).mean() < 128


def test_a_new_snapshot_is_drawn_well_within_a_frame(view):
    futures, times = tuple(future((20, k)) for k in range(8)), []
    for tick in range(30):
        shown = snapshot(tick=tick, futures=futures, scores=(0.5,) * 60, alarms=(False,) * 60)
        start = time.perf_counter()
        drawn(view, shown)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 1 / 30
