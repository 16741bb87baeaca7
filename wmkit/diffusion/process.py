"""Adding noise to sequences and taking it away again, by the schedulers of the diffusers library.

A *level* says how noisy a sequence is: 0 is clean, 1 is (next to) nothing but noise, and at every level a noisy
sequence is alpha * clean + sigma * noise. Denoising diffusion ("ddpm": Ho et al., 2020, arXiv 2006.11239) has
alpha^2 + sigma^2 = 1 and a table of `train_steps` levels; flow matching ("flow": Lipman et al., 2022, arXiv 2210.02747)
has alpha = 1 - level and sigma = level. A denoiser of the first kind can be sampled by the solvers of the second:
noisy / (alpha + sigma) is a flow at the level sigma / (alpha + sigma).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .settings import FLOW_SAMPLERS, DiffusionConfig, Sampling
from .solvers import Solver

__all__ = ["Diffusion", "DiffusionConfig", "Known", "Sampling"]

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""From a noisy sequence (M, H, S) and levels (M,) to the network's output (M, H, S)."""

_ON_THE_TABLE = 1e-3
"""Levels as near to one of the table's, in steps of the table, are that one."""


@dataclass(frozen=True)
class Known:
    """Numbers of a sequence that are given rather than sampled (inpainting).

    The rest only leans towards them, for at high levels the network hardly sees them. Repeats amend that: each step is
    undone by fresh noise and done again (RePaint: Lugmayr et al., 2022, arXiv 2201.09865). On Gaussian data, of what a
    number given at one end should move the other, 1, 5 and 10 repeats of 10 steps of "ddim" did 0.35, 0.66 and 0.74.

    Attributes:
        values: broadcasts to (M, H, S).
        mask: bool, broadcasts to (M, H, S): which of them are given.
        repeats: how often each step is done, at least 1.
    """

    values: Tensor
    mask: Tensor
    repeats: int = 1

    def put(self, sequence: Tensor, alpha: float = 1.0, sigma: float = 0.0, noise: Tensor | None = None) -> Tensor:
        """Return the sequence (M, H, S) with the given numbers in place, as noisy as asked."""
        values = self.values.to(sequence)
        if noise is not None:
            values = alpha * values + sigma * noise
        return torch.where(self.mask.to(sequence.device), values, sequence)


class Diffusion:
    """The process that a network was trained to undo.

    Attributes:
        config: what process it is.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Alpha and sigma (N + 1,) float64 of the levels 0, 1 / N, ..., 1."""
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        options: Any = {"num_train_timesteps": self.config.train_steps, "beta_schedule": self.config.beta_schedule}
        kept = torch.cat([torch.ones(1).double(), DDPMScheduler(**options).alphas_cumprod.double()])
        return kept.sqrt(), (1 - kept).sqrt()

    def coefficients(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma of levels in [0, 1], in their shape; interpolated between those of the table."""
        if self.config.kind == "flow":
            return 1 - levels, levels
        position = levels.double() * self.config.train_steps
        nearest = position.round()
        position = torch.where((position - nearest).abs() < _ON_THE_TABLE, nearest, position)
        low = position.long().clamp(0, self.config.train_steps - 1)
        alphas, sigmas = (table.to(levels.device) for table in self._table)
        alpha, sigma = (torch.lerp(table[low], table[low + 1], position - low) for table in (alphas, sigmas))
        length = torch.hypot(alpha, sigma)
        return (alpha / length).to(levels.dtype), (sigma / length).to(levels.dtype)

    def draw_levels(self, m: int, generator: torch.Generator | None = None, device: Any = "cpu") -> Tensor:
        """Return levels (M,) float32 to train at: any of the table's alike, or any in (0, 1] for a flow."""
        where = generator.device if generator is not None else device
        if self.config.kind == "flow":
            return (1 - torch.rand(m, generator=generator, device=where)).to(device)
        drawn = torch.randint(1, self.config.train_steps + 1, (m,), generator=generator, device=where)
        return (drawn / self.config.train_steps).to(device)

    def corrupt(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Return sequences (M, H, S) as noisy as levels (M,) say."""
        alpha, sigma = self._columns(levels, clean)
        return alpha * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Return what a network should put out (M, H, S) for `corrupt(clean, noise, levels)`."""
        if self.config.kind == "flow":
            return noise - clean
        alpha, sigma = self._columns(levels, clean)
        velocity = alpha * noise - sigma * clean
        return {"sample": clean, "epsilon": noise, "v_prediction": velocity}[self.config.prediction]

    def to_clean(self, output: Tensor, noisy: Tensor, levels: Tensor) -> Tensor:
        """Return the clean sequences (M, H, S) that a network's output stands for; levels (M,) above 0."""
        alpha, sigma = self._columns(levels, noisy)
        if self.config.kind == "flow":
            return noisy - sigma * output
        if self.config.prediction == "sample":
            return output
        if self.config.prediction == "epsilon":
            return (noisy - sigma * output) / alpha
        return alpha * noisy - sigma * output

    def step_between(
        self, output: Tensor, noisy: Tensor, levels_from: Tensor | float, levels_to: Tensor | float
    ) -> Tensor:
        """Return the sequences at lower levels, without fresh noise: DDIM's equation, or Euler's for a flow.

        Args:
            output: (M, H, S), the network's for `noisy`.
            noisy: (M, H, S).
            levels_from: (M,) or one for all, above 0.
            levels_to: (M,) or one for all.
        """
        given = (torch.as_tensor(levels, device=noisy.device) for levels in (levels_from, levels_to))
        start, end = (levels.float().expand(len(noisy)) for levels in given)
        clean = self.to_clean(output, noisy, start)
        alpha, sigma = self._columns(start, noisy)
        return self.corrupt(clean, (noisy - alpha * clean) / sigma, end)

    def grid(self, sampling: Sampling) -> list[float]:
        """Return the levels that a sampler visits, high to low, and 0 at the end: steps + 1 numbers.

        Raises:
            ValueError: see `Sampling.check`.
        """
        sampling.check(self.config)
        steps, n = sampling.steps, self.config.train_steps
        if self.config.kind == "flow":
            return [1 - i / steps for i in range(steps)] + [0.0]
        if sampling.sampler in FLOW_SAMPLERS:
            return self._flow_grid(steps)
        stride = n // steps
        visited = range(steps, 0, -1)
        if sampling.spacing == "leading":
            return [(1 + (i - 1) * stride) / n for i in visited] + [0.0]
        return [round(i * n / steps) / n for i in visited] + [0.0]

    def sample(
        self,
        denoise: Denoiser,
        noise: Tensor,
        sampling: Sampling,
        *,
        generator: torch.Generator | None = None,
        clip: tuple[Tensor, Tensor] | None = None,
        known: Known | None = None,
        start: Tensor | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """Return clean sequences (M, H, S) float32; gradients flow through all steps unless torch.no_grad() forbids.

        Args:
            denoise: the network.
            noise: (M, H, S), standard normal, what sampling begins with; the result is a function of it alone unless
                the sampler adds fresh noise ("ddpm", or "ddim" with eta).
            sampling: the sampler and its steps.
            generator: of the fresh noise, also that of repeats.
            clip: least and greatest values, each broadcasting to (M, H, S), of the clean sequence predicted at a step.
            known: numbers that are given; put in at every level, as noisy as the rest, and exact at the end.
            start: (M, H, S), clean sequences to begin from instead of noise alone (SDEdit: Meng et al., 2021, arXiv
                2108.01073).
            strength: in (0, 1], the share of the steps that are done from `start`; 1 forgets it.

        Raises:
            ValueError: see `Sampling.check`; or the strength is not in (0, 1].
        """
        if not 0 < strength <= 1:
            raise ValueError(f"strength {strength} must be above 0 and at most 1")
        done = sampling.steps if start is None else math.ceil(strength * sampling.steps - 1e-9)
        levels = self.grid(sampling)[-done - 1 :]
        solver = Solver(self, sampling, levels)
        noisy = noise.float()
        if start is not None and done < sampling.steps:
            noisy = self.corrupt(start, noise, noise.new_full((len(noise),), levels[0]))

        def predict(noisy: Tensor, level: float) -> Tensor:
            at = noisy.new_full((len(noisy),), level)
            clean = self.to_clean(denoise(noisy, at), noisy, at)
            clean = clean if clip is None else clean.clamp(*clip)
            return clean if known is None else known.put(clean)

        for visit in solver.visits:
            if known is not None:
                noisy = known.put(noisy, visit.alpha, visit.sigma, noise)
                for _ in range(known.repeats - 1):
                    noisy = visit.again(predict(noisy, visit.level), noisy, generator)
                    noisy = known.put(noisy, visit.alpha, visit.sigma, noise)
            noisy = solver.step(visit, predict(noisy, visit.level), noisy, generator)
        return noisy if known is None else known.put(noisy)

    def _columns(self, levels: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma of levels (M,) that broadcast against (M, H, S)."""
        alpha, sigma = self.coefficients(levels.to(like.device))
        shape = (-1,) + (1,) * (like.dim() - 1)
        return alpha.view(shape).to(like.dtype), sigma.view(shape).to(like.dtype)

    def _flow_grid(self, steps: int) -> list[float]:
        """Return the levels of the table at even steps of sigma / (alpha + sigma)."""
        alpha, sigma = self._table
        shares = sigma / (alpha + sigma)
        wanted = shares[-1] * torch.arange(steps, -1, -1, dtype=torch.float64) / steps
        high = torch.searchsorted(shares, wanted).clamp(1, self.config.train_steps)
        low = high - 1
        rise = wanted * (alpha[low] + sigma[low]) - sigma[low]
        run = (sigma[high] - sigma[low]) - wanted * (alpha[high] + sigma[high] - alpha[low] - sigma[low])
        return ((low + rise / run) / self.config.train_steps).tolist()
