"""What networks over sequences see of latents and actions, and how their outputs become latents and actions again."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FeatureConfig", "Features"]

_SMALLEST_STD = 1e-5
"""Columns that vary less are only centred."""


@dataclass(frozen=True)
class FeatureConfig:
    """How latents and actions are presented.

    Attributes:
        latent_size: D.
        block_size: A.
        history: T, latents that a network looks back on.
        horizon: F, model steps that are predicted at once.
        invariant: columns of the latent whose absolute value does not matter, e.g. a robot's position along its track:
            networks see them relative to the newest latent.
        angles: columns in radians, seen as sine and cosine.
        goal: whether the context holds a goal and the steps that remain to it.
        reach: most steps to a goal; more count as so many.
    """

    latent_size: int
    block_size: int
    history: int = 1
    horizon: int = 32
    invariant: tuple[int, ...] = ()
    angles: tuple[int, ...] = ()
    goal: bool = False
    reach: int = 32

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FeatureConfig":
        """Return the configuration from plain JSON values."""
        columns: dict[str, Any] = {name: tuple(values.get(name, ())) for name in ("invariant", "angles")}
        return cls(**(values | columns))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


class Features(nn.Module):
    """Statistics of latents and actions, and the maps between units and what networks see.

    Predicted latents are changes since the newest latent of the history, the *anchor*, in standard deviations of the
    change after so many steps: near and far steps then weigh alike, and a shift of an invariant column changes nothing.

    Attributes:
        config: the configuration.
        input_size: I, numbers that one latent is seen as.
        context_size: C, numbers that a context is seen as.
        fitted: scalar buffer, 1 once `fit` has been called.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.input_size = config.latent_size + len(config.angles)
        past = config.history * (self.input_size + 1) + (config.history - 1) * config.block_size
        self.context_size = past + (2 * self.input_size + 2 if config.goal else 0)
        self.register_buffer("fitted", torch.zeros(()))
        self.register_buffer("input_mean", torch.zeros(self.input_size))
        self.register_buffer("input_std", torch.ones(self.input_size))
        self.register_buffer("change_mean", torch.zeros(config.horizon, config.latent_size))
        self.register_buffer("change_std", torch.ones(config.horizon, config.latent_size))
        self.register_buffer("action_mean", torch.zeros(config.block_size))
        self.register_buffer("action_std", torch.ones(config.block_size))
        self.fitted: Tensor
        self.input_mean: Tensor
        self.input_std: Tensor
        self.change_mean: Tensor
        self.change_std: Tensor
        self.action_mean: Tensor
        self.action_std: Tensor

    @torch.no_grad()
    def fit(self, latents: Tensor, actions: Tensor) -> None:
        """Take the statistics from windows of data.

        Args:
            latents: (W, T + F, D).
            actions: (W, T + F - 1, A), environment units.

        Raises:
            ValueError: shapes that do not fit, or numbers that are not finite.
        """
        t, f = self.config.history, self.config.horizon
        expected = (latents.shape[0], t + f, self.config.latent_size)
        if latents.shape != expected or actions.shape != (expected[0], t + f - 1, self.config.block_size):
            raise ValueError(
                f"windows of latents {tuple(latents.shape)} and actions {tuple(actions.shape)} do not fit "
                f"(W, {t + f}, {self.config.latent_size}) and (W, {t + f - 1}, {self.config.block_size})"
            )
        if not (torch.isfinite(latents).all() and torch.isfinite(actions).all()):
            raise ValueError("latents or actions are not finite; check the data (wmkit data validate)")
        anchor = latents[:, t - 1]
        seen = self._seen(latents[:, :t], anchor).flatten(0, 1)
        changes = latents[:, t:] - anchor[:, None]
        blocks = actions.flatten(0, 1)
        for name, values in (("input", seen), ("change", changes), ("action", blocks)):
            getattr(self, f"{name}_mean").copy_(values.float().mean(0))
            getattr(self, f"{name}_std").copy_(_spread(values))
        self.fitted.fill_(1)

    def context(
        self, latents: Tensor, actions: Tensor, goal: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        """Return a context as one vector (M, C).

        A shorter history than `config.history` is filled up in front with zeros, and flags say so.

        Args:
            latents: (M, T', D), T' at least 1; the newest `config.history` count.
            actions: (M, T' - 1, A), environment units.
            goal: (M, D); needed where the configuration has a goal.
            steps: (M,), model steps that remain to the goal, at least 1.

        Raises:
            ValueError: goal or steps are missing, or the statistics are.
        """
        if not self.fitted:
            raise ValueError("the normalisation statistics are missing: call fit(), or load a trained model")
        t = self.config.history
        latents, actions = latents[:, -t:], actions[:, actions.shape[1] - min(t, latents.shape[1]) + 1 :]
        anchor, missing = latents[:, -1], t - latents.shape[1]
        seen = self._inputs(latents, anchor)
        known = torch.ones_like(seen[..., :1])
        frames = nn.functional.pad(torch.cat([seen, known], dim=-1), (0, 0, missing, 0))
        blocks = nn.functional.pad(self.scale_actions(actions), (0, 0, missing, 0))
        parts = [frames.flatten(1), blocks.flatten(1)]
        if self.config.goal:
            if goal is None or steps is None:
                raise ValueError("the context has no goal, and the network needs one; set a goal")
            there = self._inputs(goal[:, None], anchor)[:, 0]
            left = steps.to(seen)[:, None].clamp(1, self.config.reach)
            parts += [there, there - seen[:, -1], left / self.config.reach, 1 / left]
        return torch.cat(parts, dim=-1)

    def scale_changes(self, latents: Tensor, anchor: Tensor) -> Tensor:
        """Return what follows an anchor (..., D), latents (..., H, D) with H at most F, in normalised changes."""
        h = latents.shape[-2]
        return (latents - anchor[..., None, :] - self.change_mean[:h]) / self.change_std[:h]

    def unscale_changes(self, changes: Tensor, anchor: Tensor) -> Tensor:
        """Return the latents (..., H, D) of normalised changes since an anchor (..., D)."""
        h = changes.shape[-2]
        return anchor[..., None, :] + self.change_mean[:h] + self.change_std[:h] * changes

    def scale_actions(self, actions: Tensor) -> Tensor:
        """Return actions (..., A) in environment units as normalised ones."""
        return (actions - self.action_mean) / self.action_std

    def unscale_actions(self, actions: Tensor) -> Tensor:
        """Return normalised actions (..., A) in environment units."""
        return self.action_mean + self.action_std * actions

    def _inputs(self, latents: Tensor, anchor: Tensor) -> Tensor:
        """Return latents (M, T, D) as normalised inputs (M, T, I)."""
        return (self._seen(latents, anchor) - self.input_mean) / self.input_std

    def _seen(self, latents: Tensor, anchor: Tensor) -> Tensor:
        """Return latents (M, T, D), invariant columns relative to the anchor (M, D), angles as sine and cosine."""
        columns = list(self.config.angles)
        seen = latents.clone()
        if self.config.invariant:
            moved = list(self.config.invariant)
            seen[..., moved] -= anchor[:, None, moved]
        if not columns:
            return seen
        turned = seen[..., columns]
        seen[..., columns] = torch.sin(turned)
        return torch.cat([seen, torch.cos(turned)], dim=-1)


def _spread(values: Tensor) -> Tensor:
    """Return the standard deviation over the first axis, 1 where there is next to none."""
    std = values.float().std(dim=0, unbiased=False)
    return torch.where(std < _SMALLEST_STD, torch.ones_like(std), std)
