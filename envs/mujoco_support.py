"""What the environments on MuJoCo share: importing it, files from dm_control's wheel, how many cores there are."""

import importlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from wmkit.errors import UserError

__all__ = ["cores", "dm_control_file", "load_mujoco", "opengl_error"]


def load_mujoco() -> Any:
    """Import and return mujoco; where MUJOCO_GL asks for an OpenGL that is not here, without pictures.

    Raises:
        UserError: it is not installed.
    """
    return _mujoco()[0]


def opengl_error() -> str:
    """Return why mujoco was imported without pictures; empty where it was not."""
    return _mujoco()[1]


@lru_cache(maxsize=1)
def _mujoco() -> tuple[Any, str]:
    """Import mujoco, which loads the OpenGL that MUJOCO_GL asks for and fails where it cannot."""
    try:
        return importlib.import_module("mujoco"), ""
    except ModuleNotFoundError as error:
        raise UserError(f"this environment needs mujoco ({error}): pip install 'mujoco>=3.17,<4'") from None
    except Exception as error:
        asked = os.environ.get("MUJOCO_GL")
        if asked is None:
            raise UserError(f"mujoco cannot be imported ({error}): pip install 'mujoco>=3.17,<4'") from None
        why = str(error)
    os.environ["MUJOCO_GL"] = "off"
    try:
        return importlib.import_module("mujoco"), why
    finally:
        os.environ["MUJOCO_GL"] = asked


def dm_control_file(user: str, *parts: str) -> Path:
    """Return where a file of the dm_control package lies; the package itself is not imported, which would take long.

    Args:
        user: who needs it, for the message.
        parts: of the path within the package.

    Raises:
        UserError: dm_control is not installed, or has no such file.
    """
    found = importlib.util.find_spec("dm_control")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        path = Path(folder, *parts)
        if path.exists():
            return path
    raise UserError(f"{user} needs dm-control's {parts[-1]}: pip install 'wmkit[dm-control]'")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
