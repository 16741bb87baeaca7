"""Does the latent hold the state, and does it move? Losses cannot tell.

Every function is pure. F is the number of frames, in time order within an episode; the other letters are those of
`wmkit.contracts`.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = [
    "change_per_step",
    "collapse_warnings",
    "diagnose",
    "effective_rank",
    "hold_back",
    "linear_map",
    "linear_probe",
    "open_loop_error",
    "r2",
    "spread",
    "straightness",
]

Predict = Callable[[Tensor, Tensor], Tensor]
"""Past latents (B, T, D) and actions (B, T-1+H, A), past then future -> predicted latents (B, H, D)."""


def effective_rank(latents: Tensor) -> float:
    """Return the effective rank, between 1 and D: exp of the entropy of the normalised singular values.

    Args:
        latents: (F, D); their mean is taken off first.

    Source: Roy & Vetterli, "The effective rank", EUSIPCO 2007. Latents that are all equal have rank 0.
    """
    values = torch.linalg.svdvals(_centred(latents))
    total = values.sum()
    if total <= 1e-12 * latents.abs().max().double().clamp(min=1e-30) * math.sqrt(latents.numel()):
        return 0.0
    share = values / total
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def spread(latents: Tensor) -> dict[str, float]:
    """Return the smallest, median and largest standard deviation of the dimensions of latents (F, D)."""
    std = latents.double().std(dim=0, correction=0)
    return {"std_min": float(std.min()), "std_median": float(std.median()), "std_max": float(std.max())}


def linear_probe(
    latents: Tensor, episodes: Tensor, targets: Mapping[str, Tensor], ridge: float = 1e-3, held_back: float = 0.25
) -> dict[str, float]:
    """Return how well a linear map of the latent gives each target: R2 on episodes that it was not fitted to.

    Args:
        latents: (F, D).
        episodes: (F,), which episode each frame is of, integers.
        targets: by name, (F, size); an angle as its sine and cosine. A column that is constant on the held-back
            episodes does not count; R2 is the mean over the others, NaN where there is none.
        ridge: penalty relative to the mean variance of the latent's dimensions.
        held_back: share of the episodes, drawn evenly in the order of their numbers.

    Raises:
        ValueError: fewer than two episodes.
    """
    held = hold_back(episodes, held_back)
    found = {}
    for name, values in targets.items():
        weights, bias = linear_map(latents[~held], values[~held], ridge)
        found[name] = r2(latents[held].double() @ weights + bias, values[held])
    return found


def hold_back(episodes: Tensor, share: float = 0.25) -> Tensor:
    """Return which frames (F,) bool are of the held-back episodes, drawn evenly in the order of their numbers.

    Args:
        episodes: (F,), which episode each frame is of, integers.
        share: of the episodes; at least one is held back and at least one is not.

    Raises:
        ValueError: fewer than two episodes.
    """
    known = episodes.unique()
    if len(known) < 2:
        raise ValueError(f"a probe needs 2 episodes or more to hold one back, not {len(known)}")
    count = min(len(known) - 1, max(1, round(share * len(known))))
    return torch.isin(episodes, known[torch.linspace(0, len(known) - 1, count).round().long()])


def linear_map(latents: Tensor, values: Tensor, ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Fit values = latents @ weights + bias by ridge regression; return weights (D, size) and bias (size,), float64.

    Args:
        latents: (F, D).
        values: (F, size).
        ridge: penalty relative to the mean variance of the latent's dimensions.
    """
    centre, mean = latents.double().mean(dim=0), values.double().mean(dim=0)
    wide = latents.double() - centre
    gram = wide.mT @ wide
    gram.diagonal().add_(ridge * gram.trace() / len(gram) + torch.finfo(gram.dtype).tiny)
    weights = torch.linalg.pinv(gram, hermitian=True) @ (wide.mT @ (values.double() - mean))
    return weights, mean - centre @ weights


def r2(predicted: Tensor, truth: Tensor) -> float:
    """Return R2, mean over the columns of truth (F, size) that vary; NaN where none does."""
    truth = truth.double()
    residual = (truth - predicted).square().sum(dim=0)
    total = (truth - truth.mean(dim=0)).square().sum(dim=0)
    varying = total > 1e-12 * truth.square().sum(dim=0).clamp(min=1e-30)
    return float((1 - residual[varying] / total[varying]).mean()) if varying.any() else math.nan


def open_loop_error(latents: Tensor, actions: Tensor, predict: Predict, history: int) -> dict[str, list[float]]:
    """Return the squared error of a rollout at 1..H steps, relative to the latent's variance.

    Args:
        latents: (B, T+H, D), encoded from consecutive model steps.
        actions: (B, T+H-1, A), between them.
        predict: the model.
        history: T, latents that `predict` sees.

    Returns:
        "model": H errors; 0 is perfect, 1 is as bad as the mean latent. "copy_last": the same for repeating the last
        seen latent; a model that does not beat it has learnt nothing of the actions.
    """
    future = latents[:, history:].double()
    predicted = predict(latents[:, :history], actions).double()
    if predicted.shape != future.shape:
        raise ValueError(f"predict returned {tuple(predicted.shape)}, expected {tuple(future.shape)}")
    variance = _centred(latents.flatten(0, 1)).square().sum(dim=1).mean().clamp(min=1e-30)
    last = latents[:, history - 1 : history].double()
    errors = {"model": predicted - future, "copy_last": last - future}
    return {name: (error.square().sum(dim=2).mean(dim=0) / variance).tolist() for name, error in errors.items()}


def change_per_step(latents: Tensor, episodes: Tensor) -> float:
    """Return how far the latent moves in a model step: root mean square of the change over that of the latent.

    Args:
        latents: (F, D); their mean is taken off for the second root mean square.
        episodes: (F,), which episode each frame is of; no change is counted across episodes.

    Raises:
        ValueError: no episode has two frames in a row.
    """
    within = episodes[1:] == episodes[:-1]
    if not within.any():
        raise ValueError("no two consecutive frames of one episode")
    change = latents.double().diff(dim=0)[within]
    size = _centred(latents).square().sum(dim=1).mean().sqrt().clamp(min=1e-30)
    return float(change.square().sum(dim=1).mean().sqrt() / size)


def straightness(latents: Tensor, episodes: Tensor) -> float:
    """Return how straight trajectories are: mean cosine between one change and the next, in [-1, 1]; 1 is a line.

    Independent latents give about -0.5, a random walk 0. Where hardly anything changes there is no direction, and such
    pairs of changes, a millionth of the mean in the product of their sizes, are left out; NaN where none is left.

    Args:
        latents: (F, D), consecutive within an episode.
        episodes: (F,), which episode each frame is of; no change is counted across episodes.

    Source: Henaff et al., "Perceptual straightening of natural videos", Nature Neuroscience 2019, as a cosine in place
    of an angle.
    """
    products, sizes = [], []
    for part in latents.split(torch.unique_consecutive(episodes, return_counts=True)[1].tolist()):
        change = part.double().diff(dim=0)
        products.append((change[:-1] * change[1:]).sum(dim=1))
        sizes.append(change[:-1].norm(dim=1) * change[1:].norm(dim=1))
    product, size = torch.cat(products), torch.cat(sizes)
    moving = size > 1e-6 * size.mean()
    return float((product[moving] / size[moving]).mean()) if moving.any() else math.nan


def diagnose(
    latents: Tensor,
    episodes: Tensor,
    targets: Mapping[str, Tensor] | None = None,
    windows: tuple[Tensor, Tensor] | None = None,
    predict: Predict | None = None,
    history: int = 1,
) -> dict[str, float]:
    """Return all diagnostics under the names that `collapse_warnings` reads.

    Args:
        latents: (F, D), of held-back episodes.
        episodes: (F,), which episode each frame is of.
        targets: for `linear_probe`; gives "probe/<name>".
        windows: latents (B, T+H, D) and actions (B, T+H-1, A) for `open_loop_error`; gives "open_loop/<h>" and
            "copy_last/<h>", h from 1.
        predict: the model, with `windows`.
        history: T, with `windows`.
    """
    rank = effective_rank(latents)
    numbers = {"effective_rank": rank, "rank_share": rank / latents.shape[-1], **spread(latents)}
    numbers["change_per_step"] = change_per_step(latents, episodes)
    if targets:
        probes = linear_probe(latents, episodes, targets)
        numbers |= {f"probe/{name}": r2 for name, r2 in probes.items()}
    if windows is not None and predict is not None:
        errors = open_loop_error(*windows, predict, history)
        for name, key in (("model", "open_loop"), ("copy_last", "copy_last")):
            numbers |= {f"{key}/{h}": error for h, error in enumerate(errors[name], start=1)}
    return numbers


def collapse_warnings(
    numbers: Mapping[str, float],
    *,
    rank_share: float = 0.1,
    probe: float = 0.5,
    change: float = 0.01,
) -> list[str]:
    """Return one line for each sign that the latent is useless though losses look healthy.

    Args:
        numbers: diagnostics under the names of `diagnose`; absent ones are not judged.
        rank_share: smallest effective rank over D.
        probe: smallest R2 of a linear probe.
        change: smallest change per model step over the latent's size.
    """
    lines = []
    share = numbers.get("rank_share")
    if share is not None and share < rank_share:
        lines.append(f"the latent's effective rank is {share:.1%} of its size: it has collapsed or nearly so")
    for name, r2 in numbers.items():
        if name.startswith("probe/") and r2 < probe:
            lines.append(
                f"{name.removeprefix('probe/')} cannot be read from the latent (R2 {r2:.2f}), whatever the loss says"
            )
    moved = numbers.get("change_per_step")
    if moved is not None and moved < change:
        lines.append(f"the latent hardly moves ({moved:.4f} of its size a model step): it holds what stays constant")
    model, still = numbers.get("open_loop/1"), numbers.get("copy_last/1")
    if model is not None and still is not None and model >= still:
        lines.append(f"one-step prediction ({model:.3g}) is no better than repeating the last latent ({still:.3g})")
    return lines


def _centred(latents: Tensor) -> Tensor:
    """Return latents (F, D) in float64 without their mean."""
    wide = latents.double()
    return wide - wide.mean(dim=0)
