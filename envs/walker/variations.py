"""Named changes of the walker: what a reset or `set_variation` can make worse, and by how much.

Each has a strength in [0, 1]; 0 is dm-control's walker. Give a name alone for the strength 0.5, or a mapping:

    env.reset(options={"variation": "weak_ankle"})
    env.unwrapped.set_variation({"heavy_torso": 1.0, "slippery": 0.5})

`VARIATIONS` is the one table of names.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .kinematics import JOINTS

__all__ = ["DEFAULT_STRENGTH", "VARIATIONS", "Variation", "VariationSpec", "make_variation"]

DEFAULT_STRENGTH = 0.5
"""Strength of a variation that is given by its name alone."""


@dataclass(frozen=True)
class VariationSpec:
    """One row of the table.

    Attributes:
        default: value of dm-control's walker.
        high: largest value allowed; the smallest is 0.
        text: what it changes.
    """

    default: float
    high: float
    text: str


VARIATIONS: dict[str, VariationSpec] = {
    "weak_ankle": VariationSpec(0.0, 1.0, "the right ankle's largest torque is (1 - strength) times its 20 N m"),
    "heavy_torso": VariationSpec(0.0, 1.0, "the torso's mass and inertia are (1 + strength) times as large"),
    "slippery": VariationSpec(0.0, 1.0, "the floor's friction is (1 - 0.95 strength) times 0.7"),
    "broken_sensor": VariationSpec(
        0.0, 1.0, "one joint's position and speed are observed as strength times a stuck value plus the rest true"
    ),
    "broken_sensor.joint": VariationSpec(4.0, 8.0, "which joint: its name or its index in the state"),
    "broken_sensor.zero": VariationSpec(0.0, 1.0, "0: stuck at the value of the instant it broke; 1: stuck at zero"),
}


@dataclass(frozen=True)
class Variation:
    """Resolved variations: one field for each name in `VARIATIONS`, with `_` for `.`."""

    weak_ankle: float = 0.0
    heavy_torso: float = 0.0
    slippery: float = 0.0
    broken_sensor: float = 0.0
    broken_sensor_joint: int = 4
    broken_sensor_zero: bool = False

    @property
    def dynamics(self) -> "Variation":
        """The same without what changes observations alone."""
        return Variation(self.weak_ankle, self.heavy_torso, self.slippery)

    def named(self) -> dict[str, float]:
        """Return all values by the names of `VARIATIONS`."""
        values = asdict(self)
        return {name: float(values[name.replace(".", "_")]) for name in VARIATIONS}


def make_variation(named: "str | Mapping[str, Any] | Variation | None" = None) -> Variation:
    """Resolve named variations over the defaults.

    Args:
        named: name -> value; or one name, which then has the strength `DEFAULT_STRENGTH`; or None for none.

    Raises:
        ValueError: an unknown name (the message lists the known ones) or a value outside its range.
    """
    if isinstance(named, Variation):
        return named
    if isinstance(named, str):
        named = {named: DEFAULT_STRENGTH}
    if not isinstance(named, Mapping | None):
        raise ValueError(f"variation is {named!r}; give a name or a mapping of names to strengths, e.g. 'weak_ankle'")
    named = dict(named or {})
    unknown = sorted(set(map(str, named)) - set(VARIATIONS))
    if unknown:
        raise ValueError(f"unknown walker variation {', '.join(map(repr, unknown))}; known: {', '.join(VARIATIONS)}")
    values = {name: _checked(name, value) for name, value in named.items()}
    joint = int(values.pop("broken_sensor.joint", VARIATIONS["broken_sensor.joint"].default))
    zero = bool(values.pop("broken_sensor.zero", 0.0))
    return Variation(**values, broken_sensor_joint=joint, broken_sensor_zero=zero)


def _checked(name: str, value: Any) -> float:
    """Return a value as a number within its range."""
    high, whole = VARIATIONS[name].high, "." in name
    if name == "broken_sensor.joint" and value in JOINTS:
        return float(JOINTS.index(value))
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= high or (whole and number != int(number)):
        kind = f"a whole number from 0 to {high:g}" if whole else f"a strength from 0 to {high:g}"
        names = f", or one of {', '.join(JOINTS)}" if name == "broken_sensor.joint" else ""
        raise ValueError(f"walker variation {name!r} is {value!r}; give {kind}{names}")
    return number
