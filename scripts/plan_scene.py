"""What `wmkit bench plan` plans: a model, two observations and candidates; no command of its own."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wmkit import registry
from wmkit.contracts import ObservationSpec
from wmkit.errors import UserError
from wmkit.timing import Peer

from ..models import LeWM, LeWMConfig
from ..models.lewm.official_config import is_lewm
from ..models.lewm.official_files import locate, read_document
from ..models.lewm.presets import LEWM
from .assembly import load_model

if TYPE_CHECKING:
    from wmkit.contracts import WorldModel

__all__ = [
    "REACHABLE",
    "Scene",
    "check_shared",
    "is_checkpoint",
    "make_scene",
    "paper_model",
    "read_model",
    "share_model",
]

REACHABLE = "reachable"
_KINDS = {"wide": (0.0, 1.0), "narrow": (0.3, 0.1), REACHABLE: (0.3, 0.1)}
"""Kind of candidates -> spread of their mean, and their own around it, in half ranges: as in the first and in the last
iterations of CEM. The goal of "reachable" is where one such candidate ends, that of the others is the picture."""
_DRAWS = 2
"""Sets of candidates of each kind."""
_STRENGTH = 16.0
"""By how much the predictor's modulation by actions is stronger than other random weights."""
_PAPER = {"action_repeat": 5, "seconds_per_step": 0.5}
_OF_PRESET = (
    "image_size",
    "latent_size",
    "history",
    "encoder",
    "encoder_options",
    "predictor",
    "predictor_options",
    "projector",
    "background",
    "pixel_scale",
)


@dataclass(frozen=True)
class Scene:
    """What is planned.

    Attributes:
        start: observations (B, 1, ...) by key.
        goal: the same of the goal.
        candidates: (M, B, N, H, A), within the bounds, environment units.
        targets: (M, B, 1, H, A), one more candidate of each set, which leads to the goal of the "reachable" ones.
        kinds: M names of `_KINDS`.
    """

    start: Mapping[str, Tensor]
    goal: Mapping[str, Tensor]
    candidates: Tensor
    targets: Tensor
    kinds: tuple[str, ...]


def paper_model() -> LeWM:
    """Return a LeWM at paper size for two action numbers, with random weights.

    Nothing in it is left at zero or one, and it listens to actions about as much as a trained model does, so that the
    ranks of candidates mean something.
    """
    torch.manual_seed(0)
    given = {name: getattr(LEWM, name) for name in _OF_PRESET}
    model = LeWM(LeWMConfig(action_low=(-1.0, -1.0), action_high=(1.0, 1.0), **_PAPER, **given))
    model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
    for name, parameter in model.named_parameters():
        parameter.data.add_(0.03 * torch.randn_like(parameter))
        if "modulation" in name:
            parameter.data.mul_(_STRENGTH)
    return model.eval()


def read_model(name: str, action_repeat: int | None = None) -> Any:
    """Return the model of a folder, pretrained:NAME, or a checkpoint of LeWM's authors, its folder or file.

    Checkpoints hold no statistics of the actions; they are taken to be normalised.

    Args:
        name: of the model.
        action_repeat: environment steps per model step of a checkpoint; None takes the usual 5.

    Raises:
        UserError: there is no such model, or an action_repeat for one that says its own.
    """
    if not is_checkpoint(Path(name)):
        if action_repeat is not None:
            raise UserError(f"--action-repeat: {name} is no checkpoint of LeWM's authors and has its own; leave it out")
        return load_model(name)[0]
    use: dict[str, Any] = {} if action_repeat is None else {"action_repeat": action_repeat}
    model = LeWM.from_lewm(name, **use)
    size = model.spec.action_size
    model.set_action_statistics([0.0] * size, [1.0] * size)
    return model


def is_checkpoint(path: Path) -> bool:
    """Return whether a folder, or that of a file, is a checkpoint as LeWM's authors and stable-worldmodel save them."""
    try:
        return is_lewm(read_document(path.parent if path.is_file() else path))
    except UserError:
        return False


def check_shared(peer: str, run: str | None) -> None:
    """Raise UserError for a model that a peer cannot read; None is the random one."""
    if run is not None and not (is_checkpoint(Path(run)) and locate(run).suffix == ".pt"):
        raise UserError(f"{peer} cannot read {run}: give a checkpoint of LeWM's authors with a .pt file, or no RUN")


def share_model(
    peer: Peer, run: str | None, device: str, threads: int, action_repeat: int | None = None
) -> tuple[Any, dict[str, Any]]:
    """Let a peer make or read a model, and return the same model as ours, and what the peer says of itself.

    Args:
        peer: makes the model.
        run: a checkpoint that both can read, its folder or file; None has the peer draw random weights at paper size.
        device: of the peer's model.
        threads: of the peer.
        action_repeat: as of `read_model`.

    Raises:
        UserError: the peer fails, or a model is not what either can read.
    """
    checkpoint = None if run is None else str(Path(run).resolve())
    facts = peer.ask("build", device=device, threads=threads, checkpoint=checkpoint)
    if run is not None:
        return read_model(run, action_repeat), facts
    with tempfile.TemporaryDirectory() as folder:
        peer.ask("export", folder=folder)
        return read_model(folder), facts


def make_scene(model: "WorldModel", batch: int, samples: int, horizon: int, device: str) -> Scene:
    """Draw observations and candidates at random, the same ones every time.

    Observations are of the task that the model was trained on, the goal's `horizon` model steps after the start's;
    where the model names no task, or does not see pixels, they are noise.
    """
    generator = torch.Generator().manual_seed(2)
    seen = _seen(model, batch, horizon)
    if seen is None:
        specs = model.spec.observations
        seen = [{key: _draw(spec, batch, generator) for key, spec in specs.items()} for _ in range(2)]
    start, goal = ({key: value.to(device) for key, value in each.items()} for each in seen)
    low, high = model.spec.bounds()
    half, kinds, drawn = (high - low) / 2, [], []
    for kind, (away, spread) in _KINDS.items():
        for _ in range(_DRAWS):
            mean = away * torch.randn(batch, 1, horizon, len(half), generator=generator)
            noise = spread * torch.randn(batch, samples + 1, horizon, len(half), generator=generator)
            drawn.append(torch.clamp((low + high) / 2 + half * (mean + noise), low, high))
            kinds.append(kind)
    candidates = torch.stack(drawn).to(device)
    return Scene(start, goal, candidates[:, :, 1:], candidates[:, :, :1], tuple(kinds))


def _seen(model: "WorldModel", batch: int, horizon: int) -> list[dict[str, Tensor]] | None:
    """Return what the model's task shows at a start and at a goal, each (B, 1, ...); None without such a task."""
    name = (getattr(model, "metadata", None) or {}).get("task")
    if name not in registry.names("environments") or list(model.spec.observations) != ["pixels"]:
        return None
    size, repeat = model.spec.observations["pixels"].shape[0], model.spec.action_repeat
    task = registry.load("environments", name)
    env = task.make_vector(num_envs=batch, obs_type="pixels", image_size=size)
    draws = np.random.default_rng(0).uniform(task.action_low, task.action_high, (horizon, batch, len(task.action_low)))
    try:
        shown = [env.reset(seed=0)[0]]
        shown += [env.step(draws[step // repeat].astype(np.float32))[0] for step in range(horizon * repeat)]
    finally:
        env.close()
    pixels = (np.asarray(each["pixels"] if isinstance(each, Mapping) else each) for each in (shown[0], shown[-1]))
    return [{"pixels": torch.from_numpy(each.copy()).unsqueeze(1)} for each in pixels]


def _draw(spec: ObservationSpec, batch: int, generator: torch.Generator) -> Tensor:
    """Return a random observation (B, 1, ...)."""
    shape = (batch, 1, *spec.shape)
    if spec.dtype == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return (
        torch.randn(shape, generator=generator)
        .clamp(max(spec.low, -1e6), min(spec.high, 1e6))
        .to(getattr(torch, spec.dtype))
    )
