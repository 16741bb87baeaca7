"""Checkpoints: one safetensors file each, written aside and renamed, so that the file is always a whole one.

The tensors are weights, buffers, optimiser state and values not yet logged; the rest is JSON in the file's header.
Nothing is pickled: reading a checkpoint runs no code from it.
"""

import json
import os
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import UserError

__all__ = [
    "Checkpoint",
    "copy_tensors",
    "load_checkpoint",
    "module_tensors",
    "pack_optimizers",
    "save_checkpoint",
    "unpack_optimizers",
    "write_aside",
]

_KEY = "wmkit"
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: by name, on the CPU.
        state: plain JSON values.
    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def write_aside(path: Path, data: bytes) -> None:
    """Write `data` into a file beside `path`, flush it to the disk and rename it to `path`.

    Raises:
        UserError: the disk is full or refuses; what stood at `path` before is intact.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        reason = error.strerror or error
        raise UserError(
            f"cannot write {path}: {reason}; what it held before is kept, so make room and resume"
        ) from error


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file.
        tensors: by name, on any device.
        state: plain JSON values.

    Raises:
        UserError: the disk is full or refuses; an earlier checkpoint at `path` is intact.
    """
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    header = {_KEY: json.dumps({"format": _FORMAT, "state": state})}
    write_aside(path, safetensors.torch.save(plain, metadata=header))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UserError: the file is damaged, not a checkpoint, or of a version that this wmkit does not know.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"checkpoint {path} cannot be read ({error}); delete it to start this run anew") from error
    if header is None:
        raise UserError(f"{path} is not a checkpoint of wmkit's training; delete it or choose another folder")
    content = json.loads(header)
    if content["format"] != _FORMAT:
        raise UserError(f"checkpoint {path} has format {content['format']}, this wmkit reads {_FORMAT}")
    return Checkpoint(tensors, content["state"])


def module_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the weights and persistent buffers of `modules` as "name/key", each tensor once though modules share it.

    Raises:
        ValueError: a module keeps extra state that is not a tensor.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for prefix, module in modules.items():
        for key, tensor in module.state_dict(keep_vars=True).items():
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{prefix}/{key} is {type(tensor).__name__}, not a tensor; make it a buffer")
            if id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{prefix}/{key}"] = tensor
    return found


@torch.no_grad()
def copy_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Copy values from `source` into the tensors of `target`, in place.

    Args:
        source: by name; names that `target` lacks are left out.
        target: by name.
        strict: refuse names that `source` lacks and shapes that differ; False leaves those tensors as they are.

    Raises:
        UserError: the checkpoint does not fit the model (`strict` only).
    """
    for name, tensor in target.items():
        saved = source.get(name)
        if saved is not None and saved.shape == tensor.shape:
            tensor.copy_(saved)
        elif strict:
            shape = "nothing" if saved is None else f"shape {tuple(saved.shape)}"
            raise UserError(f"the checkpoint holds {shape} for {name}, the model has {tuple(tensor.shape)}")


def pack_optimizers(optimizers: Sequence[torch.optim.Optimizer]) -> tuple[dict[str, Tensor], list[Any]]:
    """Return the optimisers' state as flat tensors "optimizer/<i>/<parameter>/<key>" and a JSON index."""
    tensors: dict[str, Tensor] = {}
    index = []
    for i, optimizer in enumerate(optimizers):
        states = [
            _pack(optimizer.state[parameter], parameter, f"optimizer/{i}/{j}", tensors)
            if parameter in optimizer.state
            else None
            for j, parameter in enumerate(_parameters(optimizer))
        ]
        groups = [{k: v for k, v in group.items() if _is_number(v)} for group in optimizer.param_groups]
        index.append({"states": states, "groups": groups})
    return tensors, index


def unpack_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor], index: Sequence[Any]
) -> None:
    """Put back what `pack_optimizers` returned.

    Raises:
        UserError: the number of optimisers or of their parameters differs.
    """
    if len(index) != len(optimizers):
        raise UserError(f"the checkpoint holds {len(index)} optimisers, this stage has {len(optimizers)}")
    for i, (optimizer, saved) in enumerate(zip(optimizers, index, strict=True)):
        parameters = _parameters(optimizer)
        if len(saved["states"]) != len(parameters):
            raise UserError(f"optimiser {i} has {len(parameters)} parameters, {len(saved['states'])} in the checkpoint")
        for parameter, packed in zip(parameters, saved["states"], strict=True):
            if packed is not None:
                optimizer.state[parameter] = _unpack(packed, parameter, tensors)
        for group, numbers in zip(optimizer.param_groups, saved["groups"], strict=True):
            group.update(numbers)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the optimiser's parameters in the order of its groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _is_number(value: object) -> bool:
    """Return whether a value of a parameter group is a plain number, which optimisers may change as they go."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pack(value: Any, parameter: Tensor, key: str, tensors: MutableMapping[str, Tensor]) -> Any:
    """Move the tensors of a tree of dicts, lists and plain values into `tensors`; return the tree as JSON."""
    if isinstance(value, Tensor):
        tensors[key] = value
        return {"tensor": key, "beside": value.device == parameter.device, "stride": list(value.stride())}
    if isinstance(value, Mapping):
        return {"dict": [[name, _pack(entry, parameter, f"{key}/{name}", tensors)] for name, entry in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(entry, parameter, f"{key}/{i}", tensors) for i, entry in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise ValueError(f"optimiser state {key} is {type(value).__name__}; keep tensors, numbers, text, lists and dicts")


def _unpack(packed: Mapping[str, Any], parameter: Tensor, tensors: Mapping[str, Tensor]) -> Any:
    """Rebuild what `_pack` took apart, each tensor on its device and in its memory layout: results depend on both."""
    if "tensor" in packed:
        saved = tensors[packed["tensor"]]
        device = parameter.device if packed["beside"] else torch.device("cpu")
        if 0 in packed["stride"]:
            return saved.to(device, copy=True)
        return torch.empty_strided(saved.shape, packed["stride"], dtype=saved.dtype, device=device).copy_(saved)
    if "dict" in packed:
        return {name: _unpack(entry, parameter, tensors) for name, entry in packed["dict"]}
    if "list" in packed:
        return [_unpack(entry, parameter, tensors) for entry in packed["list"]]
    return packed["value"]
