"""Finding the tensors in what a decision is about, and putting others in their place."""

import copy
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Weights", "rebuilt", "signature", "switches", "tensors_in"]

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors of a value in a fixed order.

    Opened are lists, tuples, mappings, dataclasses, and objectives: any object with `cost` and `select`. Modules and
    objects without a `__dict__` are not. What is not opened counts as one constant.
    """
    if isinstance(value, Tensor):
        return [value]
    return [tensor for _, part in _parts(value) for tensor in tensors_in(part)]


def rebuilt(value: Any, tensors: Iterator[Tensor]) -> Any:
    """Return a copy of a value with the next tensors in place of its own, in the order of `tensors_in`."""
    if isinstance(value, Tensor):
        return next(tensors)
    parts = [(name, rebuilt(part, tensors)) for name, part in _parts(value)]
    if not parts:
        return value
    if isinstance(value, Mapping):
        return dict(parts)
    if isinstance(value, (list, tuple)):
        items = [part for _, part in parts]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    twin = copy.copy(value)
    vars(twin).update(parts)
    return twin


def signature(value: Any) -> Hashable:
    """Return what must be equal for two values to differ in nothing but the numbers in their tensors.

    Numbers and texts are compared by value, everything that is not opened by identity (and kept alive). Of a function,
    what it closes over counts too, of a method, the attributes of its object. What neither shows, e.g. a global name
    or the inside of another object, is taken to stay as it is.
    """
    if isinstance(value, Tensor):
        return (Tensor, tuple(value.shape), value.dtype, value.device)
    if isinstance(value, _PLAIN):
        return (type(value), value)
    parts = _parts(value)
    if parts or isinstance(value, (list, tuple, Mapping)):
        return (type(value), tuple((name, signature(part)) for name, part in parts))
    return _held(value)


def switches(owner: Any) -> Hashable:
    """Return the attributes of an object that are numbers, texts or types, by value.

    Private numbers are left out: they are counters as often as not.
    """
    found = []
    for name, value in getattr(owner, "__dict__", {}).items():
        if isinstance(value, (bool, str, torch.dtype) if name.startswith("_") else _PLAIN):
            found.append((name, type(value), value))
    return tuple(found)


class Weights:
    """Tells whether the parameters and buffers of a model have changed."""

    def __init__(self, model: Any) -> None:
        """Watch a module, or the modules among the attributes of another object."""
        found = [model] if isinstance(model, nn.Module) else _modules(getattr(model, "__dict__", {}).values())
        self._modules = list(found)

    def version(self) -> Hashable:
        """Return something that differs after a change in place, and after tensors were moved."""
        tensors = [tensor for module in self._modules for tensor in (*module.parameters(), *module.buffers())]
        changes = sum(0 if tensor.is_inference() else tensor._version for tensor in tensors)
        return changes, tuple([tensor.data_ptr() for tensor in tensors])


class _Same:
    """Equal to another of the same object alone, which it keeps alive."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _held(value: Any, depth: int = 3) -> Hashable:
    """Return what must be equal for a constant to be the same, and, if it is called, to give the same."""
    if isinstance(value, _PLAIN):
        return (type(value), value)
    if not depth or not callable(value) or isinstance(value, (nn.Module, type)):
        return _Same(value)
    owner, inside = value, list(getattr(value, "__dict__", {}).values())
    if isinstance(value, MethodType):
        owner, inside = value.__self__, [value.__func__, *getattr(value.__self__, "__dict__", {}).values()]
    elif isinstance(value, partial):
        owner, inside = value.func, [value.func, *value.args, *value.keywords.values()]
    else:
        inside += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
        inside += getattr(value, "__defaults__", None) or ()
    return _Same(owner), tuple([_held(each, depth - 1) for each in inside])


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """Return the named parts of a value that is opened; none of one that is not."""
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, Mapping):
        return list(value.items())
    opened = is_dataclass(value) or (hasattr(value, "cost") and hasattr(value, "select"))
    if not opened or isinstance(value, (nn.Module, type)):
        return []
    return list(getattr(value, "__dict__", {}).items())


def _modules(values: Any) -> list[nn.Module]:
    """Return the modules among values, and among the items of those that are lists or tuples."""
    found = []
    for value in values:
        items = value if isinstance(value, (list, tuple)) else [value]
        found += [item for item in items if isinstance(item, nn.Module)]
    return found
