"""Ensembles: several models of one latent space, whose disagreement is what they do not know.

Disagreement between networks that learned the same data from other seeds is small where data is and grows where none
is; as an uncertainty of dynamics in planning after PETS (Chua et al., 2018, arXiv 1805.12114), as a signal of novelty
after Pathak et al. (2019, arXiv 1906.04161).
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from wmkit import registry
from wmkit.contracts import (
    Context,
    ModelSpec,
    Observations,
    ObservationSpec,
    Rollout,
    SupportsDecode,
    SupportsInverse,
    WorldModel,
)
from wmkit.errors import UserError
from wmkit.model_folder import kind_of, load_folder, resolve, save_folder, weights_sha256

from .sequence import SequenceDynamics

__all__ = ["Ensemble"]

_SAME = 1e-3
"""Largest relative or absolute difference between latents that count as the same."""
_SPEC = fields(ModelSpec)


class Ensemble(nn.Module):
    """K models side by side, each rolled out on its own predictions; implements `wmkit.contracts.WorldModel`.

    A rollout's latents are the mean of the members' at each step. `uncertainty` is their disagreement: the standard
    deviation over the members (K - 1 in the denominator, so that its square does not depend on K), in units of
    `scale`, as the root mean square over D. 0 means that all say the same; 1 that they are as far apart as the latent
    usually moves within the members' horizon. With one member it is the member's own, if any. Quantities that all
    members name are averaged, and "members" (B, N, H, K, D) are the latents of each.

    `encode`, `decode` and `inverse` are those of the first member. Stochastic members draw from the generator one after
    another, so that the luck of their draws is part of the disagreement. A rollout takes the time of all members'.

    Args:
        members: K models, at least one, of equal `spec` and equal latents: whatever they encode with must be the same.
        scale: (D,), above 0, units of disagreement; None takes the standard deviation of the latents' change over the
            members' horizon in their training data, the mean over the members, where they know it, else 1.

    Raises:
        ValueError: no member, specs or latents that differ, or a scale that does not fit.

    Attributes:
        members: the models.
        metadata: plain JSON values kept in the model folder; at first what those of all members say alike.
        decode: `SupportsDecode.decode`; absent where the first member has none.
        inverse: `SupportsInverse.inverse`; absent where the first member has none.
    """

    kind: ClassVar[str] = "ensemble"

    def __init__(self, members: Sequence[WorldModel], scale: Tensor | None = None) -> None:
        super().__init__()
        self.members = tuple(members)
        _check_members(self.members)
        self._parts = nn.ModuleList(member for member in self.members if isinstance(member, nn.Module))
        self.scale: Tensor
        self.register_buffer("scale", _scale(self.members) if scale is None else _checked(scale, self.spec))
        self.metadata: dict[str, Any] = _common([getattr(member, "metadata", {}) for member in self.members])
        self.decode: Callable[[Tensor, str], Tensor]
        self.inverse: Callable[[Tensor, Tensor, Tensor], Tensor]
        first = self.members[0]
        if isinstance(first, SupportsDecode):
            self.decode = first.decode
        if isinstance(first, SupportsInverse):
            self.inverse = first.inverse

    @property
    def spec(self) -> ModelSpec:
        """What every member takes and gives."""
        return self.members[0].spec

    def encode(self, observations: Observations) -> Tensor:
        """Encode observations into latents (B, T, D), as the first member does."""
        return self.members[0].encode(observations)

    def rollout(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
        """Imagine with every member what follows `context` under each candidate.

        Gradients reach `actions` that ask for them, where they do so through the members.

        Args:
            context: B contexts, with nothing pending.
            actions: (B, N, H, A), environment units.
            generator: source of all randomness, passed from member to member.

        Raises:
            ValueError: see the members.
        """
        rollouts = [member.rollout(context, actions, generator) for member in self.members]
        latents = torch.stack([rollout.latents for rollout in rollouts], dim=3)
        mean, deviations = _mean(latents)
        named = [name for name in rollouts[0].quantities if all(name in rollout.quantities for rollout in rollouts)]
        quantities = {name: _mean(torch.stack([r.quantities[name] for r in rollouts], dim=3))[0] for name in named}
        uncertainty = self._disagreement(deviations) if len(rollouts) > 1 else rollouts[0].uncertainty
        return Rollout(mean, uncertainty, quantities | {"members": latents})

    def save_pretrained(self, folder: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Write a model folder that holds the scale, with a whole model folder of each member in members/0 and so on.

        The configuration names each member's kind and the SHA-256 of its weights, and is written last.

        Args:
            folder: where to.
            metadata: plain JSON values for the model card; None takes the ensemble's `metadata`.

        Raises:
            UserError: see `wmkit.model_folder.save_folder`.
            ValueError: a member cannot be saved.
        """
        for member in self.members:
            if not hasattr(member, "save_pretrained"):
                raise ValueError(f"{type(member).__name__} has no save_pretrained; give members that have it")
        entries = {}
        for index, member in enumerate(self.members):
            inside = Path(folder) / _place(index)
            inside.parent.mkdir(parents=True, exist_ok=True)
            member.save_pretrained(inside)  # pyright: ignore[reportAttributeAccessIssue]
            entries[_place(index)] = {"kind": kind_of(inside), "sha256": weights_sha256(inside)}
        metadata = self.metadata if metadata is None else metadata
        save_folder(folder, self.kind, {"members": entries}, {"scale": self.scale}, metadata)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load an ensemble, in evaluation mode.

        Args:
            folder_or_hub_id: a folder, or a name that `wmkit.model_folder.resolve` knows.
            device: where to.

        Raises:
            UserError: there is no such ensemble, or it or a member is damaged, missing, or not what it was saved with.
        """
        config, state, metadata = load_folder(folder_or_hub_id, cls.kind)
        folder = resolve(folder_or_hub_id)
        try:
            entries = [config["members"][_place(index)] for index in range(len(config["members"]))]
            members = [_member(folder / _place(i), entry, device) for i, entry in enumerate(entries)]
            ensemble = cls(members, state["scale"])
        except UserError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"members and configuration of {folder_or_hub_id} do not fit: {text}") from None
        ensemble.metadata = metadata
        return ensemble.to(device).eval()

    def _disagreement(self, deviations: Tensor) -> Tensor:
        """Return (B, N, H) from deviations (B, N, H, K, D) from the mean; its gradient where all agree is 0."""
        k, size = deviations.shape[3:]
        return torch.linalg.vector_norm(deviations / self.scale.to(deviations), dim=(3, 4)) / math.sqrt((k - 1) * size)


def _mean(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over dimension 3 of values (B, N, H, K, ...) and the deviations from it.

    Both are taken relative to the first member: equal members give their value and 0 exactly.
    """
    apart = values - values[:, :, :, :1]
    offset = apart.mean(dim=3, keepdim=True)
    return (values[:, :, :, :1] + offset).squeeze(3), apart - offset


def _place(index: int) -> str:
    """Return the folder of a member inside the ensemble's."""
    return f"members/{index}"


def _member(folder: Path, entry: Mapping[str, str], device: torch.device | str) -> WorldModel:
    """Load a member and check that it is the one that was saved."""
    kind = kind_of(folder)
    if (kind, weights_sha256(folder)) != (entry["kind"], entry["sha256"]):
        raise UserError(f"{folder} is not the {entry['kind']} that the ensemble was saved with; save it again")
    return registry.load("models", kind).from_pretrained(folder, device)


def _check_members(members: Sequence[WorldModel]) -> None:
    """Raise ValueError unless there are members, of one spec and one latent space."""
    if not members:
        raise ValueError("an ensemble has at least one member; none is given")
    first = members[0]
    for index, member in enumerate(members[1:], 1):
        pairs = ((item.name, getattr(first.spec, item.name), getattr(member.spec, item.name)) for item in _SPEC)
        for name, wanted, found in pairs:
            if wanted != found:
                raise ValueError(f"members 0 and {index} differ in {name}, {wanted} and {found}; they must be the same")
    probe = {name: _drawn(item) for name, item in first.spec.observations.items()}
    latents = [member.encode(probe).detach().cpu() for member in members]
    for index, other in enumerate(latents[1:], 1):
        if not torch.allclose(other, latents[0], rtol=_SAME, atol=_SAME, equal_nan=True):
            raise ValueError(
                f"members 0 and {index} give other latents for the same observation, so their predictions cannot be "
                "compared; train the members on one encoder"
            )


def _drawn(item: ObservationSpec) -> Tensor:
    """Return one observation (1, 1, ...) within its limits, at most 1 from 0 where there are none; always the same."""
    low = -1.0 if item.low == -math.inf else item.low
    high = 1.0 if item.high == math.inf else item.high
    unit = torch.rand((1, 1, *item.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (low + (high - low) * unit).to(getattr(torch, item.dtype))


def _scale(members: Sequence[WorldModel]) -> Tensor:
    """Return the units of disagreement (D,)."""
    known = [member.features.change_std[-1].detach() for member in members if isinstance(member, SequenceDynamics)]
    return torch.stack(known).mean(dim=0) if known else torch.ones(members[0].spec.latent_size)


def _checked(scale: Tensor, spec: ModelSpec) -> Tensor:
    """Return a copy of a scale that fits."""
    if scale.shape != (spec.latent_size,) or not scale.isfinite().all() or not (scale > 0).all():
        raise ValueError(f"scale has shape {tuple(scale.shape)}; expected {spec.latent_size} finite numbers above 0")
    return scale.detach().clone()


def _common(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries that all documents have alike."""
    first, *others = documents
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
