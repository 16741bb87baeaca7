"""Which way a LeWM rolls out: step by step, reusing what candidates share, or as fused kernels."""

import importlib
import warnings
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..fused import Unsupported, why_not
from ..parity import Imagine, Parity, parity_of

__all__ = ["Network", "RolloutPath", "RolloutPaths"]

RolloutPath = Literal["auto", "reference", "fast", "fused"]
Kind = Literal["reference", "fast", "fused"]
Inputs = tuple[Tensor, Tensor, Tensor]
"""Latents (B, T, D), past (B, T-1, A) and actions (B, N, H, A), both normalised."""

_KNOWN: dict[Kind, dict[str, str]] = {
    "fast": {"transformer": ".fast_rollout:FastTransformer", "mlp": ".fast_mlp:FastMLP", "gru": ".gru:FastGRU"},
    "fused": {
        "transformer": "..fused.transformer:FusedTransformer",
        "mlp": "..fused.mlp:FusedMLP",
        "gru": "..fused.recurrent:FusedGRU",
    },
}
_LIMITS = {torch.float32: Parity(1e-4, 1e-3, 0.9), torch.bfloat16: Parity(0.03, 0.1, 0.8)}
"""Largest errors and smallest agreement of a self-check, by the dtype of the products."""
_CHECKED = 64
"""Candidates from each end of a tile grid that a self-check compares."""


@dataclass(frozen=True)
class Network:
    """What is rolled out.

    Attributes:
        name: of the predictor.
        predictor: gives the next latent.
        projector: of the predictions.
        exact: the reference.
    """

    name: str
    predictor: nn.Module
    projector: nn.Module
    exact: Imagine


@dataclass
class _Kept:
    """A rollout that was made for some weights; None where it could not be."""

    version: Hashable
    imagine: Imagine | None
    reason: str = ""
    told: bool = False
    checked: set[tuple[int, ...]] = field(default_factory=set)


class RolloutPaths:
    """Chooses a path, and keeps what it needs: weights in another layout, compiled kernels.

    What is kept is made anew when a weight changes. It is no part of the model's state, and copies start without it.

    Attributes:
        last: how the last rollout was computed; None before the first.
    """

    def __init__(self) -> None:
        self.last: Kind | None = None
        self._kept: dict[tuple[Kind, torch.dtype | None], _Kept] = {}

    @property
    def kept(self) -> tuple[Imagine, ...]:
        """What is in use: a recorded rollout reads its weights, so whoever replays one holds on to these."""
        return tuple(each.imagine for each in self._kept.values() if each.imagine is not None)

    def __deepcopy__(self, memo: dict[int, Any]) -> "RolloutPaths":
        return RolloutPaths()

    def __reduce__(self) -> tuple[type["RolloutPaths"], tuple[()]]:
        return RolloutPaths, ()

    def roll(self, path: RolloutPath, network: Network, dtype: torch.dtype | None, inputs: Inputs) -> Tensor:
        """Return the latents (B, N, H, D) that follow.

        Args:
            path: "auto" takes fused kernels on CUDA where they pass their self-check, else what is fast, and warns
                where it has to take less.
            network: what to roll out.
            dtype: of the matrix products; None takes that of the weights. The reference is always in that.
            inputs: where from, and under which actions.

        Raises:
            ValueError: the path is unknown, or was asked for by name and cannot be had.
        """
        if path not in get_args(RolloutPath):
            raise ValueError(f"rollout_path is {path!r}; give one of {', '.join(get_args(RolloutPath))}")
        for kind in _order(path, inputs[0].device):
            kept = self._ready(kind, network, dtype, inputs)
            if kept.imagine is not None:
                self.last = kind
                return kept.imagine(*inputs)
            if path != "auto":
                raise ValueError(f"no {kind} rollout: {kept.reason}")
            if not kept.told:
                warnings.warn(f"no {kind} rollout, so a slower one is used: {kept.reason}", stacklevel=3)
                kept.told = True
        self.last = "reference"
        return network.exact(*inputs)

    def _ready(self, kind: Kind, network: Network, dtype: torch.dtype | None, inputs: Inputs) -> _Kept:
        """Return what is kept, made where it is missing or old, and checked where these shapes are new to a kernel."""
        version = weights_version(network.predictor, network.projector)
        kept = self._kept.get((kind, dtype))
        if kept is None or kept.version != version:
            kept = _made(kind, network, dtype, inputs[0].device, version)
            self._kept[kind, dtype] = kept
        shapes = (*inputs[0].shape, *inputs[2].shape)
        if kind == "fused" and kept.imagine is not None and shapes not in kept.checked:
            try:
                _check(kept.imagine, network.exact, inputs, dtype)
                kept.checked.add(shapes)
            except Exception as error:
                kept.imagine, kept.reason = None, _line(error)
        return kept


def weights_version(*modules: nn.Module) -> Hashable:
    """Return what changes whenever a weight is moved or written to."""
    return tuple(
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for module in modules
        for part in (module.parameters(), module.buffers())
        for tensor in part
    )


def _order(path: RolloutPath, device: torch.device) -> list[Kind]:
    """Return what to try before the reference."""
    if path == "auto":
        return ["fused", "fast"] if device.type == "cuda" else ["fast"]
    return [] if path == "reference" else [path]


def _made(kind: Kind, network: Network, dtype: torch.dtype | None, device: torch.device, version: Hashable) -> _Kept:
    """Make a rollout of a kind, or say why there is none."""
    try:
        if network.name not in _KNOWN[kind]:
            raise Unsupported(f"the predictor {network.name!r} has none")
        reason = why_not(device) if kind == "fused" else None
        if reason is not None:
            raise Unsupported(reason)
        return _Kept(version, _load(_KNOWN[kind][network.name])(network.predictor, network.projector, dtype))
    except Exception as error:
        return _Kept(version, None, _line(error))


def _check(imagine: Imagine, exact: Imagine, inputs: Inputs, dtype: torch.dtype | None) -> None:
    """Compare a rollout of these shapes, under random actions, with the reference on the first and last candidates.

    Raises:
        Unsupported: they differ by more than the dtype explains.
    """
    latents, past = (torch.where(given.isfinite(), given, 0) for given in inputs[:2])
    actions = inputs[2]
    generator = torch.Generator(actions.device).manual_seed(0)
    actions = torch.randn(actions.shape, generator=generator, device=actions.device, dtype=actions.dtype)
    count = actions.shape[1]
    ends = sorted({*range(min(_CHECKED, count)), *range(max(0, count - _CHECKED), count)})
    rows = sorted({0, len(latents) - 1})
    found = imagine(latents, past, actions)[rows][:, ends]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        wanted = exact(latents[rows], past[rows], actions[rows][:, ends])
    measured = parity_of(found, wanted)
    limit = _LIMITS.get(dtype or latents.dtype, _LIMITS[torch.float32])
    if not measured.within(limit):
        raise Unsupported(f"it failed its self-check: {measured}; allowed are {limit}")


def _load(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module, __package__), attribute)


def _line(error: Exception) -> str:
    """Return an error as one line that is not too long."""
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, Unsupported) else f"{type(error).__name__}: {text}"
