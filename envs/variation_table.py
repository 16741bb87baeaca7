"""What tables of named variations have in common: their rows, and how values are checked, drawn and merged.

A table is a mapping of names to rows, `VariationSpec`. A resolved variation is a frozen dataclass with one field for
each name, with `_` for `.`, and a method `named` that returns all names with their values.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

__all__ = ["Table", "VariationSpec", "check_names", "draw", "merge", "named_values", "resolve"]


@dataclass(frozen=True)
class VariationSpec:
    """One row of a table.

    Attributes:
        kind: "color" (three whole numbers 0 to 255), "number", "choice" or "bool".
        default: its value where nothing is said.
        text: what it changes.
        low: smallest number allowed.
        high: largest number allowed.
        choices: allowed values of a "choice".
        log: whether a number is drawn uniformly in its logarithm.
    """

    kind: str
    default: Any
    text: str
    low: float = 0.0
    high: float = 255.0
    choices: tuple[str, ...] = ()
    log: bool = False


Table = Mapping[str, VariationSpec]


class _Named(Protocol):
    def named(self) -> dict[str, Any]: ...


V = TypeVar("V", bound=_Named)


def check_names(table: Table, names: Iterable[Any], environment: str) -> None:
    """Refuse unknown names with a ValueError that lists the known ones."""
    unknown = sorted(set(map(str, names)) - set(table))
    if unknown:
        raise ValueError(f"unknown {environment} variation {', '.join(map(repr, unknown))}; known: {', '.join(table)}")


def resolve(table: Table, named: Mapping[str, Any] | None, environment: str) -> dict[str, Any]:
    """Return names -> values as fields of the resolved variation -> checked values.

    Raises:
        ValueError: no mapping, an unknown name (the message lists the known ones) or a value outside its range.
    """
    if not isinstance(named, Mapping | None):
        raise ValueError(f"variation: expected a mapping of names to values, got {named!r}; known: {', '.join(table)}")
    named = dict(named or {})
    check_names(table, named, environment)
    return {name.replace(".", "_"): _checked(name, table[name], value) for name, value in named.items()}


def named_values(table: Table, variation: Any) -> dict[str, Any]:
    """Return all values of a resolved variation by the names of the table."""
    return {name: getattr(variation, name.replace(".", "_")) for name in table}


def merge(
    present: V,
    change: Mapping[str, Any] | V | None,
    first: V,
    make: Callable[[Any], V],
    fixed: Sequence[str],
) -> V:
    """Return what a scene becomes by a change in the middle of an episode.

    Args:
        present: as the scene is.
        change: names -> values to change, or all of them; None goes back to `first`.
        first: as the scene was after its reset.
        make: resolves names -> values, and takes what is resolved.
        fixed: names that only a reset can change.

    Raises:
        ValueError: no mapping, an unknown name, a value outside its range, or another value of what is fixed.
    """
    if change is None:
        return first
    before = present.named()
    merged = make(before | dict(change) if isinstance(change, Mapping) else change)
    after = merged.named()
    changed = [name for name in fixed if before[name] != after[name]]
    if changed:
        raise ValueError(f"{', '.join(changed)} cannot change in the middle of an episode; pass it at reset instead")
    return merged


def draw(spec: VariationSpec, rng: np.random.Generator) -> Any:
    """Draw a value, uniform over its range or choices, or log-uniform where the row says so."""
    if spec.kind == "color":
        return tuple(int(value) for value in rng.integers(0, 256, 3))
    if spec.kind == "number" and spec.log:
        return float(np.exp(rng.uniform(np.log(spec.low), np.log(spec.high))))
    if spec.kind == "number":
        return float(rng.uniform(spec.low, spec.high))
    return str(rng.choice(spec.choices)) if spec.kind == "choice" else bool(rng.integers(2))


def _checked(name: str, spec: VariationSpec, value: Any) -> Any:
    if value is None and spec.default is None:
        return None
    if spec.kind == "choice":
        if value not in spec.choices:
            raise ValueError(f"{name}: expected one of {', '.join(spec.choices)}, got {value!r}")
        return value
    if spec.kind == "bool":
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}: expected True or False, got {value!r}")
        return bool(value)
    found, color = np.asarray(value), spec.kind == "color"
    low, high = (0.0, 255.0) if color else (spec.low, spec.high)
    numeric = found.shape == ((3,) if color else ()) and found.dtype.kind in "iuf"
    if not numeric or not ((found >= low) & (found <= high)).all():
        kind = "three numbers" if color else "a number"
        raise ValueError(f"{name}: expected {kind} from {low:g} to {high:g}, got {value!r}")
    return tuple(int(v) for v in found) if color else float(found)
