"""The configuration of a LeWM: everything that is needed to build the network, as plain JSON."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wmkit.contracts import ModelSpec, ObservationSpec
from wmkit.errors import UserError

__all__ = ["IMAGENET_BACKGROUND", "IMAGENET_SCALE", "LeWMConfig"]

IMAGENET_BACKGROUND = (123.675, 116.28, 103.53)
"""Mean RGB of ImageNet, 0 to 255: the `background` of the paper's model."""
IMAGENET_SCALE = (58.395, 57.12, 57.375)
"""Standard deviation of ImageNet's RGB, 0 to 255: the `pixel_scale` of the paper's model."""


@dataclass(frozen=True)
class LeWMConfig:
    """What a LeWM is made of; `to_json` and `from_json` round-trip.

    Attributes:
        image_size: S, side of the square RGB images, pixels.
        latent_size: D.
        action_repeat: environment steps per model step.
        action_low: (action_size,), lower bounds of one environment action, environment units.
        action_high: (action_size,), upper bounds of one environment action, environment units.
        seconds_per_step: seconds of one model step.
        history: T, the most latents that the predictor looks back on.
        encoder: "vit", "conv" or "glimpse".
        encoder_options: keyword arguments of the encoder's class.
        predictor: "transformer", "mlp" or "gru".
        predictor_options: keyword arguments of the predictor's class.
        projector: keyword arguments of the BatchNorm projectors after encoder and predictor, {"hidden_size": 2048} in
            the paper; None for none.
        inverse: keyword arguments of the inverse-dynamics head; None for none.
        pixel_key: observation key of the images.
        background: RGB in 0 to 255 that is mapped to 0.
        pixel_scale: RGB in 0 to 255 by which the difference to `background` is divided.
    """

    image_size: int
    latent_size: int
    action_repeat: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    seconds_per_step: float
    history: int = 3
    encoder: str = "conv"
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    predictor: str = "mlp"
    predictor_options: Mapping[str, Any] = field(default_factory=dict)
    projector: Mapping[str, Any] | None = None
    inverse: Mapping[str, Any] | None = None
    pixel_key: str = "pixels"
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pixel_scale: tuple[float, float, float] = (255.0, 255.0, 255.0)

    def __post_init__(self) -> None:
        for name in ("action_low", "action_high", "background", "pixel_scale"):
            object.__setattr__(self, name, tuple(float(number) for number in getattr(self, name)))
        for name in ("image_size", "latent_size", "action_repeat", "history"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"LeWMConfig.{name} is {value!r}; give a whole number above 0")
        if not self.seconds_per_step > 0:
            raise ValueError(f"LeWMConfig.seconds_per_step is {self.seconds_per_step!r}; give seconds above 0")
        if len(self.action_low) != len(self.action_high) or not self.action_low:
            raise ValueError(
                f"LeWMConfig.action_low has {len(self.action_low)} numbers and action_high {len(self.action_high)}; "
                "give one each for every number of an environment action"
            )
        if not all(low < high for low, high in zip(self.action_low, self.action_high, strict=True)):
            raise ValueError(f"LeWMConfig.action_low {self.action_low} is not below action_high {self.action_high}")
        if len(self.background) != 3 or len(self.pixel_scale) != 3 or not all(n > 0 for n in self.pixel_scale):
            raise ValueError(
                "LeWMConfig.background and pixel_scale take three numbers each, those of pixel_scale above 0"
            )

    @property
    def block_size(self) -> int:
        """A, numbers of the actions of one model step."""
        return len(self.action_low) * self.action_repeat

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        pixels = ObservationSpec((self.image_size, self.image_size, 3), "uint8", 0, 255)
        return ModelSpec(
            observations={self.pixel_key: pixels},
            action_low=self.action_low,
            action_high=self.action_high,
            action_repeat=self.action_repeat,
            history=self.history,
            latent_size=self.latent_size,
            seconds_per_step=self.seconds_per_step,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values by field name."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_json(self) -> str:
        """Return the configuration as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LeWMConfig":
        """Build a configuration from `to_dict`'s result.

        Raises:
            UserError: a field is unknown or missing; the text lists the known ones.
            ValueError: a value is out of range.
        """
        fields = {item.name: item for item in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise UserError(f"unknown LeWM option {', '.join(unknown)}; known: {', '.join(fields)}")
        required = (
            name for name, item in fields.items() if item.default is item.default_factory is dataclasses.MISSING
        )
        missing = [name for name in required if name not in values]
        if missing:
            raise UserError(f"LeWM configuration lacks {', '.join(missing)}; known: {', '.join(fields)}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> "LeWMConfig":
        """Build a configuration from `to_json`'s text; raises as `from_dict` does."""
        return cls.from_dict(json.loads(text))
