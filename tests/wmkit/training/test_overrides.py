"""Settings given as text."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from wmkit.errors import UserError
from wmkit.training.overrides import apply_overrides, parse_assignments


@dataclass(frozen=True)
class Inner:
    depth: int = 2


@dataclass(frozen=True)
class Settings:
    """One field of each kind."""

    steps: int = 5
    rate: float = 0.1
    name: str = "a"
    flip: bool = False
    head: Literal["mlp", "none"] = "mlp"
    limit: float | None = 1.0
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (1, "x")
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError("steps must be 1 or more")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "7", 7),
        ("rate", "1e-3", 1e-3),
        ("rate", "2", 2.0),
        ("name", "x=y", "x=y"),
        ("flip", "true", True),
        ("flip", "No", False),
        ("head", "none", "none"),
        ("limit", "none", None),
        ("limit", "2.5", 2.5),
        ("sizes", "4, 5,6", (4, 5, 6)),
        ("sizes", "", ()),
        ("pair", "3,y", (3, "y")),
        ("inner.depth", "9", Inner(9)),
    ],
)
def test_text_becomes_the_type_of_its_field(name, text, value):
    changed = apply_overrides(Settings(), parse_assignments([f"{name}={text}"]))
    found = getattr(changed, name.partition(".")[0])
    assert found == value
    assert type(found) is type(value)
    assert changed != Settings() or value is False


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("steps", "1.5"),
        ("steps", ""),
        ("rate", "fast"),
        ("flip", "2"),
        ("head", "cnn"),
        ("sizes", "1,x"),
        ("pair", "1"),
    ],
)
def test_text_that_does_not_fit_is_refused_by_name(name, text):
    with pytest.raises(UserError, match=f"setting '{name}' is '{text}'; give"):
        apply_overrides(Settings(), {name: text})


def test_unknown_names_are_answered_with_the_list():
    with pytest.raises(UserError, match=r"'step' \(did you mean 'steps'\?\); known: flip, head, inner, limit"):
        apply_overrides(Settings(), {"step": "1"})
    with pytest.raises(UserError, match=r"'inner\.width'.*; known: depth"):
        apply_overrides(Settings(), {"inner.width": "1"})
    with pytest.raises(UserError, match=r"'steps\.x'; known: none"):
        apply_overrides(Settings(), {"steps.x": "1"})


def test_what_the_settings_refuse_is_a_user_error():
    with pytest.raises(UserError, match="'steps' cannot be 0: steps must be 1 or more"):
        apply_overrides(Settings(), {"steps": "0"})


@pytest.mark.parametrize("word", ["steps", "=3"])
def test_words_must_be_pairs(word):
    with pytest.raises(UserError, match="must read name=value"):
        parse_assignments([word])


def test_a_name_given_twice_is_refused():
    with pytest.raises(UserError, match="'a' is given twice"):
        parse_assignments(["a=1", "a=2"])
