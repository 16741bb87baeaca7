"""Checkpoint files: whole or absent, exact, and never a pickle."""

import resource
import signal

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wmkit.errors import UserError
from wmkit.training.checkpoint import (
    copy_tensors,
    load_checkpoint,
    module_tensors,
    pack_optimizers,
    save_checkpoint,
    unpack_optimizers,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
def test_what_is_saved_comes_back(tmp_path, dtype):
    tensors = {
        "a": torch.arange(6).view(2, 3).to(dtype),
        "scalar": torch.tensor(3).to(dtype),
        "none": torch.empty(0, 2),
    }
    tensors["turned"] = tensors["a"].mT
    state = {"step": 3, "best": None, "names": ["ä", "b"], "score": 0.1 + 0.2}
    save_checkpoint(tmp_path / "x.safetensors", tensors, state)
    back = load_checkpoint(tmp_path / "x.safetensors")
    assert back.state == state
    assert back.tensors.keys() == tensors.keys()
    assert all(torch.equal(back.tensors[name], tensors[name]) for name in tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_full_disk_is_one_error_and_keeps_the_earlier_checkpoint(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.ones(4)}, {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(UserError, match=r"cannot write .*x\.safetensors: File too large"):
            save_checkpoint(path, {"a": torch.ones(100_000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(path).state == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_cut_file_is_refused(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "x.safetensors"
    save_checkpoint(path, {"a": torch.randn(20), "b": torch.randn(3, 3)}, {"step": 1})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)


def test_another_safetensors_file_is_refused(tmp_path):
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_pickle_is_refused_unread(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save(Trap(), tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(tmp_path / "x.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_shared_weights_are_kept_once():
    a, b = nn.Linear(2, 3), nn.Linear(2, 3)
    b.weight = a.weight
    found = module_tensors({"both": nn.ModuleList([a, b]), "again": a})
    assert sorted(found) == ["both/0.bias", "both/0.weight", "both/1.bias"]


def test_module_state_that_is_no_tensor_is_refused():
    class Odd(nn.Module):
        def get_extra_state(self):
            return "text"

    with pytest.raises(ValueError, match="_extra_state is str, not a tensor"):
        module_tensors({"odd": Odd()})


@pytest.mark.parametrize("source", [{}, {"a": torch.ones(3)}])
def test_a_checkpoint_that_does_not_fit_is_refused(source):
    target = {"a": torch.zeros(2)}
    with pytest.raises(UserError, match=r"for a, the model has \(2,\)"):
        copy_tensors(source, target)
    copy_tensors(source, target, strict=False)
    assert torch.equal(target["a"], torch.zeros(2))


class _Strange(torch.optim.Optimizer):
    """Keeps nested state, numbers and another dtype, and counts in its groups."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1, "count": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] += 1
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state |= {"pair": [torch.zeros(2, 2, dtype=torch.float64), None], "inner": {"n": 0, "on": True}}
                state["pair"][0] += parameter.grad.sum().double() * group["count"]
                state["inner"]["n"] += 1
                parameter.sub_(state["pair"][0].sum().float() * 1e-3 * state["inner"]["n"])


@pytest.mark.parametrize(
    "make",
    [
        lambda params: torch.optim.AdamW(params, lr=0.1, amsgrad=True),
        lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        lambda params: torch.optim.RMSprop(params, lr=0.1, centered=True),
        _Strange,
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_optimizers_go_on_exactly(tmp_path, make, dtype):
    def build():
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last).to(dtype)
        return layer, make(layer.parameters())

    def step(layer, optimizer, i):
        for parameter in layer.parameters():
            parameter.grad = torch.sin(torch.arange(parameter.numel()) + i).view_as(parameter).to(dtype)
        optimizer.step()

    whole, optimizer = build()
    for i in range(3):
        step(whole, optimizer, i)
    tensors, index = pack_optimizers([optimizer])
    save_checkpoint(tmp_path / "x", tensors | module_tensors({"m": whole}), {"index": index})
    saved = load_checkpoint(tmp_path / "x")
    resumed, other = build()
    copy_tensors(saved.tensors, module_tensors({"m": resumed}))
    unpack_optimizers([other], saved.tensors, saved.state["index"])
    for i in range(3, 6):
        step(whole, optimizer, i)
        step(resumed, other, i)
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)
    states = zip(optimizer.state.values(), other.state.values(), strict=True)
    assert all(_strides(a) == _strides(b) for a, b in states)


def _strides(state):
    return {name: (value.stride(), value.dtype) for name, value in state.items() if isinstance(value, torch.Tensor)}


def test_other_optimizers_are_refused():
    layer = nn.Linear(2, 2)
    tensors, index = pack_optimizers([torch.optim.SGD(layer.parameters(), lr=0.1)])
    with pytest.raises(UserError, match="1 optimisers, this stage has 0"):
        unpack_optimizers([], tensors, index)
    with pytest.raises(UserError, match="1 parameters, 2 in the checkpoint"):
        unpack_optimizers([torch.optim.SGD([layer.weight], lr=0.1)], tensors, index)
