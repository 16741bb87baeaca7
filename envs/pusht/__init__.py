"""PushT: push a block to a pose with a disc (`wmkit/PushT-v0`).

`PushTEnv` and `PushTVectorEnv` are the environments, `PushTSimulator` their dynamics alone, `render_states` their
pixels, `PushTExpert` a scripted solver. `geometry` documents states and success rules, `variations` what a reset can
change.
"""

from .env import PushTEnv, PushTVectorEnv
from .expert import PushTExpert
from .geometry import as_goal, as_state, block_shape, coverage, pose_success, valid_state
from .physics import PushTSimulator
from .render import Renderer, render_states
from .variations import VARIATIONS, Variation, make_variation, sample_variation

__all__ = [
    "VARIATIONS",
    "PushTEnv",
    "PushTExpert",
    "PushTSimulator",
    "PushTVectorEnv",
    "Renderer",
    "Variation",
    "as_goal",
    "as_state",
    "block_shape",
    "coverage",
    "make_variation",
    "pose_success",
    "render_states",
    "sample_variation",
    "valid_state",
]
