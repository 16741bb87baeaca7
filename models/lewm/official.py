"""Reading published LeWM checkpoints: of lucas-maes/le-wm, and of stable-worldmodel, which share their form.

A checkpoint is `config.json`, see `official_config`, beside a `state_dict` written by `torch.save` (`weights.pt`, or
`weights_epoch_10.pt`) or as safetensors. Nothing that either file names is imported or run.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wmkit.data.episodes import EpisodeStore
from wmkit.errors import UserError

from .config import IMAGENET_BACKGROUND, IMAGENET_SCALE, LeWMConfig
from .official_config import Architecture, is_lewm, parse
from .official_files import locate, read_document, read_tensors, sha256
from .official_names import convert

if TYPE_CHECKING:
    from .model import LeWM

__all__ = ["Official", "Use", "build", "describe", "read"]

_Model = TypeVar("_Model", bound="LeWM")

_SECONDS = 0.5
"""Of a model step where nothing says: PushT's, five steps at 10 Hz."""


@dataclass(frozen=True)
class Use:
    """What a checkpoint does not say and `LeWM.from_lewm` is told.

    Attributes:
        action_low: (action_size,), environment units; None takes the data's, or -1.
        action_high: (action_size,), environment units; None takes the data's, or 1.
        action_repeat: environment steps per model step.
        seconds_per_step: of one model step; None takes the data's, or 0.5.
        action_mean: (action_size,), environment units; None takes the data's, or none.
        action_std: (action_size,), environment units; None takes the data's, or none.
        statistics_from: folder that `wmkit collect` wrote; None for none.
        image_size: S, pixels; None takes the checkpoint's.
    """

    action_low: Sequence[float] | None = None
    action_high: Sequence[float] | None = None
    action_repeat: int = 5
    seconds_per_step: float | None = None
    action_mean: Sequence[float] | None = None
    action_std: Sequence[float] | None = None
    statistics_from: str | os.PathLike[str] | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class Official:
    """A checkpoint in `LeWM`'s terms.

    Attributes:
        config: what to build.
        state: of the `LeWM`, complete; its action statistics are NaN.
        statistics: mean and standard deviation of one environment action, each (action_size,); None where unknown.
        metadata: where it came from: "source" with its kind, the file's name and SHA-256, and unused weights by name.
    """

    config: LeWMConfig
    state: dict[str, Tensor]
    statistics: tuple[Sequence[float], Sequence[float]] | None
    metadata: dict[str, Any]


def read(name: str | os.PathLike[str], use: Use) -> Official:
    """Read a checkpoint.

    Args:
        name: a folder with `config.json` and one file of weights; that file; or "owner/name" on the Hugging Face hub,
            which is downloaded, unless a folder of that name exists.
        use: what the checkpoint does not say.

    Raises:
        UserError: there is no such checkpoint, a file is missing, damaged or unsafe, it is of another architecture, its
            weights do not fit, or `use` does not fit it.
    """
    weights = locate(name)
    sizes = parse(read_document(weights.parent))
    state, unused = convert(read_tensors(weights), sizes)
    if use.image_size is not None and use.image_size != sizes.image_size:
        sizes = _resample(state, sizes, use.image_size)
    use = _with_data(use)
    config = _config(sizes, use)
    for statistic in ("action_mean", "action_std"):
        state[statistic] = torch.full((len(config.action_low),), torch.nan)
    source = {"kind": "LeWM checkpoint", "file": weights.name, "sha256": sha256(weights), "unused": unused}
    return Official(config, state, _statistics(use), {"source": source})


def build(kind: type[_Model], name: str | os.PathLike[str], use: Use) -> _Model:
    """Make a model of a checkpoint; arguments and errors as of `read`.

    Args:
        kind: `LeWM` or a class derived from it.
        name: of the checkpoint.
        use: what the checkpoint does not say.

    Raises:
        UserError: see `read`.
        ValueError: bounds, seconds or statistics are out of range.
    """
    found = read(name, use)
    model = kind(found.config)
    model.load_state_dict(found.state)
    if found.statistics is not None:
        model.set_action_statistics(*found.statistics)
    model.metadata = found.metadata
    return model


def describe(folder: Path) -> dict[str, Any] | None:
    """Return what a folder with a published LeWM's `config.json` holds, without its weights; None for other folders.

    Raises:
        UserError: it is a published LeWM that cannot be read, as of `read`.
    """
    try:
        document = read_document(folder)
    except UserError:
        return None
    if not is_lewm(document):
        return None
    weights = locate(folder)
    facts = {"weights": weights.name, "bytes": weights.stat().st_size, "sha256": sha256(weights)}
    return facts | {"architecture": asdict(parse(document))}


def _resample(state: dict[str, Tensor], sizes: Architecture, image_size: int) -> Architecture:
    """Fit the positions to images of another size, as transformers' ViT does, and return the new sizes."""
    if type(image_size) is not int or image_size < 1 or image_size % sizes.patch_size:
        raise UserError(
            f"image_size is {image_size!r}; give a multiple of the checkpoint's patches, {sizes.patch_size}"
        )
    old, new = sizes.image_size // sizes.patch_size, image_size // sizes.patch_size
    first, grid = state["encoder.positions"].split((1, old * old), dim=1)
    grid = interpolate(grid.mT.unflatten(-1, (old, old)), size=(new, new), mode="bicubic", align_corners=False)
    state["encoder.positions"] = torch.cat([first, grid.flatten(2).mT], dim=1)
    return replace(sizes, image_size=image_size)


def _with_data(use: Use) -> Use:
    """Fill what was not given from the recorded episodes, if there are any."""
    if use.statistics_from is None:
        return use
    store = EpisodeStore.open(os.fspath(use.statistics_from))
    try:
        actions = store.read("action", range(len(store)))
    finally:
        store.close()
    data = store.metadata
    known = {
        "action_low": data.action_low,
        "action_high": data.action_high,
        "seconds_per_step": data.seconds_per_step * use.action_repeat,
        "action_mean": actions.mean(axis=0, dtype="float64").tolist(),
        "action_std": actions.std(axis=0, dtype="float64").tolist(),
    }
    return replace(use, **{name: value for name, value in known.items() if getattr(use, name) is None})


def _config(sizes: Architecture, use: Use) -> LeWMConfig:
    """Return what to build."""
    repeat = use.action_repeat
    if type(repeat) is not int or repeat < 1 or sizes.block_size % repeat:
        text = f"the checkpoint's action blocks have {sizes.block_size} numbers"
        raise UserError(
            f"{text}, which action_repeat {repeat!r} does not divide; give environment steps per model step"
        )
    numbers = sizes.block_size // repeat
    low = (-1.0,) * numbers if use.action_low is None else use.action_low
    high = (1.0,) * numbers if use.action_high is None else use.action_high
    for name, bounds in (("action_low", low), ("action_high", high)):
        if len(bounds) != numbers:
            text = f"{name} has {len(bounds)} numbers, but the checkpoint's actions have {sizes.block_size} / {repeat}"
            raise UserError(f"{text} = {numbers}; give {name} or action_repeat that fit")
    if sizes.image_size % sizes.patch_size or sizes.width % sizes.heads:
        text = f"encoder.patch_size {sizes.patch_size} must divide encoder.image_size {sizes.image_size}, and"
        raise UserError(
            f"{text} encoder.num_attention_heads {sizes.heads} the width {sizes.width}; others are not supported"
        )
    return LeWMConfig(
        image_size=sizes.image_size,
        latent_size=sizes.latent_size,
        action_repeat=repeat,
        action_low=tuple(low),
        action_high=tuple(high),
        seconds_per_step=_SECONDS if use.seconds_per_step is None else use.seconds_per_step,
        history=sizes.history,
        encoder="vit",
        encoder_options={
            "patch_size": sizes.patch_size,
            "width": sizes.width,
            "depth": sizes.depth,
            "heads": sizes.heads,
            "mlp_size": sizes.mlp_size,
            "norm_eps": sizes.norm_eps,
        },
        predictor="transformer",
        predictor_options={
            "width": sizes.predictor_width,
            "depth": sizes.predictor_depth,
            "heads": sizes.predictor_heads,
            "head_size": sizes.head_size,
            "mlp_size": sizes.predictor_mlp_size,
            "dropout": sizes.dropout,
            "action_size": sizes.action_size,
        },
        projector=None if sizes.projector_size is None else {"hidden_size": sizes.projector_size},
        background=IMAGENET_BACKGROUND,
        pixel_scale=IMAGENET_SCALE,
    )


def _statistics(use: Use) -> tuple[Sequence[float], Sequence[float]] | None:
    """Return the action statistics that were given, both or none."""
    if (use.action_mean is None) != (use.action_std is None):
        raise UserError("action_mean and action_std go together; give both, statistics_from, or none of them")
    return None if use.action_mean is None or use.action_std is None else (use.action_mean, use.action_std)
