"""The window's loop with a simulation made by hand: mouse and keys, a display or none, and what is refused.

Scripted runs happen without a display always, and on a virtual one where Xvfb is installed.
"""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

pygame = pytest.importorskip("pygame")

from fake_simulation import PLAYGROUND, STATE, FakeSimulation, snapshot  # noqa: E402
from virtual_display import virtual_display  # noqa: E402

from wmkit.errors import UserError  # noqa: E402
from wmkit.window import app  # noqa: E402
from wmkit.window.controls import Controls  # noqa: E402
from wmkit.window.view import DEFAULT_SIZE, View  # noqa: E402

BLOCK = np.concatenate(list(PLAYGROUND.outline(STATE, "block"))).mean(axis=0)
AGENT = STATE[:2] / 512
DISPLAY_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


@pytest.fixture(scope="module")
def xvfb():
    with virtual_display() as name:
        yield name


@pytest.fixture(params=["dummy", "xvfb"])
def window(request, monkeypatch):
    """Return the options with which `run` opens a window, without or on a virtual display."""
    for name in DISPLAY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if request.param == "dummy":
        return {"headless": True}
    monkeypatch.setenv("DISPLAY", request.getfixturevalue("xvfb"))
    return {}


@pytest.fixture
def no_display(monkeypatch):
    for name in DISPLAY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@functools.cache
def scene():
    return View().scene


def pixel(place):
    rect = scene()
    return round(rect.left + place[0] * rect.width), round(rect.top + place[1] * rect.height)


def post(kind, **values):
    pygame.event.post(pygame.event.Event(kind, **values))


def press(place, button=1):
    post(pygame.MOUSEBUTTONDOWN, pos=pixel(place), button=button)


def move(place):
    post(pygame.MOUSEMOTION, pos=pixel(place), rel=(0, 0), buttons=(1, 0, 0))


def let_go(place, button=1):
    post(pygame.MOUSEBUTTONUP, pos=pixel(place), button=button)


def key(code, kind=None):
    post(kind or pygame.KEYDOWN, key=code, mod=0, unicode="", scancode=0)


def play(window, script, **options):
    """Run a script, frame number -> what the person does, and return the simulation."""
    simulation = FakeSimulation({frame: act for frame, act in script})
    app.run(simulation, PLAYGROUND, **({"seconds": 60.0, "fps": 60} | window | options))
    return simulation


def quit_at(frame):
    return frame, lambda: key(pygame.K_ESCAPE)


def test_a_drag_reaches_the_simulation_and_ends_where_the_mouse_does(window):
    steps = np.linspace(0, 1, 12)[1:, None] * (np.array([0.7, 0.6]) - BLOCK) + BLOCK
    script = [(3, lambda: press(BLOCK)), *((4 + k, lambda p=p: move(p)) for k, p in enumerate(steps))]
    simulation = play(window, [*script, (18, lambda: let_go((0.7, 0.6))), quit_at(22)])
    drags = simulation.named("drag")
    assert 2 <= len(drags) < 12
    assert {drag.handle for drag in drags} == {"block"}
    np.testing.assert_allclose((drags[-1].x, drags[-1].y), (0.7, 0.6), atol=2 / 540)
    assert np.all(np.diff([drag.x for drag in drags]) >= 0)
    assert [command.name for command in simulation.commands][-1] == "release"
    assert (simulation.started, simulation.stopped) == (1, 1)


def test_the_block_is_held_where_it_was_grabbed(window):
    grip, shift = BLOCK + np.array([0.03, 0.02]), np.array([0.2, 0.1])
    script = [(3, lambda: press(grip)), (4, lambda: move(grip + shift)), (5, lambda: let_go(grip + shift)), quit_at(7)]
    last = play(window, script).named("drag")[-1]
    np.testing.assert_allclose((last.x, last.y), BLOCK + shift, atol=3 / 540)


def test_the_agent_lies_on_top_and_nothing_is_grabbed_beside(window):
    script = [(3, lambda: press(AGENT)), (4, lambda: move((0.9, 0.9))), (5, lambda: let_go((0.9, 0.9)))]
    script += [(6, lambda: press((0.9, 0.1))), (7, lambda: move((0.5, 0.5))), (8, lambda: let_go((0.5, 0.5)))]
    assert {drag.handle for drag in play(window, [*script, quit_at(10)]).named("drag")} == {"agent"}


def test_a_click_without_movement_moves_nothing(window):
    simulation = play(window, [(3, lambda: press(BLOCK)), (4, lambda: let_go(BLOCK)), quit_at(6)])
    assert not simulation.named("drag")


def test_drags_end_within_the_scene(window):
    script = [(3, lambda: press(BLOCK)), (4, lambda: move((3.0, -2.0))), (5, lambda: let_go((3.0, -2.0))), quit_at(7)]
    last = play(window, script).named("drag")[-1]
    assert (last.x, last.y) == (1.0, 0.0)


@pytest.mark.parametrize("how", ["shift", "g"])
def test_a_click_with_shift_or_g_puts_the_goal_there(window, how):
    def click():
        if how == "g":
            key(pygame.K_g)
        else:
            pygame.key.set_mods(pygame.KMOD_SHIFT)
        press((0.25, 0.75))
        let_go((0.25, 0.75))

    def after():
        key(pygame.K_g, pygame.KEYUP)
        pygame.key.set_mods(0)
        press((0.6, 0.2))
        let_go((0.6, 0.2))

    (goal,) = play(window, [(3, click), (5, after), quit_at(7)]).named("goal")
    np.testing.assert_allclose((goal.x, goal.y), (0.25, 0.75), atol=1 / 540)


def test_a_right_drag_and_the_wheel_turn(window):
    script = [
        (3, lambda: press(BLOCK, 3)),
        *((k, lambda k=k: move((BLOCK[0] + 0.01 * (k - 3), BLOCK[1]))) for k in range(4, 14)),
    ]
    script += [(14, lambda: let_go(BLOCK, 3)), (20, lambda: post(pygame.MOUSEWHEEL, x=0, y=-2, flipped=False))]
    spins = play(window, [*script, quit_at(32)]).named("spin")
    assert sum(spin.angle for spin in spins[:-1]) == pytest.approx(2 * np.pi * 0.1, abs=2 * np.pi * 2 / 540)
    assert spins[-1].angle == pytest.approx(-np.pi / 6)


@pytest.mark.parametrize(
    ("code", "name"),
    [("c", "recolour"), ("w", "weaken"), ("t", "teleport"), ("p", "planner"), ("o", "protocol"), ("a", "reaction"),
     ("space", "pause"), ("s", "step"), ("right", "step"), ("r", "reset")],
)  # fmt: skip
def test_keys_are_commands(code, name, no_display):
    simulation = play({"headless": True}, [(3, lambda: key(pygame.key.key_code(code))), quit_at(5)])
    assert [command.name for command in simulation.commands] == [name]


def test_many_movements_are_few_commands_and_the_last_one_counts(no_display):
    posted = []
    controls = Controls(PLAYGROUND, posted.append, lambda position: position)

    def take(kind, now, **values):
        controls.handle(pygame.event.Event(kind, **values), snapshot(), now)

    pygame.display.init()
    take(pygame.MOUSEBUTTONDOWN, 0.0, pos=tuple(BLOCK), button=1)
    for k in range(1, 1001):
        take(pygame.MOUSEMOTION, k / 1000, pos=(BLOCK[0] + k / 5000, BLOCK[1]))
    assert 14 <= len(posted) <= 16
    take(pygame.MOUSEBUTTONUP, 1.001, pos=(0.0, 0.0), button=1)
    assert [command.name for command in posted[-2:]] == ["drag", "release"]
    assert posted[-2].x == pytest.approx(BLOCK[0] + 0.2)
    before = len(posted)
    controls.flush(9.0)
    assert len(posted) == before


def test_the_held_outline_follows_the_mouse_at_once(no_display):
    seen = {}

    def look(name):
        surface = pygame.display.get_surface()
        seen[name] = pygame.surfarray.array3d(surface).swapaxes(0, 1).astype(int) if surface else None

    script = [(3, lambda: press(BLOCK)), (6, lambda: look("held")), (7, lambda: move((0.7, 0.7)))]
    play({"headless": True}, [*script, (9, lambda: look("moved")), quit_at(10)])
    x, y = pixel((0.7, 0.7))
    box = slice(y - 70, y + 70), slice(x - 70, x + 70)
    dark = [(seen[name][box].max(axis=-1) < 80).sum() for name in ("held", "moved")]
    assert dark[0] == 0
    assert dark[1] > 100


def test_the_window_ends_by_time_and_says_how_it_ran(window):
    simulation = FakeSimulation()
    stats = app.run(simulation, PLAYGROUND, seconds=0.5, fps=50, **window)
    assert 0.45 < stats.seconds < 2.0
    assert 5 <= stats.frames <= 27
    assert 0 < stats.frame_ms_p50 <= stats.frame_ms_p99
    assert stats.control_steps >= stats.frames - 1
    assert simulation.stopped


def test_closing_the_window_ends_it(window):
    assert play(window, [(3, lambda: post(pygame.QUIT))]).frames < 8


def test_the_window_can_be_resized(window):
    def resize():
        pygame.display.set_mode((700, 420), pygame.RESIZABLE)
        post(pygame.VIDEORESIZE, size=(700, 420), w=700, h=420)

    view = View((700, 420)).scene
    place = tuple(round(edge + 0.5 * view.width) for edge in view.topleft)

    def click():
        pygame.key.set_mods(pygame.KMOD_SHIFT)
        post(pygame.MOUSEBUTTONDOWN, pos=place, button=1)

    simulation = play(window, [(3, resize), (6, click), (7, lambda: pygame.key.set_mods(0)), quit_at(9)])
    (goal,) = simulation.named("goal")
    np.testing.assert_allclose((goal.x, goal.y), 0.5, atol=2 / view.width)


def test_headless_leaves_the_environment_as_it_was(monkeypatch, no_display):
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
    play({"headless": True}, [quit_at(3)])
    assert os.environ["SDL_VIDEODRIVER"] == "offscreen"


@pytest.mark.parametrize("driver", [None, "dummy", "offscreen", "x11"])
def test_no_display_is_one_line_that_names_headless(driver, monkeypatch, no_display, capfd):
    if driver is not None:
        monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    simulation = FakeSimulation()
    with pytest.raises(UserError, match=r"no display.*--headless") as caught:
        app.run(simulation, PLAYGROUND, seconds=1.0)
    assert "\n" not in str(caught.value)
    assert not simulation.started
    assert driver is not None or capfd.readouterr() == ("", "")


def test_without_pygame_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UserError, match=r"pip install 'wmkit\[demo\]'"):
        app.run(FakeSimulation(), PLAYGROUND, headless=True, seconds=1.0)


def test_the_module_imports_without_pygame():
    code = "import sys; sys.modules['pygame'] = None; import wmkit.window.app"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_error_of_the_simulation_ends_the_window(no_display):
    simulation = FakeSimulation()
    simulation.script[4] = lambda: setattr(simulation, "error", UserError("the planner gave up"))
    with pytest.raises(UserError, match="the planner gave up"):
        app.run(simulation, PLAYGROUND, headless=True, seconds=30.0)
    assert simulation.stopped
    assert simulation.frames < 10


def test_the_default_size_is_the_views(window):
    sizes = []
    play(window, [(3, lambda: sizes.append(pygame.display.get_surface().get_size())), quit_at(4)])
    assert sizes == [DEFAULT_SIZE]
