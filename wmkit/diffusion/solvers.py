"""Samplers: the schedulers of the diffusers library on exactly the levels that are visited.

Each scheduler is built on a table of the visited levels alone and walks all of it. Strides that do not divide the
number of training steps, and sampling that begins part of the way, then need no care: every step starts where the last
ended.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .process import Diffusion, Sampling

__all__ = ["Solver", "Visit"]


@dataclass(frozen=True)
class Visit:
    """One call of the network.

    Attributes:
        level: in (0, 1].
        alpha: of the clean sequence at this level.
        sigma: of the noise.
        timestep: what the scheduler calls it.
        after: alpha and sigma of the next visit; 1 and 0 at the end.
    """

    level: float
    alpha: float
    sigma: float
    timestep: Tensor
    after: tuple[float, float]

    def again(self, clean: Tensor, noisy: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return a sequence at this level once more: a plain step to the next level, and fresh noise back from there.

        Args:
            clean: (M, H, S), the clean sequence that is predicted here.
            noisy: (M, H, S).
            generator: of the fresh noise.
        """
        alpha, sigma = self.after
        lower = alpha * clean + sigma * (noisy - self.alpha * clean) / self.sigma
        kept = self.alpha / alpha
        added = max(0.0, self.sigma**2 - (kept * sigma) ** 2) ** 0.5
        where = noisy.device if generator is None else generator.device
        return kept * lower + added * torch.randn(noisy.shape, generator=generator, device=where).to(noisy)


class Solver:
    """One walk down the levels; made anew for each.

    Args:
        diffusion: the process.
        sampling: the sampler.
        levels: to visit, high to low, and 0 at the end.
    """

    def __init__(self, diffusion: "Diffusion", sampling: "Sampling", levels: list[float]) -> None:
        alphas, sigmas = diffusion.coefficients(torch.tensor(levels, dtype=torch.float64))
        self._flow = sampling.sampler.startswith("flow-")
        self._options: dict[str, Any] = {"eta": sampling.eta} if sampling.sampler == "ddim" else {}
        order = list(range(len(levels) - 1))
        if self._flow:
            share = (sigmas / (alphas + sigmas))[:-1]
            self._scheduler: Any = _flow_scheduler(sampling.sampler, share)
        else:
            self._scheduler = _ddpm_scheduler(sampling.sampler, alphas[:-1].square())
        if sampling.sampler == "flow-heun":
            order = order[:1] + [i for i in order[1:] for _ in range(2)]
        ends = [*order[1:], len(levels) - 1]
        self.visits = [
            Visit(levels[i], alphas[i].item(), sigmas[i].item(), timestep, (alphas[end].item(), sigmas[end].item()))
            for i, end, timestep in zip(order, ends, self._scheduler.timesteps, strict=True)
        ]

    def step(self, visit: Visit, clean: Tensor, noisy: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the sequence at the next visit's level.

        Args:
            visit: where `noisy` is.
            clean: (M, H, S), the clean sequence that is predicted there.
            noisy: (M, H, S).
            generator: of fresh noise.
        """
        if not self._flow:
            return self._step(clean, visit.timestep, noisy, generator=generator, **self._options)
        scale = visit.alpha + visit.sigma
        scaled = noisy / scale
        return self._step((scaled - clean) * (scale / visit.sigma), visit.timestep, scaled) * sum(visit.after)

    def _step(self, *args: Any, **options: Any) -> Tensor:
        return self._scheduler.step(*args, return_dict=False, **options)[0]


def _ddpm_scheduler(name: str, kept: Tensor) -> Any:
    """Return a scheduler whose levels keep these shares (K,) of the signal's variance, noisiest first."""
    from diffusers.schedulers import scheduling_ddim, scheduling_ddpm, scheduling_dpmsolver_multistep

    classes: dict[str, Any] = {
        "ddpm": scheduling_ddpm.DDPMScheduler,
        "ddim": scheduling_ddim.DDIMScheduler,
        "dpm-solver++": scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler,
    }
    plain = {} if name == "dpm-solver++" else {"clip_sample": False}
    scheduler = classes[name](
        num_train_timesteps=len(kept), prediction_type="sample", timestep_spacing="trailing", **plain
    )
    scheduler.alphas_cumprod = kept.flip(0).float()
    scheduler.set_timesteps(len(kept))
    return scheduler


def _flow_scheduler(name: str, shares: Tensor) -> Any:
    """Return a scheduler that visits these evenly spaced levels (K,) of a flow, noisiest first."""
    from diffusers.schedulers import scheduling_flow_match_euler_discrete, scheduling_flow_match_heun_discrete

    if name == "flow-euler":
        scheduler = scheduling_flow_match_euler_discrete.FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=shares.tolist())
    else:
        scheduler = scheduling_flow_match_heun_discrete.FlowMatchHeunDiscreteScheduler()
        scheduler.sigma_max, scheduler.sigma_min = shares[0].item(), shares[-1].item()
        scheduler.set_timesteps(len(shares))
    scheduler.set_begin_index(0)
    return scheduler
