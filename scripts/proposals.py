"""Where a search starts, from what the command line says; no command of its own.

`--proposal` takes "gaussian", independent noise around rest; "inverse", the model's own inverse dynamics; a trained
proposal's folder, or a run's that holds proposal/; or several of them with their shares of the candidates, such as
"inverse:0.5+runs/proposal:0.5", which weigh alike without numbers.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit import registry
from wmkit.errors import UserError

if TYPE_CHECKING:
    import torch

    from wmkit.contracts import Proposal, WorldModel

__all__ = ["check_sampling", "load_proposal", "make_proposal", "parse_proposal", "set_sampling", "try_proposal"]

_KINDS = "gaussian, inverse, the folder of a trained proposal, or a mixture such as inverse:0.5+FOLDER:0.5"


def parse_proposal(text: str) -> list[tuple[str, float]]:
    """Return the names and positive weights of a proposal or a mixture.

    A folder whose name holds "+" or ":" is taken as it is, where it is given alone.

    Raises:
        UserError: a name is missing, or a weight is not positive.
    """
    if text and Path(text).is_dir():
        return [(text, 1.0)]
    parts = [_part(part.strip(), text) for part in text.split("+")]
    if any(not name for name, _ in parts):
        raise UserError(f"--proposal {text!r} names nothing where a name belongs; give {_KINDS}")
    return parts


def _part(part: str, text: str) -> tuple[str, float]:
    """Return the name and the weight of "NAME" or "NAME:WEIGHT"."""
    name, colon, number = part.rpartition(":")
    try:
        weight = float(number) if colon else 1.0
    except ValueError:
        return part, 1.0
    if not 0 < weight < float("inf"):
        raise UserError(f"--proposal {text!r}: the weight of {name} is {number}; give a positive number")
    return (name, weight) if colon else (part, 1.0)


def load_proposal(name: str, model: "WorldModel") -> Any:
    """Return a trained proposal that fits a model.

    Args:
        name: a proposal's folder, or a run's folder that holds proposal/.
        model: what plans are made through.

    Raises:
        UserError: there is no such folder, it holds something else, or it was trained for another model.
    """
    from wmkit.model_folder import kind_of, resolve

    if not Path(name).is_dir() and ":" not in name and "/" not in name:
        raise UserError(f"unknown --proposal {name!r}; give {_KINDS}")
    folder = resolve(name)
    inner = folder / "proposal"
    folder = inner if inner.is_dir() and not (folder / "config.json").exists() else folder
    kind, known = kind_of(folder), registry.names("proposals")
    if kind not in known:
        raise UserError(f"--proposal {name}: the folder holds a {kind}, not a proposal; known: {', '.join(known)}")
    proposal = registry.load("proposals", kind).from_pretrained(folder, _device(model))
    try:
        proposal.check(model.spec)
    except ValueError as error:
        raise UserError(f"--proposal {name}: {error}") from None
    return proposal


def make_proposal(text: str, model: "WorldModel", planning: Mapping[str, Any]) -> "Proposal | None":
    """Return what draws the candidates; None for the planner's own noise.

    Args:
        text: see the module.
        model: what plans are made through.
        planning: settings like `wmkit.scripts.assembly.PLANNING`; "std" spreads a mixture's Gaussian share, "sampler"
            and "sampling_steps" draw from trained ones.

    Raises:
        UserError: see `parse_proposal`, `load_proposal` and `set_sampling`.
        ValueError: the model has no inverse dynamics.
    """
    from ..planners import MixtureProposal

    parts = parse_proposal(text)
    if parts == [("gaussian", parts[0][1])]:
        return None
    made = [_make(name, model, planning) for name, _ in parts]
    return made[0] if len(made) == 1 else MixtureProposal(made, [weight for _, weight in parts])


def _make(name: str, model: "WorldModel", planning: Mapping[str, Any]) -> "Proposal":
    """Return one proposal by name."""
    from ..planners import GaussianProposal, InverseDynamicsProposal

    if name == "gaussian":
        return GaussianProposal(model, planning.get("std") or 1.0)
    if name == "inverse":
        return InverseDynamicsProposal(model)
    proposal = load_proposal(name, model)
    set_sampling(proposal, planning)
    return proposal


def set_sampling(part: Any, planning: Mapping[str, Any], prefix: str = "") -> None:
    """Sample a diffusion model as asked; nothing happens where nothing is asked, or there is nothing to sample.

    Args:
        part: a proposal or dynamics; one with `sampling` is changed.
        planning: "sampler" and "sampling_steps", None as the part was saved.
        prefix: of the options' names in messages, such as "dynamics-".

    Raises:
        UserError: the sampler is unknown or does not fit, or there are more steps than the schedule has.
    """
    asked = {"sampler": planning.get("sampler"), "steps": planning.get("sampling_steps")}
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked or getattr(part, "sampling", None) is None:
        return
    try:
        sampling = replace(part.sampling, **asked)
        sampling.check(part.config.diffusion)
    except ValueError as error:
        raise UserError(f"--{prefix}sampler and --{prefix}sampling-steps: {error}") from error
    part.sampling = sampling


def check_sampling(planning: Mapping[str, Any], *parts: Any) -> None:
    """Raise UserError where a sampler is asked for and none of the parts is sampled."""
    members = [member for part in parts for member in getattr(part, "proposals", [part])]
    asked = any(planning.get(name) is not None for name in ("sampler", "sampling_steps"))
    if asked and all(getattr(member, "sampling", None) is None for member in members):
        raise UserError("--sampler and --sampling-steps are for diffusion models; neither model nor proposal is one")


def try_proposal(proposal: "Proposal", model: "WorldModel", horizon: int) -> None:
    """Draw once, so that what cannot work is refused before an environment is made.

    Raises:
        ValueError: the proposal refuses, e.g. because the model was trained without inverse dynamics.
    """
    import torch

    from wmkit.contracts import Context

    spec, device = model.spec, _device(model)
    latents = torch.zeros(1, 1, spec.latent_size, device=device)
    context = Context(latents, torch.zeros(1, 0, spec.block_size, device=device), goal=latents[:, 0])
    with torch.inference_mode():
        drawn = proposal.propose(context, 2, horizon, torch.Generator(device).manual_seed(0))
    if tuple(drawn.shape) != (1, 2, horizon, spec.block_size):
        raise ValueError(
            f"{type(proposal).__name__} gave candidates {tuple(drawn.shape)}; "
            f"the planner needs {(1, 2, horizon, spec.block_size)}"
        )


def _device(model: Any) -> "torch.device":
    """Return where a model computes."""
    import torch

    parameters = getattr(model, "parameters", None)
    found = None if parameters is None else next(iter(parameters()), None)
    return torch.device("cpu") if found is None else found.device
