"""Model folders: `config.json`, `model.safetensors` and a model card; written atomically, read without running code."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from . import registry
from .errors import UserError

__all__ = ["kind_of", "load_folder", "resolve", "save_folder", "weights_sha256"]

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_BESIDE = ("readout.json", "readout.safetensors", "surprise.json", "surprise.safetensors")
_VERSION = 1
_PACKAGED = "pretrained:"
_MODELS = "wmkit.models.pretrained"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def save_folder(
    folder: str | os.PathLike[str],
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder.

    A new folder appears complete or not at all. In an existing one each file is replaced whole, the configuration last;
    it holds the weights' SHA-256, so that a folder caught between two versions is refused rather than misread.

    Args:
        folder: where to; other files in it stay.
        kind: registered name of what is saved, e.g. "lewm".
        config: plain JSON values.
        state: tensors by name.
        metadata: plain JSON values, e.g. "data" with its fingerprint and "training" with a summary; shown in the card.
        dtype: of matrices and larger on disk; vectors, such as biases and statistics, stay as they are.

    Raises:
        UserError: dtype is not float32, bfloat16 or float16, or the folder's name is that of a file.
        ValueError: `metadata` is not plain JSON.
    """
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise UserError(f"weights cannot be stored as {dtype}; take float32, bfloat16 or float16")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder to save the model in")
    stored = {name: _stored(tensor, dtype) for name, tensor in state.items()}
    weights = save(stored, metadata={"format": "pt"})
    document = {
        "format": f"wmkit.{kind}",
        "version": _VERSION,
        "config": dict(config),
        "metadata": dict(metadata or {}),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    try:
        text = json.dumps(document, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata of the model must be plain JSON: {error}") from None
    _write(folder, {_WEIGHTS: weights, _CARD: _card(folder.name, document, stored).encode(), _CONFIG: text.encode()})


def load_folder(name: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    """Read configuration, tensors by name, and metadata of a model folder; see `resolve` for the names.

    Args:
        name: of the folder.
        kind: what must be in it, e.g. "lewm".

    Raises:
        UserError: there is no such model, a file is missing or damaged, or it is of another kind or a newer version.
    """
    folder = resolve(name)
    try:
        document = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        weights = (folder / _WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{folder} is no model folder: {Path(error.filename).name} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} cannot be read ({_line(error)}); save or download the model again") from None
    _check_document(folder / _CONFIG, document, kind)
    if hashlib.sha256(weights).hexdigest() != document["sha256"]:
        raise UserError(
            f"{folder / _WEIGHTS} is damaged: its SHA-256 is not that of {_CONFIG}; save or download the model again"
        )
    try:
        state = load(weights)
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{folder / _WEIGHTS} is no safetensors file ({_line(error)})") from None
    return document["config"], state, document["metadata"]


def kind_of(folder: Path) -> str:
    """Return the registered name of what a model folder holds, e.g. "lewm".

    Raises:
        UserError: it has no configuration that says so.
    """
    try:
        return str(json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["format"]).removeprefix("wmkit.")
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder} is no model folder: it has no {_CONFIG} that names a format") from None


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of a model's weights as its configuration names it, hexadecimal.

    Raises:
        UserError: the folder has no configuration that says so.
    """
    try:
        return str(json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder} is no model folder: it has no {_CONFIG} that names its weights") from None


def resolve(name: str | os.PathLike[str]) -> Path:
    """Return the local folder of a model.

    Args:
        name: a folder; or "pretrained:NAME" for a model that ships with wmkit; or "owner/name" on the Hugging Face hub,
            which is downloaded, unless a folder of that name exists.

    Raises:
        UserError: there is none; the text says what was tried.
    """
    text = os.fspath(name)
    if text.startswith(_PACKAGED):
        return _packaged(text.removeprefix(_PACKAGED))
    if Path(text).is_dir():
        return Path(text)
    if isinstance(name, str) and _HUB_ID.fullmatch(text):
        return _download(text)
    raise UserError(f"no model folder {text}; give a folder, {_PACKAGED}NAME, or owner/name on the Hugging Face hub")


def _packaged(name: str) -> Path:
    """Return the folder of a model that ships with wmkit."""
    folder = Path(str(files(_MODELS)))
    known = sorted(path.parent.name for path in folder.glob(f"*/{_CONFIG}"))
    if name not in known:
        raise UserError(f"no model {_PACKAGED}{name} ships with wmkit; known: {', '.join(known) or 'none'}")
    return folder / name


def _download(name: str) -> Path:
    """Fetch a model's files, and what is kept beside them, from the Hugging Face hub, or from its local cache."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[_CONFIG, _WEIGHTS, _CARD, *_BESIDE]))
    except (OSError, ValueError) as error:
        raise UserError(f"no folder {name}, and the Hugging Face hub gave none: {_line(error)}") from None


def _check_document(path: Path, document: Any, kind: str) -> None:
    """Refuse a configuration file of another kind, of a newer version, or without a part."""
    found = document.get("format") if isinstance(document, dict) else None
    if found != f"wmkit.{kind}":
        raise UserError(f"{path} is not of a {kind}: its format is {found!r}, not {f'wmkit.{kind}'!r}")
    if document.get("version") != _VERSION:
        raise UserError(f"{path} is of version {document.get('version')!r}; this wmkit reads version {_VERSION}")
    for key, form in (("config", dict), ("metadata", dict), ("sha256", str)):
        if not isinstance(document.get(key), form):
            raise UserError(f"{path} lacks {key!r}; save or download the model again")


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a contiguous copy on the CPU; floating-point matrices in `dtype`."""
    matrix = tensor.is_floating_point() and tensor.dim() > 1
    return tensor.detach().to("cpu", dtype if matrix else tensor.dtype, copy=True).contiguous()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files aside and move them in, in the given order: the whole folder at once where it is new."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in files.items():
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        aside.chmod(0o755)
        if not folder.exists():
            aside.rename(folder)
            return
        for name in files:
            (aside / name).replace(folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _card(name: str, document: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Return the model card."""
    config, metadata = document["config"], document["metadata"]
    kind = document["format"].removeprefix("wmkit.")
    numbers = sum(tensor.numel() for tensor in state.values())
    lines = [
        "---\nlibrary_name: wmkit\ntags:\n- world-model\n- robotics\n---",
        f"# {name}\n",
        f"A {kind} of wmkit with {numbers / 1e6:.2f} M numbers.\n",
        f"```python\nfrom wmkit import registry\n\n{_example(kind, name)}\n```\n",
    ]
    for title, value in {**metadata, "configuration": config}.items():
        lines.append(f"## {title.capitalize()}\n\n```json\n{json.dumps(value, indent=2)}\n```\n")
    return "\n".join(lines)


def _example(kind: str, name: str) -> str:
    """Return the line that loads it."""
    plural = next((plural for plural in registry.KINDS if kind in registry.names(plural)), "models")
    return f"part = registry.load({plural!r}, {kind!r}).from_pretrained({name!r})"


def _line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return next(iter(str(error).splitlines()), type(error).__name__)
