"""Pictures of OGBench's cube, as OGBench draws its pixel observations: camera, colours, shadows and multisampling."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..mujoco_support import load_mujoco
from ..opengl import Offscreen
from .engine import load_ogbench
from .state import POSITIONS

__all__ = ["Renderer", "render_states"]

_CAMERA = "front_pixels"


class Renderer:
    """Draws states as OGBench's "visual-cube-single-v0" sees them: a transparent arm, and no sign of the goal.

    A picture shows the state itself; OGBench's shows its arm and cube one physics step (2 ms) earlier.

    Args:
        size: S, pixels of a side; 64 in OGBench.

    Raises:
        UserError: there is no OpenGL here, or ogbench is not installed.
    """

    def __init__(self, size: int) -> None:
        self._mujoco = load_mujoco()
        self._screen = Offscreen("OGBench's cube", _make_model(), size, effects=True)

    def draw(self, states: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return frames uint8 (B, S, S, 3) of states (B, 74)."""
        return np.stack([self._draw(state) for state in states])

    def close(self) -> None:
        """Free the OpenGL context."""
        self._screen.close()

    def _draw(self, state: NDArray[np.float64]) -> NDArray[np.uint8]:
        self._screen.data.qpos[:] = state[POSITIONS]
        self._mujoco.mj_fwdPosition(self._screen.model, self._screen.data)
        return self._screen.draw(_CAMERA)


def _make_model() -> Any:
    """Return the model with the looks of OGBench's pixel observations.

    OGBench colours the cube and hides the target when an episode begins, and its `reset` draws a picture; so the
    episode is begun without one.
    """
    env = load_ogbench("envs.cube_env").CubeEnv(
        env_type="single", ob_type="pixels", visualize_info=False, mode="data_collection"
    )
    env._mjcf_model = env.build_mjcf_model()
    env.compile_model_and_data()
    env.initialize_episode()
    return env.model


def render_states(states: NDArray[np.float64], size: int = 64) -> NDArray[np.uint8]:
    """Return frames uint8 (B, size, size, 3) of states (B, 74).

    Raises:
        UserError: as in `Renderer`.
    """
    renderer = Renderer(size)
    try:
        return renderer.draw(np.asarray(states, np.float64))
    finally:
        renderer.close()
