"""Windows: within one episode, at the right times, with the right actions, from any cache."""

import tempfile
from pathlib import Path

import pytest
import torch
from counting_store import write_counting_store
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.data import windows as windows_module
from wmkit.data.windows import Windows
from wmkit.errors import UserError

COLUMNS = ("pixels", "state")


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _check(windows, batch, lengths, frames, repeat):
    """Every number of a counting store says where it stands: compare all of them with the window's place."""
    episode, start = batch["episode"], batch["start"]
    times = start[:, None] + repeat * torch.arange(frames)
    assert (times[:, -1] <= torch.tensor(lengths)[episode]).all()
    assert (batch["state"][..., 0] == episode[:, None]).all()
    assert (batch["state"][..., 1] == times).all()
    assert (batch["pixels"] == times[..., None, None, None]).all()
    steps = times[:, :-1, None] + torch.arange(repeat)
    expected = torch.stack([episode[:, None, None].expand_as(steps), steps], dim=-1).flatten(-2) / 1000
    torch.testing.assert_close(batch["action"], expected.float())
    assert batch["action"].shape == (len(episode), frames - 1, 2 * repeat)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    frames=st.integers(1, 4),
    repeat=st.integers(1, 5),
    seed=st.integers(0, 1000),
    disk=st.booleans(),
)
def test_windows_never_cross_episodes(lengths, frames, repeat, seed, disk):
    if max(lengths) < (frames - 1) * repeat:
        lengths = [*lengths, (frames - 1) * repeat]
    with tempfile.TemporaryDirectory() as folder:
        store = write_counting_store(Path(folder), lengths, per_shard=2)
        windows = Windows(store, range(len(lengths)), frames, repeat, COLUMNS, "disk" if disk else "memory")
        _check(windows, windows.sample(24, _generator(seed)), lengths, frames, repeat)
        _check(windows, windows.batch(windows.ordered()), lengths, frames, repeat)
        everything = windows.ordered(stride=1)
        assert len(everything) == len(windows) == sum(max(0, n + 1 - (frames - 1) * repeat) for n in lengths)
        assert len(everything.unique(dim=0)) == len(everything)
        store.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_counting_store(tmp_path_factory.mktemp("store"), [12, 4, 30, 9, 3], per_shard=2)


def test_disk_equals_memory(store):
    batches = [
        Windows(store, [4, 0, 2], 3, 2, COLUMNS, cache).sample(40, _generator(7)) for cache in ("memory", "disk")
    ]
    assert set(batches[0]) == {"pixels", "state", "action", "episode", "start"}
    for name, tensor in batches[0].items():
        assert tensor.dtype == batches[1][name].dtype
        assert torch.equal(tensor, batches[1][name]), name


def test_every_window_is_equally_likely(store):
    windows = Windows(store, range(5), 2, 3)
    rows = windows.index(20_000, _generator())[:, 0]
    counts = torch.bincount(rows)[windows.ordered(stride=1)[:, 0]].double()
    expected = 20_000 / len(windows)
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(windows) - 1
    assert int(counts.sum()) == 20_000
    assert chi_squared < freedom + 5 * (2 * freedom) ** 0.5


def test_groups_come_from_one_episode(store):
    windows = Windows(store, [0, 2, 3], 3, 2, ("state",))
    batch = windows.sample(30, _generator(), per_episode=5)
    groups = batch["episode"].reshape(6, 5)
    assert (groups == groups[:, :1]).all()
    assert len(groups[:, 0].unique()) > 1
    assert len(batch["start"].reshape(6, 5)[0].unique()) > 1
    with pytest.raises(ValueError, match="multiple"):
        windows.index(7, _generator(), per_episode=5)


def test_frames_lie_in_one_tensor_that_index_addresses(store):
    windows = Windows(store, [3, 0], 3, 2, COLUMNS, "memory")
    frames = windows.frames("state")
    assert frames.is_contiguous()
    assert frames.shape == (10 + 13, 2)
    assert windows.episodes.tolist() == [3, 0]
    assert windows.offsets.tolist() == [0, 10, 23]
    assert windows.lengths.tolist() == [9, 12]
    rows = windows.index(16, _generator(3))
    assert torch.equal(frames[rows], windows.sample(16, _generator(3))["state"])
    assert torch.equal(torch.cat(list(windows.frame_batches("state", 4))), frames)


def test_frame_batches_need_no_memory(store):
    disk, memory = (Windows(store, [2, 1], 2, 2, COLUMNS, cache) for cache in ("disk", "memory"))
    assert torch.equal(torch.cat(list(disk.frame_batches("pixels", 7))), memory.frames("pixels"))
    with pytest.raises(UserError, match="not in memory"):
        disk.frames("pixels")


def test_index_takes_another_number_of_frames(store):
    windows = Windows(store, range(5), 2, 3)
    assert windows.index(4, _generator(), frames=5).shape == (4, 5)
    assert windows.ordered(frames=8, stride=1).shape == (30 + 1 - 7 * 3, 8)
    with pytest.raises(UserError, match="8 frames span 35"):
        Windows(store, range(5), 2, 5).index(4, _generator(), frames=8)


def test_blocks_refuse_to_leave_the_episode(store):
    windows = Windows(store, [0, 1], 2, 3)
    assert windows.blocks(torch.tensor([9])).shape == (1, 6)
    with pytest.raises(ValueError, match="fewer than action_repeat=3"):
        windows.blocks(torch.tensor([10]))
    with pytest.raises(ValueError, match="fewer than action_repeat=3"):
        windows.actions(torch.tensor([[11, 14]]))


def test_rows_that_were_drawn_need_no_look_at_them(store, monkeypatch):
    windows = Windows(store, "all", 3, 2, cache="memory")
    rows = windows.index(6, _generator())
    expected = windows.batch(rows)
    monkeypatch.setattr(torch.Tensor, "__int__", lambda self: 1 / 0)
    unchecked = windows.sample(6, _generator())
    assert all(torch.equal(expected[name], unchecked[name]) for name in expected)
    with pytest.raises(ZeroDivisionError):
        windows.batch(rows)


def test_splits_are_disjoint(tmp_path):
    store = write_counting_store(tmp_path, [4] * 20)
    drawn = [set(Windows(store, name, 2, 1).episodes.tolist()) for name in ("train", "validation", "heldout")]
    assert set.union(*drawn) == set(range(20))
    assert sum(map(len, drawn)) == 20


def test_auto_chooses_by_size(store, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Windows(store, "all", 2, 1).cache == "memory"
    size = int((store.lengths + 1).sum()) * 4 * 4 * 3
    monkeypatch.setattr(windows_module, "_free_memory", lambda: size)
    assert Windows(store, "all", 2, 1).cache == "disk"
    with pytest.raises(UserError, match="needs a CUDA device"):
        Windows(store, "all", 2, 1, cache="gpu")


def test_bad_requests(store):
    with pytest.raises(UserError, match="no window fits: 9 frames span 32 environment steps"):
        Windows(store, range(5), 9, 4)
    with pytest.raises(UserError, match="no episode 7"):
        Windows(store, [0, 7], 2, 1)
    with pytest.raises(UserError, match="column 'action' is stored per step"):
        Windows(store, [0], 2, 1, ("action",))
    with pytest.raises(UserError, match="at least 1"):
        Windows(store, [0], 2, 0)
    with pytest.raises(UserError, match="unknown cache"):
        Windows(store, [0], 2, 1, cache="tape")  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_memory(store):
    batches = [Windows(store, range(5), 3, 2, COLUMNS, cache).sample(40, _generator(7)) for cache in ("memory", "gpu")]
    for name, tensor in batches[0].items():
        assert torch.equal(tensor, batches[1][name].cpu()), name
