"""The files of a published LeWM checkpoint: found, and read without running anything that they hold."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wmkit.errors import UserError

__all__ = ["locate", "read_document", "read_tensors", "sha256"]

_CONFIG = "config.json"
_SAFE = ("weights.safetensors", "model.safetensors")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_REFUSED = re.compile(r"GLOBAL (\S+)")
"""How PyTorch's restricted unpickler names what it did not import."""


def locate(name: str | os.PathLike[str]) -> Path:
    """Return the file of weights of a checkpoint, beside which `config.json` is.

    Args:
        name: a folder with one file of weights; that file; or "owner/name" on the Hugging Face hub.

    Raises:
        UserError: there is none, or there are several.
    """
    path = Path(name)
    if isinstance(name, str) and not path.exists() and _HUB_ID.fullmatch(name):
        path = _download(name)
    if path.is_file():
        weights = path
    elif path.is_dir():
        weights = _weights_in(path)
    else:
        raise UserError(
            f"no LeWM checkpoint {path}; give a folder, its .pt file, or owner/name on the Hugging Face hub"
        )
    if not (weights.parent / _CONFIG).is_file():
        raise UserError(f"{weights.parent} is no LeWM checkpoint: {_CONFIG} is missing beside {weights.name}")
    return weights


def _weights_in(folder: Path) -> Path:
    """Return the one file of weights in a folder, safetensors before .pt."""
    for found in ([folder / name for name in _SAFE if (folder / name).is_file()], sorted(folder.glob("*.pt"))):
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:5])
            raise UserError(
                f"{folder} holds {len(found)} files of weights ({names}); give the file instead of the folder"
            )
        if found:
            return found[0]
    raise UserError(f"{folder} is no LeWM checkpoint: it holds no .pt file and none of {', '.join(_SAFE)}")


def _download(name: str) -> Path:
    """Fetch a checkpoint from the Hugging Face hub, or from its local cache."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[_CONFIG, "weights.pt", *_SAFE]))
    except (OSError, ValueError) as error:
        raise UserError(f"no folder {name}, and the Hugging Face hub gave none: {_line(error)}") from None


def read_document(folder: Path) -> Any:
    """Return what a folder's `config.json` holds. Raises UserError where it is no JSON, or wmkit's own."""
    path = folder / _CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON: {_line(error)}") from None
    if isinstance(document, dict) and str(document.get("format", "")).startswith("wmkit."):
        raise UserError(f"{folder} is a model folder of wmkit; load it with from_pretrained")
    return document


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a file of `torch.save` or safetensors, running nothing that it holds.

    Raises:
        UserError: the file is damaged, holds something else, or wants to run code.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path} is no safetensors file, or is damaged: {_line(error)}") from None
    state = _unpickled(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path} holds a {type(state).__name__}, not tensors by name; save the model's state_dict")
    others = [name for name, value in state.items() if not _is_plain(value)]
    if others:
        raise UserError(f"{path} holds more than tensors ({', '.join(others[:3])}); save the model's state_dict alone")
    return state


def _is_plain(value: Any) -> bool:
    """Return whether something is a tensor of numbers in memory: not sparse, not quantised, not without data."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _unpickled(path: Path) -> Any:
    """Read a file of `torch.save` through the unpickler that imports nothing but tensors.

    Damage can surface as any exception there, so all count as damage, but for a name that it refused to import.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        refused = _REFUSED.search(str(error))
        if refused:
            what = f"{path} wants to run code ({refused[1]}) and was refused; nothing of it ran"
            raise UserError(f"{what}; save the model's state_dict alone, or as safetensors") from None
        raise UserError(f"{path} holds no readable tensors; download it again, or save the state_dict anew") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return next(iter(str(error).splitlines()), type(error).__name__)
