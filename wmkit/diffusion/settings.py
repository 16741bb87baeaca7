"""What process a network was trained to undo, and how it is sampled."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

__all__ = ["DDPM_SAMPLERS", "FLOW_SAMPLERS", "DiffusionConfig", "Sampling"]

DDPM_SAMPLERS = ("ddpm", "ddim", "dpm-solver++")
FLOW_SAMPLERS = ("flow-euler", "flow-heun")


@dataclass(frozen=True)
class DiffusionConfig:
    """What a network was trained to undo; it is saved with the network.

    Attributes:
        kind: "ddpm" or "flow".
        train_steps: N, levels of the table; also the most steps of a sampler.
        beta_schedule: "squaredcos_cap_v2", "linear" or "scaled_linear", the table of "ddpm".
        prediction: what the network's output stands for with "ddpm": "sample", the clean sequence; "epsilon", the
            noise; "v_prediction", alpha * noise - sigma * clean. With "flow" it always is noise - clean.

    Raises:
        ValueError: a value is none of these.
    """

    kind: Literal["ddpm", "flow"] = "ddpm"
    train_steps: int = 1000
    beta_schedule: str = "squaredcos_cap_v2"
    prediction: Literal["sample", "epsilon", "v_prediction"] = "v_prediction"

    def __post_init__(self) -> None:
        _choose("kind of diffusion", self.kind, ("ddpm", "flow"))
        _choose("beta schedule", self.beta_schedule, ("squaredcos_cap_v2", "linear", "scaled_linear"))
        _choose("prediction", self.prediction, ("sample", "epsilon", "v_prediction"))
        if self.train_steps < 1:
            raise ValueError(f"train_steps {self.train_steps} must be at least 1")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the configuration from plain JSON values; "ema_decay", which older ones have, is ignored."""
        return _from_dict(cls, {name: value for name, value in values.items() if name != "ema_decay"})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Sampling:
    """How sequences are sampled; chosen after training.

    Attributes:
        sampler: "ddpm", "ddim" (Song et al., 2020, arXiv 2010.02502), "dpm-solver++" (Lu et al., 2022, arXiv
            2211.01095, second order), "flow-euler", or "flow-heun", which calls the network almost twice a step.
        steps: of the sampler.
        spacing: which levels of the table the first three visit: "trailing" begins at the noisiest, "leading" almost a
            stride below it (Lin et al., 2023, arXiv 2305.08891). The others take even steps in the level of a flow.
        eta: share of fresh noise in "ddim", 0 for none, 1 for as much as "ddpm" adds.
    """

    sampler: str = "ddim"
    steps: int = 10
    spacing: str = "trailing"
    eta: float = 0.0

    def check(self, config: DiffusionConfig) -> None:
        """Refuse what a network trained so cannot do.

        Raises:
            ValueError: the sampler or spacing is unknown, it is none for this kind of diffusion, or there are more
                steps than the schedule has.
        """
        _choose("sampler", self.sampler, DDPM_SAMPLERS + FLOW_SAMPLERS)
        _choose("spacing", self.spacing, ("trailing", "leading"))
        if config.kind == "flow" and self.sampler not in FLOW_SAMPLERS:
            known = " or ".join(FLOW_SAMPLERS)
            raise ValueError(f"a network trained by flow matching cannot be sampled by {self.sampler}; take {known}")
        if not 1 <= self.steps <= config.train_steps:
            raise ValueError(f"{self.steps} sampling steps; take 1 to {config.train_steps}: the schedule has no more")
        if not 0 <= self.eta <= 1 or (self.eta and self.sampler != "ddim"):
            raise ValueError(f"eta {self.eta} with {self.sampler}: eta is of ddim alone, and in [0, 1]")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the sampling from plain JSON values."""
        return _from_dict(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def _from_dict(cls: Any, values: dict[str, Any]) -> Any:
    unknown = sorted(set(values) - {field.name for field in fields(cls)})
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(unknown)}; it has {', '.join(f.name for f in fields(cls))}")
    return cls(**values)


def _choose(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")
