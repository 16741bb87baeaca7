"""How much one step says for a hypothesis about the actions, from how nominal steps look to it.

A hypothesis predicts that the observed latent is off the prediction by a certain vector, its effect. What is seen of it
is a share: the residual along the effect over the effect's length. Nominal steps show shares about 0, the closer the
larger the effect is against the model's errors; where a wall or a contact stops the robot, they may show anything. So
the shares' distribution is taken from nominal steps as it is, for small and large effects apart, and held against the
one about 1 that the hypothesis predicts.
"""

import numpy as np

__all__ = ["effects", "fit_ratios", "log_ratios"]

_CELLS = np.linspace(-1.0, 2.0, 31)
"""Edges of the cells that shares are counted in; what lies outside counts in the outermost."""
_BINS = 8
"""Bins of the effects' sizes, with as many nominal steps in each."""
_LEAST_SIZE = 1e-3
"""Squared length, in nominal residuals, below which an effect is none."""
_FEWEST = 5 * _BINS
"""Nominal steps with an effect without which nothing is said of a hypothesis."""
_WIDER = 1.5
"""How much wider the shares are taken to lie about 1 than nominal ones lie about 0."""
_LEAST_SPREAD = 0.07
"""Least standard deviation of them."""
_ODD = 0.02
"""Share of the steps that look as nominal though the hypothesis is true."""


def effects(one_step: np.ndarray, others: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the residuals (R, D) along each hypothesis' effect on the prediction, and its squared length, (R, J) each.

    Args:
        one_step: observed minus predicted.
        others: (R, J, D), observed minus predicted under each hypothesis.
        precision: (D, D), of nominal residuals: the unit of both results.
    """
    effect = one_step[:, None] - others
    weighed = effect @ precision
    return (weighed * one_step[:, None]).sum(axis=2), (weighed * effect).sum(axis=2)


def fit_ratios(along: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `log_ratios` needs, from nominal steps (n, J), NaN where one has no prediction.

    Returns:
        Edges of the bins of log sizes (J, 7), and log-likelihood ratios (J, 8, 30) by bin and cell.
    """
    count = along.shape[1]
    edges, ratios = np.zeros((count, _BINS - 1)), np.zeros((count, _BINS, len(_CELLS) - 1))
    for index, (a, s) in enumerate(zip(along.T, size.T, strict=True)):
        known = np.isfinite(a) & (s > _LEAST_SIZE)
        if known.sum() < _FEWEST:
            continue
        share, log = a[known] / s[known], np.log(s[known])
        edges[index] = np.quantile(log, np.linspace(0, 1, _BINS + 1))[1:-1]
        bins = np.searchsorted(edges[index], log)
        ratios[index] = [_ratio(share[bins == number]) for number in range(_BINS)]
    return edges, ratios


def log_ratios(along: np.ndarray, size: np.ndarray, edges: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Return the log-likelihood ratio (R, J) of each hypothesis at a step; NaN where its effect is none."""
    found = np.full(along.shape, np.nan)
    for index in range(along.shape[1]):
        known = np.isfinite(along[:, index]) & (size[:, index] > _LEAST_SIZE)
        share = along[known, index] / size[known, index]
        cells = np.clip(np.searchsorted(_CELLS, share, side="right") - 1, 0, len(_CELLS) - 2)
        found[known, index] = ratios[index, np.searchsorted(edges[index], np.log(size[known, index])), cells]
    return found


def _ratio(shares: np.ndarray) -> np.ndarray:
    """Return the log-likelihood ratio (30,) of each cell, from nominal shares of one bin."""
    if not len(shares):
        return np.zeros(len(_CELLS) - 1)
    counts = np.histogram(np.clip(shares, _CELLS[0], _CELLS[-1]), _CELLS)[0] + 1.0
    counts = np.convolve(np.pad(counts, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    nominal = counts / counts.sum()
    spread = max(_LEAST_SPREAD, _WIDER * float(np.diff(np.quantile(shares, (0.16, 0.84)))[0]) / 2)
    middles = (_CELLS[1:] + _CELLS[:-1]) / 2
    claimed = np.exp(-0.5 * ((middles - 1) / spread) ** 2)
    claimed = (1 - _ODD) * claimed / claimed.sum() + _ODD * nominal + 1e-5
    return np.log(claimed / nominal)
