"""Recordings are whole files that show what the window showed, or one line says why not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pygame = pytest.importorskip("pygame")

from fake_simulation import PLAYGROUND, FakeSimulation, future, snapshot  # noqa: E402

from wmkit.errors import UserError  # noqa: E402
from wmkit.window import app, recorder, theme  # noqa: E402


def run(simulation, **options):
    return app.run(simulation, PLAYGROUND, **({"headless": True, "seconds": 0.6} | options))


def frames(path):
    """Return a GIF's frames (height, width, 3) and their milliseconds."""
    pictures, times = [], []
    with Image.open(path) as image:
        for k in range(image.n_frames):
            image.seek(k)
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
            times.append(image.info["duration"])
    return pictures, times


def key(code):
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=code, mod=0, unicode="", scancode=0))


def parts(folder):
    return [path.name for path in folder.iterdir()]


def test_a_recording_shows_what_happened(tmp_path):
    simulation = FakeSimulation(shown=snapshot(futures=(future((20, 10)),)))
    alarm = snapshot(scores=(0.2, 9.0), alarms=(False, True), kind="state", text="moved")
    simulation.script |= {12: lambda: setattr(simulation, "shown", alarm), 36: lambda: key(pygame.K_ESCAPE)}
    stats = run(simulation, record=tmp_path / "deep" / "a.gif", seconds=60.0)
    pictures, times = frames(tmp_path / "deep" / "a.gif")
    assert len(pictures) > 3
    assert sum(times) == pytest.approx(1000 * stats.seconds + 1000, abs=350)  # the last frame's own second
    assert pictures[0].shape[1] == 800
    red = [(np.abs(p - np.array(theme.ALARM)).max(axis=-1) < 30).mean() for p in pictures]
    assert red[0] < 0.01 < 0.03 < red[-1]
    green = (np.abs(pictures[0] - np.array(theme.GOAL)).max(axis=-1) < 60).sum()
    assert green > 50
    assert parts(tmp_path / "deep") == ["a.gif"]


def test_an_mp4_holds_the_frames(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    stats = run(FakeSimulation(), record=tmp_path / "a.mp4")
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4"))
    assert count == pytest.approx(12.5 * stats.seconds, abs=3)
    assert seconds == pytest.approx(count / 12.5, abs=0.1)
    assert parts(tmp_path) == ["a.mp4"]


def test_an_interrupted_recording_is_whole(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    simulation = FakeSimulation({20: interrupt})
    simulation.script[20] = lambda: (simulation.script.pop(20), interrupt())
    with pytest.raises(KeyboardInterrupt):
        run(simulation, record=tmp_path / "a.gif", seconds=30.0)
    assert simulation.stopped
    assert len(frames(tmp_path / "a.gif")[0]) >= 2


def test_a_recording_replaces_a_file_only_when_it_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    path.write_bytes(b"before")

    def full(self, aside):
        aside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder.Recorder, "_write_gif", full)
    with pytest.raises(UserError, match="No space left on device"):
        run(FakeSimulation(), record=path)
    assert path.read_bytes() == b"before"
    assert parts(tmp_path) == ["a.gif"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.avi", r"\.gif or \.mp4"), ("a", r"\.gif or \.mp4"), ("file/a.gif", "cannot write"), ("folder.gif", "folder")],
)
def test_what_cannot_be_written_is_refused_before_anything_starts(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.gif").mkdir()
    simulation = FakeSimulation()
    with pytest.raises(UserError, match=message) as caught:
        run(simulation, record=tmp_path / name)
    assert not simulation.started
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    simulation = FakeSimulation()
    with pytest.raises(UserError, match="only 1 MB are free"):
        run(simulation, record=tmp_path / "a.gif")
    assert not simulation.started


def test_v_starts_and_ends_recordings_without_overwriting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wmkit-demo.gif").write_bytes(b"mine")

    script = dict.fromkeys((3, 12, 20, 30), lambda: key(pygame.K_v))
    run(FakeSimulation(script | {34: lambda: key(pygame.K_ESCAPE)}), seconds=60.0)
    assert sorted(parts(tmp_path)) == ["wmkit-demo-2.gif", "wmkit-demo-3.gif", "wmkit-demo.gif"]
    assert Path("wmkit-demo.gif").read_bytes() == b"mine"
    assert len(frames(tmp_path / "wmkit-demo-2.gif")[0]) >= 2


def test_v_where_nothing_can_be_written_does_not_end_the_window(tmp_path, monkeypatch):
    monkeypatch.setattr("wmkit.window.loop._RECORDING", tmp_path / "file" / "a.gif")
    (tmp_path / "file").write_text("")
    titles = []

    script = {3: lambda: key(pygame.K_v), 6: lambda: titles.append(pygame.display.get_caption()[0])}
    assert run(FakeSimulation(script | {12: lambda: key(pygame.K_ESCAPE)}), seconds=60.0).frames == 11
    assert "cannot write the recording" in titles[0]


def test_a_recording_is_bounded(tmp_path):
    pygame.font.init()
    surface, record = pygame.Surface((400, 300)), recorder.Recorder(tmp_path / "a.gif", 0.0)
    for second in range(0, 200, 10):
        record.add(surface, float(second))
    assert len(record._frames) == 60 * 12.5


def test_a_recording_without_a_frame_writes_nothing(tmp_path):
    record = recorder.Recorder(tmp_path / "a.gif", 0.0)
    record.finish()
    record.wait()
    assert parts(tmp_path) == []
