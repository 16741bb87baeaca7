"""Which way a LeWM rolls out: step by step, reusing what candidates share, or as fused kernels."""

import importlib
import warnings
from collections.abc import Hashable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..fused import Unsupported, why_not
from ..parity import Imagine, parity

__all__ = ["RolloutPath", "RolloutPaths"]

RolloutPath = Literal["auto", "reference", "fast", "fused"]

_FAST = {"transformer": ".fast_rollout:FastTransformer", "mlp": ".fast_mlp:FastMLP", "gru": ".gru:FastGRU"}
_FUSED = {
    "transformer": "..fused.transformer:FusedTransformer",
    "mlp": "..fused.mlp:FusedMLP",
    "gru": "..fused.recurrent:FusedGRU",
}
_LIMITS = {torch.float32: (1e-3, 0.9), torch.bfloat16: (0.1, 0.7)}
"""Largest error over the horizon and smallest agreement of a self-check, by the dtype of the products."""
_CHECKED = 64
"""Candidates that a self-check rolls out."""


class RolloutPaths:
    """Chooses a path, and keeps what it needs: weights in another layout, compiled kernels.

    What is kept is made anew when a weight changes. It is no part of the model's state, and copies start without it.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype | None], tuple[Hashable, Imagine | None]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "RolloutPaths":
        return RolloutPaths()

    def __reduce__(self) -> tuple[type["RolloutPaths"], tuple[()]]:
        return RolloutPaths, ()

    def find(
        self,
        path: RolloutPath,
        name: str,
        predictor: nn.Module,
        projector: nn.Module,
        dtype: torch.dtype | None,
        exact: Imagine,
        inputs: tuple[Tensor, Tensor, Tensor],
    ) -> Imagine:
        """Return what rolls out.

        Args:
            path: "auto" takes fused kernels on CUDA where they pass their self-check, else what is fast.
            name: of the predictor.
            predictor: whose weights are used.
            projector: of its predictions.
            dtype: of the matrix products; None takes that of the weights.
            exact: the reference, which the self-check compares with.
            inputs: of the rollout to come, for the self-check.

        Raises:
            ValueError: the path is unknown, or "fused" was asked for and cannot be had.
        """
        if path not in get_args(RolloutPath):
            raise ValueError(f"rollout_path is {path!r}; give one of {', '.join(get_args(RolloutPath))}")
        if path == "reference" or (path == "fast" and name not in _FAST):
            return exact
        device = inputs[0].device
        if path == "fused" or (path == "auto" and device.type == "cuda"):
            fused = self._make("fused", name, predictor, projector, dtype, exact, inputs, path == "fused")
            if fused is not None:
                return fused
        return self._make("fast", name, predictor, projector, dtype, exact, inputs, False) or exact

    def _make(
        self,
        kind: Literal["fast", "fused"],
        name: str,
        predictor: nn.Module,
        projector: nn.Module,
        dtype: torch.dtype | None,
        exact: Imagine,
        inputs: tuple[Tensor, Tensor, Tensor],
        wanted: bool,
    ) -> Imagine | None:
        """Return the rollout of a kind from what is kept, else make and keep it; None where there is none."""
        version = weights_version(predictor, projector)
        kept = self._kept.get((kind, dtype))
        if kept is not None and kept[0] == version and not (wanted and kept[1] is None):
            return kept[1]
        try:
            known = _FUSED if kind == "fused" else _FAST
            if name not in known:
                raise Unsupported(f"the predictor {name!r} has no {kind} rollout")
            if kind == "fused":
                _check_device(inputs[0].device)
            made: Imagine | None = _load(known[name])(predictor, projector, dtype)
            if kind == "fused" and made is not None:
                _check(made, exact, inputs, dtype)
        except Exception as error:
            if wanted:
                raise ValueError(f"no fused rollout: {_line(error)}") from None
            if kind == "fused":
                warnings.warn(f"no fused rollout, so the slower one is used: {_line(error)}", stacklevel=4)
            made = None
        self._kept[kind, dtype] = version, made
        return made


def weights_version(*modules: nn.Module) -> Hashable:
    """Return what changes whenever a weight is moved or written to."""
    return tuple(
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for module in modules
        for part in (module.parameters(), module.buffers())
        for tensor in part
    )


def _check_device(device: torch.device) -> None:
    reason = why_not(device)
    if reason is not None:
        raise Unsupported(reason)


def _check(made: Imagine, exact: Imagine, inputs: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype | None) -> None:
    """Compare a rollout with the reference on a part of the inputs.

    Raises:
        Unsupported: they differ by more than the dtype explains.
    """
    latents, past, actions = inputs
    found = parity(made, exact, latents[:1], past[:1], actions[:1, :_CHECKED])
    error, agreement = _LIMITS.get(dtype or latents.dtype, _LIMITS[torch.float32])
    if not (found.horizon_error <= error and found.agreement >= agreement):
        raise Unsupported(
            f"it failed its self-check: relative error {found.horizon_error:.2g} (at most {error:g}), "
            f"{found.agreement:.0%} of the elites in common (at least {agreement:.0%})"
        )


def _load(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module, __package__), attribute)


def _line(error: Exception) -> str:
    """Return an error as one line that is not too long."""
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, Unsupported) else f"{type(error).__name__}: {text}"
