"""The average of the weights against its definition."""

import torch
from torch import nn

from wmkit.diffusion.ema import WeightAverage


class _Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, bias=False)
        self.register_buffer("scale", torch.ones(3))


def _set(module: _Toy, value: float) -> _Toy:
    nn.init.constant_(module.layer.weight, value)
    module.scale.fill_(10 * value)
    return module


def test_average_forgets_at_the_decay():
    module = _set(_Toy(), 5.0)
    average = WeightAverage(module, 0.9)
    for value in (1.0, 2.0, 4.0):
        average.update(_set(module, value))
    expected = 0.81 * 1 + 0.09 * 2 + 0.1 * 4
    torch.testing.assert_close(average.module.layer.weight, torch.full((1, 2), expected))
    torch.testing.assert_close(average.module.scale, torch.full((3,), 10 * expected))
    assert torch.equal(module.layer.weight, torch.full((1, 2), 4.0))


def test_average_is_a_copy_without_gradients():
    module = _set(_Toy(), 1.0)
    average = WeightAverage(module, 0.9)
    _set(module, 3.0)
    assert torch.equal(average.module.layer.weight, torch.ones(1, 2))
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert not average.module.training
    assert module.training
    assert module.layer.weight.requires_grad


def test_average_goes_on_from_a_checkpoint():
    module, generator = _Toy(), torch.Generator().manual_seed(0)
    average = WeightAverage(module, 0.5)
    values = torch.rand(6, generator=generator).tolist()
    for value in values[:3]:
        average.update(_set(module, value))
    again = WeightAverage(_Toy(), 0.5)
    again.load_state_dict({name: tensor.clone() for name, tensor in average.state_dict().items()})
    for value in values[3:]:
        average.update(_set(module, value))
        again.update(module)
    assert torch.equal(again.module.layer.weight, average.module.layer.weight)
