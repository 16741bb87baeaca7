"""What the environments on MuJoCo share: importing it, files from dm_control's wheel, how many cores there are."""

import importlib.util
import os
from pathlib import Path
from typing import Any

from wmkit.errors import UserError

__all__ = ["cores", "dm_control_file", "load_mujoco"]


def load_mujoco() -> Any:
    """Import and return mujoco, which reads MUJOCO_GL while it is imported.

    Raises:
        UserError: it is not installed, or finds no OpenGL of the kind that MUJOCO_GL demands.
    """
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise UserError(f"this environment needs mujoco ({error}): pip install 'mujoco>=3.17,<4'") from None
    except Exception as error:
        raise UserError(
            f"mujoco cannot be imported with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r} ({error}); unset it for "
            "observations without pixels, or, on Debian or Ubuntu, apt-get install libegl1 libgl1 libgles2"
        ) from None
    return mujoco


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
