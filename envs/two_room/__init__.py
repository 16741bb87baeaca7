"""TwoRoom: a dot, two rooms and a door between them, seen as pixels; batched in NumPy."""

from .env import TwoRoomVectorEnv
from .expert import TwoRoomExpert
from .render import render_states
from .simulator import TwoRoomSimulator
from .single import TwoRoomEnv
from .variations import VARIATIONS
from .world import SUCCESS_DISTANCE, Scene, is_free, is_success, room_of, step_states

__all__ = [
    "SUCCESS_DISTANCE",
    "VARIATIONS",
    "Scene",
    "TwoRoomEnv",
    "TwoRoomExpert",
    "TwoRoomSimulator",
    "TwoRoomVectorEnv",
    "is_free",
    "is_success",
    "render_states",
    "room_of",
    "step_states",
]
