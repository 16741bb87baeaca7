"""A running mean of a network's weights, which is what is validated and saved."""

from torch import nn

from ..training.optim import average

__all__ = ["WeightAverage"]


class WeightAverage(nn.Module):
    """An exponential moving average of a module's weights and buffers.

    It begins as a copy of the module. It is a module itself, so a checkpoint holds it whole by its `state_dict`.

    Args:
        module: whose weights are averaged.
        decay: in [0, 1), the share of the mean that each update keeps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self._average = average(module, decay)
        self._average.requires_grad_(False).eval()

    @property
    def module(self) -> nn.Module:
        """The averaged module: of the original's type, without gradients, not in training mode."""
        return self._average.module

    def update(self, module: nn.Module) -> None:
        """Take in the module's weights after a step; the first update copies them."""
        self._average.update_parameters(module)
