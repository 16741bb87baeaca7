"""Folders of runs, a part in each subfolder: copying parts from one run to the next, and showing they are the same."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import UserError
from ..model_folder import kind_of

__all__ = ["PARTS", "copy_part", "folder_hash", "load_part", "new_run", "parts_of"]

PARTS = {"dynamics": "models", "proposal": "proposals", "value": "values"}
"""Subfolder of a run -> kind in the registry."""

_PART_FILES = ("config.json", "model.safetensors")
"""What a part cannot do without."""


def parts_of(run: Path) -> dict[str, Path]:
    """Return the parts that a run has, name -> folder, in the order of `PARTS`.

    Raises:
        UserError: there is no such folder, or it has no part.
    """
    if not run.is_dir():
        raise UserError(f"there is no folder {run}; give a run, from `wmkit train dmpc`")
    found = {name: run / name for name in PARTS if (run / name / _PART_FILES[0]).is_file()}
    if not found:
        raise UserError(f"{run} is no run: it has none of the folders {', '.join(PARTS)} with a finished model in it")
    return found


def load_part(name: str, folder: Path) -> Any:
    """Return a part, e.g. "dynamics", from its folder. Raises UserError where it is of a kind that is unknown there."""
    return registry.load(PARTS[name], kind_of(folder)).from_pretrained(folder)


def folder_hash(folder: Path) -> str:
    """Return sha256, hexadecimal, over names and bytes of a model folder's files, those of its training left out."""
    digest = hashlib.sha256()
    for path in _files(folder):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def copy_part(source: Path, target: Path) -> str:
    """Copy a model folder byte for byte, whole or not at all; where it stands already, check it.

    Returns:
        `folder_hash` of both.

    Raises:
        UserError: the target holds something else, or the copy differs from the source.
    """
    wanted = folder_hash(source)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for path in _files(source):
                place = aside / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
            aside.chmod(0o755)
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    if folder_hash(target) != wanted:
        raise UserError(f"{target} is not a copy of {source}; give a new folder")
    return wanted


def new_run(run: Path, out: Path, report: str) -> None:
    """Refuse to write a new run where another stands.

    Args:
        run: the run that is read.
        out: where the new one goes; a folder that the same command left unfinished is fine.
        report: name of the JSON file that the command leaves in its folder.

    Raises:
        UserError: `out` is `run`, inside of it or around it, or holds something else.
    """
    here, there = run.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UserError(f"{out} is, holds or lies in the run {run}, which is never changed; give a folder of its own")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder")
    content = sorted(path.name for path in out.glob("*"))
    if content and not (out / report).is_file():
        raise UserError(f"{out} already holds {', '.join(content[:3])} and no {report}; give another folder")


def _files(folder: Path) -> list[Path]:
    """Return a model folder's files in order, without those of the training run that made it."""
    own = {"checkpoints", "metrics.jsonl", "run.json", "tensorboard"}
    found = []
    for root, folders, names in os.walk(folder):
        top = Path(root) == folder
        folders[:] = sorted(name for name in folders if not (top and name in own))
        found += [Path(root) / name for name in sorted(names) if not (top and name in own)]
    return found
