"""The window of PushT on a real display server: the mouse drags the block and puts the goal elsewhere."""

import threading
import time

import numpy as np
import pytest

pygame = pytest.importorskip("pygame")

from virtual_display import virtual_display  # noqa: E402

from wmkit.model_folder import resolve  # noqa: E402
from wmkit.monitor.report import KINDS  # noqa: E402
from wmkit.scripts.demo import Demo, make_session  # noqa: E402
from wmkit.window import app  # noqa: E402
from wmkit.window.view import View  # noqa: E402

MODEL = "pretrained:pusht-tiny"
SECONDS = 90.0

pytestmark = pytest.mark.skipif(not (resolve(MODEL) / "surprise.json").exists(), reason=f"{MODEL} is not calibrated")


@pytest.fixture
def display(monkeypatch):
    """A virtual display of its own."""
    with virtual_display() as name:
        monkeypatch.setenv("DISPLAY", name)
        monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
        yield


class Person(threading.Thread):
    """Waits for what it wants to see, and moves the mouse; what it saw is in `seen`, what went wrong in `error`."""

    def __init__(self, session, playground):
        super().__init__(daemon=True)
        self.session, self.playground = session, playground
        self.seen, self.error = {}, None

    def run(self):
        try:
            self._play()
        except Exception as error:
            self.error = error
        finally:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    def _play(self):
        self._until(lambda now: now.tick >= 11 and now.scores[-1] < 1 and not now.alarms[-1])
        before = self.session.snapshot()
        self.seen["before"] = before
        start = np.concatenate(list(self.playground.outline(before.state, "block"))).mean(axis=0)
        target = (0.75 if start[0] < 0.5 else 0.25, 0.75 if start[1] < 0.5 else 0.25)
        self._mouse(pygame.MOUSEBUTTONDOWN, start, button=1)
        for share in (0.25, 0.5, 0.75, 1.0):
            self._mouse(pygame.MOUSEMOTION, np.add(start, share * np.subtract(target, start)))
            time.sleep(0.05)
        self._mouse(pygame.MOUSEBUTTONUP, target, button=1)
        self._until(lambda now: np.hypot(*(now.state[2:4] - before.state[2:4])) > 50)
        self._until(lambda now: now.alarms[-1])
        self.seen["alarmed"] = alarmed = self.session.snapshot()
        self._key(pygame.KEYDOWN, pygame.K_g)
        self._mouse(pygame.MOUSEBUTTONDOWN, np.array((0.5, 0.5)), button=1)
        self._key(pygame.KEYUP, pygame.K_g)
        self._until(lambda now: now.text == "goal moved" or not np.array_equal(now.goal_picture, alarmed.goal_picture))
        self.seen["moved"] = moved = self.session.snapshot()
        self._until(lambda now: now.reached > moved.reached)
        self.seen["reached"] = self.session.snapshot()

    def _until(self, condition):
        end = time.monotonic() + SECONDS / 2
        while not condition(self.session.snapshot()):
            if time.monotonic() > end:
                raise TimeoutError(f"waited in vain; seen so far: {', '.join(self.seen)}")
            time.sleep(0.01)

    def _mouse(self, kind, place, **more):
        scene = View().scene
        pixel = (round(scene.left + place[0] * scene.width), round(scene.top + place[1] * scene.height))
        pygame.event.post(pygame.event.Event(kind, pos=pixel, **more))

    def _key(self, kind, key):
        pygame.event.post(pygame.event.Event(kind, key=key))


def test_a_person_drags_the_block_and_moves_the_goal(display):
    session = make_session(Demo("pusht", MODEL))
    playground = session._play._playground
    person = Person(session, playground)
    start = session.start

    def start_both():
        start()
        person.start()

    session.start = start_both
    stats = app.run(session, playground, seconds=SECONDS)
    person.join(5)
    assert person.error is None
    before, alarmed, moved, reached = (person.seen[name] for name in ("before", "alarmed", "moved", "reached"))
    assert before.scores[-1] < 1 < max(alarmed.scores[-3:])
    assert alarmed.kind in KINDS
    assert not np.array_equal(moved.goal_picture, alarmed.goal_picture)
    assert (moved.picture.shape, reached.reached) == ((512, 512, 3), moved.reached + 1)
    assert reached.episodes == moved.episodes, "the goal that was reached is the one that was clicked"
    assert stats.control_steps >= reached.tick - 1
    assert stats.frames > 2 * stats.control_steps, "drawing does not wait for plans"
