"""Candidates denoised from noise, as in the data: diffusion over the actions of a whole plan.

After D-MPC (Zhou et al., 2024, arXiv 2410.05364); joint plans and inpainting as in Diffuser (Janner et al., 2022, arXiv
2205.09991), variations of a plan as in SDEdit (Meng et al., 2021, arXiv 2108.01073).
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from wmkit.contracts import Context
from wmkit.data.latents import SequenceBatch
from wmkit.diffusion.network import SequenceDenoiser
from wmkit.diffusion.noise import fixed_draws
from wmkit.diffusion.process import Diffusion, Known, Sampling

from ..noise import draw_normal
from . import likelihood
from .learned import LearnedProposal, ProposalConfig, View, weighted_mean
from .pins import Pins, Waypoints

__all__ = ["DiffusionProposal"]


class DiffusionProposal(LearnedProposal):
    """Denoises all F action blocks of a plan at once, each candidate from noise of its own.

    Where the data do several things at the same place, so do the candidates. All F steps are denoised whatever the
    horizon, and the first H taken. With `config.joint` the latents that follow are denoised along, and plans can be led
    through waypoints. `ProposalConfig.network` takes the options of `wmkit.diffusion.network.SequenceDenoiser`.

    Attributes:
        inpaint_goal: joint proposals only: candidates whose last latent is the context's goal.
        log_likelihood: `SupportsLikelihood.log_likelihood`; absent from joint proposals, which know the likelihood of
            actions only together with the latents that follow.
    """

    kind: ClassVar[str] = "diffusion-proposal"

    centred = False
    """Whether the first candidate is the plan to expect; here it is a draw like the others."""

    def __init__(self, config: ProposalConfig, sampling: Sampling | None = None) -> None:
        """Create a proposal without statistics.

        Args:
            config: sizes, network and diffusion.
            sampling: how to denoise; None takes ten steps of DDIM, or of Euler for a flow.

        Raises:
            ValueError: numbers that do not fit each other.
        """
        super().__init__(config)
        if config.diffusion is None:
            raise ValueError("DiffusionProposal: config.diffusion is None; give a DiffusionConfig")
        features = config.features
        size = features.block_size + (features.latent_size if config.joint else 0)
        self.network = SequenceDenoiser(size, self.features.context_size, features.horizon, **config.network)
        self.diffusion = Diffusion(config.diffusion)
        self.inpaint_goal = False
        self.log_likelihood: Callable[..., Tensor]
        if not config.joint:
            self.log_likelihood = self._log_likelihood
        self._pins = Pins()
        flow = config.diffusion.kind == "flow"
        self.sampling = sampling or Sampling(sampler="flow-euler" if flow else "ddim")

    @property
    def sampling(self) -> Sampling:
        """How candidates are denoised; may be set after the training.

        Raises:
            ValueError: on setting one that does not fit the diffusion.
        """
        return self._sampling

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        sampling.check(self.diffusion.config)
        self._sampling = sampling

    def training_loss(
        self, batch: SequenceBatch, generator: torch.Generator, fixed: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error of the network's prediction; see `LearnedProposal.training_loss`."""
        vectors, clean, weights = self._inputs(batch, generator)
        if self.config.joint:
            t = self.config.features.history
            changes = self.features.scale_changes(batch.latents[:, t:], batch.latents[:, t - 1])
            clean = torch.cat([clean, changes], dim=-1)
        if fixed:
            levels, noise = fixed_draws(batch.rows, clean.shape[1:], seed=0)
            levels, noise = levels.to(clean), noise.to(clean)
        else:
            levels = self.diffusion.draw_levels(clean.shape[0], generator, clean.device)
            noise = draw_normal(tuple(clean.shape), generator, clean)
        noisy = self.diffusion.corrupt(clean, noise, levels)
        errors = (self.network(noisy, levels, vectors) - self.diffusion.target(clean, noise, levels)).square()
        loss = weighted_mean(errors, weights)
        return loss, {"loss": loss.detach()}

    def refine(self, context: Context, actions: Tensor, n: int, strength: float, generator: torch.Generator) -> Tensor:
        """Return n variations (B, n, H, A) of plans: noised part of the way, and denoised again.

        Args:
            context: B contexts.
            actions: (B, H, A), the plans, environment units.
            n: how many variations.
            strength: above 0, where the plan stays as it is, to 1, where it is forgotten.
            generator: source of all randomness.

        Raises:
            ValueError: see `propose`; or strength is out of its range.
        """
        if not 0 < strength <= 1:
            raise ValueError(f"DiffusionProposal: strength is {strength!r}; give a number above 0, at most 1")
        horizon = actions.shape[1]
        with torch.no_grad():
            view = self.view(context, horizon)
            start = self._completed(view, actions.to(self.low), generator)
            drawn = self._denoise(view.repeated(n), n, horizon, generator, start.repeat_interleave(n, dim=0), strength)
        return self._actions(drawn)[:, :horizon].unflatten(0, (context.batch, n))

    def _log_likelihood(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (B,), how expected plans are, in nats per model step.

        It estimates the log-density of the plan in normalised units, less the mean log-density of standard normal
        numbers, so that what the data's spread alone would explain is at about 0. The estimate is the variational bound
        of the denoising errors, see `likelihood`, with what it leaves out: differences below about a twelfth of the
        data's standard deviation are blurred, and two draws of noise at each of eight levels, the same for every row
        and call, take the place of their mean. So compare values of one proposal and horizon, by rank or against a
        threshold from data, and not those of two. It is no probability, and no proof that a plan is good or possible:
        where the data's actions are noisy, a plan without the noise, even holding still, is more likely than any of
        them, so that only low values tell.

        Where H is less than F, the steps after the plan are denoised with it given, and do not count; that is another
        sampling. Prefixes of `with_prefix` change nothing.

        Args:
            context: B contexts.
            actions: (B, H, A), environment units, H at most F.
            generator: source of the noise; None takes the same noise at every call.

        Raises:
            ValueError: see `propose`; or a shape that does not fit.
        """
        if actions.ndim != 3 or (len(actions), actions.shape[2]) != (context.batch, len(self.low)):
            expected = f"({context.batch}, H, {len(self.low)})"
            raise ValueError(f"DiffusionProposal: actions are {tuple(actions.shape)}; expected {expected}")
        if generator is None:
            generator = torch.Generator(self.low.device).manual_seed(0)
        horizon = actions.shape[1]
        with torch.no_grad():
            view = self.view(context, horizon)
            clean = self._extended(view, self.features.scale_actions(actions.to(self.low)), generator)

            def denoise(noisy: Tensor, levels: Tensor, rows: Tensor) -> Tensor:
                return self.network(noisy, levels, view.vectors[rows])

            return likelihood.log_likelihood(self.diffusion, denoise, clean, horizon, generator)

    def imagine(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return n joint plans: actions (B, n, H, A), within the bounds, and the latents (B, n, H, D) that follow.

        Raises:
            ValueError: see `propose`; or the proposal is not joint.
        """
        self._require_joint("imagine")
        with torch.no_grad():
            view = self.view(context, horizon).repeated(n)
            drawn = self._denoise(view, n, horizon, generator)
            latents = self.features.unscale_changes(drawn[..., len(self.low) :], view.anchor)
        parts = (self._actions(drawn), latents)
        actions, latents = (part[:, :horizon].unflatten(0, (context.batch, n)) for part in parts)
        return actions, latents

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the least and greatest values (S,) of normalised sequences: the actions' bounds; latents have none."""
        free = self.low.new_full((self.network.target_size - len(self.low),), torch.inf)
        low, high = self.features.scale_actions(self.low), self.features.scale_actions(self.high)
        return torch.cat([low, -free]), torch.cat([high, free])

    def with_prefix(self, actions: Tensor) -> Self:
        """Return a copy, with the same weights, whose candidates begin with given actions.

        Args:
            actions: (B, P, A), or (P, A) for all rows; environment units, P at most F.

        Raises:
            ValueError: a shape that does not fit.
        """
        return self._pinned(self._pins.with_prefix(actions, self.config.features))

    def with_waypoints(self, waypoints: Waypoints, repeats: int = 1) -> Self:
        """Return a copy, with the same weights, whose candidates pass through given latents; joint proposals only.

        Args:
            waypoints: by model step, counted from 1: values (B, W), or (W,) for all rows, and the W columns of the
                latent that they are for; None for all D columns. Steps beyond a plan's horizon lead the plan too.
            repeats: how often each step of the denoising is done, at least 1: the more, the further the rest of the
                plan follows what is known, at so many times the cost. It holds for a prefix and for `inpaint_goal` too,
                which needs no waypoints beside it: `with_waypoints({}, repeats=5)`.

        Raises:
            ValueError: the proposal is not joint; a step, a column or a shape that does not fit; or repeats below 1.
        """
        self._require_joint("with_waypoints")
        return self._pinned(self._pins.with_waypoints(waypoints, self.config.features, repeats))

    def _draw(self, view: View, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        return self._actions(self._denoise(view, n, horizon, generator))[:, :horizon]

    def _denoise(
        self,
        view: View,
        n: int,
        horizon: int,
        generator: torch.Generator,
        start: Tensor | None = None,
        strength: float = 1.0,
        known: Known | None = None,
    ) -> Tensor:
        """Return normalised sequences (B * n, F, S); what draws noise on the way goes row by row."""
        shape = (1, n, self.config.features.horizon, self.network.target_size)
        noise = draw_normal(shape, generator, self.low)[0]
        known = self._known(view, horizon) if known is None else known
        rows = view.vectors.shape[0]
        fresh = self._sampling.sampler == "ddpm" or self._sampling.eta > 0 or (known is not None and known.repeats > 1)
        group = n if fresh else rows
        state, parts = generator.get_state(), []
        for first in range(0, rows, group):
            generator.set_state(state)
            part = slice(first, first + group)
            vectors = view.vectors[part]
            parts.append(
                self.diffusion.sample(
                    lambda noisy, levels, vectors=vectors: self.network(noisy, levels, vectors),
                    noise.repeat(len(vectors) // n, 1, 1),
                    self._sampling,
                    generator=generator,
                    clip=self.bounds(),
                    known=None if known is None else Known(known.values[part], known.mask[part], known.repeats),
                    start=None if start is None else start[part],
                    strength=strength,
                )
            )
        return torch.cat(parts)

    def _known(self, view: View, horizon: int) -> Known | None:
        """Return what is pinned, in normalised units, for the rows of a view; None where nothing is."""
        pins = self._pins
        if self.inpaint_goal:
            self._require_joint("inpaint_goal")
            if view.goal is None:
                raise ValueError("DiffusionProposal: inpaint_goal is set and the context has no goal; set one")
            pins = pins.with_latent(horizon, view.goal)
        return pins.known(view, self.features, self.network.target_size)

    def _completed(self, view: View, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Return plans (B, H, A) as normalised sequences (B, F, S): the last action held, the latents imagined."""
        missing = self.config.features.horizon - actions.shape[1]
        held = torch.cat([actions, actions[:, -1:].expand(-1, missing, -1)], dim=1)
        scaled = self.features.scale_actions(held)
        if not self.config.joint:
            return scaled
        size = scaled.shape[-1]
        values = torch.nn.functional.pad(scaled, (0, self.network.target_size - size))
        mask = torch.zeros_like(values, dtype=torch.bool)
        mask[..., :size] = True
        return self._denoise(view, 1, actions.shape[1], generator, known=Known(values, mask))

    def _extended(self, view: View, scaled: Tensor, generator: torch.Generator) -> Tensor:
        """Return normalised plans (B, H, A) as sequences (B, F, A), the steps after them denoised."""
        horizon, missing = scaled.shape[1], self.config.features.horizon - scaled.shape[1]
        if not missing:
            return scaled
        mask = (torch.arange(horizon + missing, device=scaled.device) < horizon)[:, None]
        known = Known(torch.nn.functional.pad(scaled, (0, 0, 0, missing)), mask.expand(len(scaled), -1, 1))
        return self._denoise(view, 1, horizon, generator, known=known)

    def _actions(self, drawn: Tensor) -> Tensor:
        """Return the actions (M, F, A) of normalised sequences (M, F, S), within the bounds."""
        return self.features.unscale_actions(drawn[..., : len(self.low)]).clamp(self.low, self.high)

    def _pinned(self, pins: Pins) -> Self:
        twin = copy.copy(self)
        twin._pins = pins
        if not self.config.joint:
            twin.log_likelihood = twin._log_likelihood
        return twin

    def _require_joint(self, what: str) -> None:
        if not self.config.joint:
            raise ValueError(
                f"DiffusionProposal: {what} needs latents, and this proposal is not joint; train a joint one"
            )

    def _document(self) -> dict[str, Any]:
        return super()._document() | {"sampling": self._sampling.to_dict()}

    @classmethod
    def _built(cls, document: Mapping[str, Any]) -> Self:
        values = dict(document)
        sampling = Sampling.from_dict(values.pop("sampling"))
        return cls(ProposalConfig.from_dict(values), sampling)
