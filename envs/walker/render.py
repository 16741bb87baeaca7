"""Pictures of the walker, drawn by MuJoCo with OpenGL; a picture depends on the state alone, not on the variation."""

import numpy as np
from numpy.typing import NDArray

from ..mujoco_support import load_mujoco
from ..opengl import Offscreen
from .kinematics import STATE_SIZE
from .model import make_model

__all__ = ["Renderer", "render_states"]


class Renderer:
    """Draws states as dm-control's side camera sees them, without multisampling, shadows and reflections.

    Args:
        size: S, pixels of a side.

    Raises:
        UserError: there is no OpenGL here, or dm_control or mujoco is not installed.
    """

    def __init__(self, size: int) -> None:
        self._mujoco = load_mujoco()
        self._screen = Offscreen("the walker", make_model(), size)

    def draw(self, states: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return frames uint8 (B, S, S, 3) of states (B, 18)."""
        return np.stack([self._draw(state) for state in states])

    def close(self) -> None:
        """Free the OpenGL context."""
        self._screen.close()

    def _draw(self, state: NDArray[np.float64]) -> NDArray[np.uint8]:
        self._screen.data.qpos[:] = state[: STATE_SIZE // 2]
        self._mujoco.mj_fwdPosition(self._screen.model, self._screen.data)
        return self._screen.draw("side")


def render_states(states: NDArray[np.float64], size: int = 64) -> NDArray[np.uint8]:
    """Return frames uint8 (B, size, size, 3) of states (B, 18).

    Raises:
        UserError: as in `Renderer`.
    """
    renderer = Renderer(size)
    try:
        return renderer.draw(np.asarray(states, np.float64))
    finally:
        renderer.close()
