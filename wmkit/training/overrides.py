"""Settings given as text, "name=value", put into a dataclass by its fields' types."""

import dataclasses
import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import UserError

__all__ = ["apply_overrides", "parse_assignments"]

_Settings = TypeVar("_Settings")
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_assignments(words: Sequence[str]) -> dict[str, str]:
    """Return the pairs of words "name=value".

    Raises:
        UserError: a word is not of that form, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UserError(f"{word!r} must read name=value")
        if name in pairs:
            raise UserError(f"{name!r} is given twice")
        pairs[name] = value
    return pairs


def apply_overrides(settings: _Settings, overrides: Mapping[str, Any]) -> _Settings:
    """Return a copy of a dataclass with some fields replaced.

    Args:
        settings: an instance of a dataclass; fields may be dataclasses themselves.
        overrides: value by field name, "outer.inner" for a field of a field. Text is read by the field's type: bool,
            int, float, str, Literal, an optional one of them ("none"), or a tuple of them (commas between); other
            values are taken as they are.

    Raises:
        UserError: a name is unknown (the text lists the known ones), or a value does not fit its type.
    """
    for name, value in overrides.items():
        settings = _replaced(settings, name, name.split("."), value)
    return settings


def _replaced(settings: Any, name: str, path: Sequence[str], value: Any) -> Any:
    """Return `settings` with the field at `path` replaced."""
    hints = _field_types(type(settings)) if dataclasses.is_dataclass(settings) else {}
    known = list(hints)
    if path[0] not in known:
        near = difflib.get_close_matches(path[0], known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"unknown setting {name!r}{hint}; known: {', '.join(sorted(known)) or 'none'}")
    if len(path) > 1:
        value = _replaced(getattr(settings, path[0]), name, path[1:], value)
    elif isinstance(value, str):
        value = _read(value, hints[path[0]], name)
    changed: Any = dataclasses.replace  # its stub does not know that `settings` is an instance
    try:
        return changed(settings, **{path[0]: value})
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"setting {name!r} cannot be {value!r}: {error}") from error


def _field_types(kind: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    hints = get_type_hints(kind)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(kind)}


def _read(text: str, kind: Any, name: str) -> Any:
    """Read `text` as a value of type `kind`."""
    try:
        return _convert(text, kind)
    except (ValueError, KeyError):
        wanted = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
        raise UserError(f"setting {name!r} is {text!r}; give {wanted}") from None


def _convert(text: str, kind: Any) -> Any:
    """Read `text` as a value of type `kind`; ValueError or KeyError where it does not fit."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in inner and text.lower() == "none":
            return None
        return _first(text, [each for each in inner if each is not type(None)])
    if origin is Literal:
        return {str(choice): choice for choice in inner}[text]
    if origin is tuple:
        words = [word.strip() for word in text.strip("()[] ").split(",") if word.strip()]
        kinds = [inner[0]] * len(words) if inner[-1] is Ellipsis else inner
        return tuple(_convert(word, each) for word, each in zip(words, kinds, strict=True))
    if kind is bool:
        return _BOOLS[text.lower()]
    if kind in (int, float, str):
        return kind(text)
    raise ValueError(f"settings of type {kind} cannot be given as text")


def _first(text: str, kinds: Sequence[Any]) -> Any:
    """Read `text` as the first of `kinds` that it fits."""
    for kind in kinds:
        try:
            return _convert(text, kind)
        except (ValueError, KeyError):
            continue
    raise ValueError(text)
