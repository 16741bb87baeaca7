"""A peer that gives ten batches a second, and tells through versions what it was given."""

from pathlib import Path

import numpy as np
from serving import serve

TAKEN = {"folder": Path(), "shapes": [], "settings": {}}


def describe(folder, **settings):
    TAKEN.update(folder=Path(folder), settings=settings)
    return {"packages": settings}


def take(formats):
    shapes = [np.load(TAKEN["folder"] / f"{name}.npy").shape for name in ("pixels", "action")]
    if shapes[0][0] != shapes[1][0] or shapes[0][1:] != (16, 16, 3) or shapes[1][1:] != (2,):
        raise ValueError(f"shapes are {shapes}")
    TAKEN["shapes"].append(shapes)
    return {}


def write():
    return {}


def opened(form, skip):
    if len(TAKEN["shapes"]) != 3 or skip != 5:
        raise ValueError(f"{len(TAKEN['shapes'])} episodes, one frame every {skip} steps")
    return {"seconds": 0.25}


def batches(form, workers, count):
    return {"seconds": count * {"hdf5": 0.2, "memory": 0.1}[form] / (1 + workers)}


serve({"describe": describe, "take": take, "write": write, "open": opened, "batches": batches})
