"""The configuration of dynamics over sequences, as plain JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig, Sampling
from wmkit.errors import UserError

__all__ = ["SequenceConfig"]

_NETWORK = {"width": 96, "depth": 3, "heads": 4, "mlp_size": 256, "patch": 1, "dropout": 0.0, "causal": False}


@dataclass(frozen=True)
class SequenceConfig:
    """What a dynamics over sequences is made of; `to_dict` and `from_dict` round-trip.

    Attributes:
        features: how latents and actions are seen; the history T and the horizon F.
        action_low: (action_size,), lower bounds of one environment action, environment units.
        action_high: (action_size,), upper bounds of one environment action, environment units.
        action_repeat: environment steps per model step.
        seconds_per_step: seconds of one model step.
        state_key: observation key of the state where there is no encoder.
        network: width, depth, heads, mlp_size, patch, dropout and causal; what is left out is as in `network_options`.
        diffusion: the diffusion process; None for models that have none.
        sampling: how to sample after training; None takes ten steps of a sampler that fits `diffusion`.
        task: name of the task that the data is of, "" for none.
    """

    features: FeatureConfig
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    action_repeat: int
    seconds_per_step: float
    state_key: str = "state"
    network: Mapping[str, Any] = field(default_factory=dict)
    diffusion: DiffusionConfig | None = None
    sampling: Sampling | None = None
    task: str = ""

    def __post_init__(self) -> None:
        for name in ("action_low", "action_high"):
            object.__setattr__(self, name, tuple(float(number) for number in getattr(self, name)))
        unknown = sorted(set(self.network) - set(_NETWORK))
        if unknown:
            raise UserError(f"unknown network option {', '.join(unknown)}; known: {', '.join(_NETWORK)}")
        if len(self.action_low) * self.action_repeat != self.features.block_size:
            given = f"{len(self.action_low)} numbers repeated {self.action_repeat} times"
            raise ValueError(f"actions of {given} do not make blocks of {self.features.block_size}")
        if self.features.goal:
            raise ValueError("a dynamics has no goal; set features.goal to False")

    @property
    def network_options(self) -> dict[str, Any]:
        """All options of the network, the defaults filled in."""
        return _NETWORK | dict(self.network)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values by field name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        parts = {name: part and part.to_dict() for name, part in values.items() if hasattr(part, "to_dict")}
        lists = {name: list(values[name]) for name in ("action_low", "action_high")}
        return values | parts | lists | {"network": dict(self.network)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SequenceConfig":
        """Return the configuration from `to_dict`'s result.

        Raises:
            TypeError: a field is unknown or missing.
            ValueError: a value is out of range.
        """
        parts: dict[str, Any] = {"features": FeatureConfig.from_dict(values["features"])}
        for name, kind in (("diffusion", DiffusionConfig), ("sampling", Sampling)):
            parts[name] = None if values.get(name) is None else kind.from_dict(values[name])
        return cls(**(dict(values) | parts))
