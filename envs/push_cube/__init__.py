"""PushCube: a robot arm pushes a cube to a place on the table (`wmkit/PushCube-v0`).

`PushCubeEnv` and `PushCubeVectorEnv` are the environments, `PushCubeSimulator` their dynamics alone, `render_states`
their pixels, `PushCubeExpert` a scripted solver. `kinematics` documents states, `control` actions, `variations` what a
reset can change.
"""

from .env import PushCubeEnv, PushCubeVectorEnv
from .expert import PushCubeExpert
from .kinematics import hand_position, is_success
from .simulator import PushCubeSimulator
from .variations import VARIATIONS, Variation, make_variation, sample_variation

__all__ = [
    "VARIATIONS",
    "PushCubeEnv",
    "PushCubeExpert",
    "PushCubeSimulator",
    "PushCubeVectorEnv",
    "Variation",
    "hand_position",
    "is_success",
    "make_variation",
    "sample_variation",
]
