"""What is known of a plan before it is denoised: its first actions, and latents that it passes through."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from wmkit.diffusion.features import FeatureConfig, Features
from wmkit.diffusion.process import Known

from .learned import View

__all__ = ["Pins", "Waypoints"]

Waypoints = Mapping[int, tuple[Tensor, tuple[int, ...] | None]]
"""By model step, counted from 1: values (B, W), or (W,) for all rows, and W columns of the latent; None for all D."""


@dataclass(frozen=True)
class Pins:
    """Known actions and latents; put in at every step of the denoising.

    Attributes:
        prefix: (B or 1, P, A), the first actions, environment units; None where none are known.
        waypoints: by model step, counted from 1: values (B or 1, W), and W columns of the latent.
        repeats: see `Known.repeats`.
    """

    prefix: Tensor | None = None
    waypoints: Mapping[int, tuple[Tensor, tuple[int, ...]]] = field(default_factory=dict)
    repeats: int = 1

    def with_prefix(self, actions: Tensor, features: FeatureConfig) -> "Pins":
        """Return the pins with other first actions (B, P, A) or (P, A).

        Raises:
            ValueError: a shape that does not fit.
        """
        actions = actions if actions.dim() == 3 else actions.unsqueeze(0)
        if actions.shape[1] > features.horizon or actions.shape[-1] != features.block_size:
            raise ValueError(
                f"the prefix has shape {tuple(actions.shape)}; "
                f"expected (B, at most {features.horizon}, {features.block_size})"
            )
        return replace(self, prefix=actions)

    def with_waypoints(self, waypoints: Waypoints, features: FeatureConfig, repeats: int = 1) -> "Pins":
        """Return the pins with other waypoints and repeats.

        Raises:
            ValueError: a step, a column or a shape that does not fit, or repeats below 1.
        """
        if repeats < 1:
            raise ValueError(f"repeats is {repeats}; give 1 or more")
        pins = {}
        for step, (values, columns) in waypoints.items():
            columns = tuple(range(features.latent_size)) if columns is None else tuple(columns)
            fits = values.shape[-1] == len(columns) and all(0 <= c < features.latent_size for c in columns)
            if not (1 <= step <= features.horizon and fits):
                raise ValueError(
                    f"waypoint at step {step} with values {tuple(values.shape)} for columns {columns}: expected a step "
                    f"of 1 to {features.horizon}, and a value for each column of 0 to {features.latent_size - 1}"
                )
            pins[step] = (values if values.dim() == 2 else values.unsqueeze(0), columns)
        return replace(self, waypoints=pins, repeats=repeats)

    def with_latent(self, step: int, latents: Tensor) -> "Pins":
        """Return the pins with one more waypoint: latents (B, D) at a model step, counted from 1."""
        whole = (latents, tuple(range(latents.shape[-1])))
        return replace(self, waypoints={**self.waypoints, step: whole})

    def known(self, view: View, features: Features, size: int) -> Known | None:
        """Return what is pinned in normalised sequences (M, F, S) of a view's M rows; None where nothing is.

        Args:
            view: of B contexts, each repeated as often as M says.
            features: statistics.
            size: S, A for actions alone, A + D with latents behind them.

        Raises:
            ValueError: M is no multiple of the rows that something is pinned for.
        """
        if self.prefix is None and not self.waypoints:
            return None
        block = features.config.block_size
        values = view.vectors.new_zeros(len(view.vectors), features.config.horizon, size)
        mask = torch.zeros_like(values, dtype=torch.bool)
        if self.prefix is not None:
            steps = self.prefix.shape[1]
            values[:, :steps, :block] = features.scale_actions(_for_rows(self.prefix, values))
            mask[:, :steps, :block] = True
        for step, (wanted, columns) in self.waypoints.items():
            picked, h = list(columns), step - 1
            changes = _for_rows(wanted, values) - view.anchor[:, picked] - features.change_mean[h, picked]
            place = [block + column for column in picked]
            values[:, h, place] = changes / features.change_std[h, picked]
            mask[:, h, place] = True
        return Known(values, mask, self.repeats)


def _for_rows(values: Tensor, like: Tensor) -> Tensor:
    """Return values (B or 1, ...) repeated for the B * n rows of a tensor, the n of a row side by side."""
    if like.shape[0] % values.shape[0]:
        raise ValueError(f"what was given for {values.shape[0]} rows does not fit {like.shape[0]} candidates")
    return values.to(like).repeat_interleave(like.shape[0] // values.shape[0], dim=0)
