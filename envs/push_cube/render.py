"""Pictures of PushCube, drawn by MuJoCo with OpenGL."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..mujoco_support import load_mujoco
from ..opengl import Offscreen
from .kinematics import CUBE, POSITIONS
from .model import CAMERAS, make_model, paint
from .variations import Variation

__all__ = ["Renderer", "render_states"]

_UNSEEN = (0.0, 0.0, -1.0)
"""Where the target's mark is while it is not shown: under the table."""


class Renderer:
    """Draws states without multisampling, shadows and reflections.

    A picture depends on the state, the target's place where it is shown, and the sizes and colours of the variation.

    Args:
        size: S, pixels of a side.

    Raises:
        UserError: there is no OpenGL here, or dm_control or mujoco is not installed.
    """

    def __init__(self, size: int) -> None:
        self._mujoco = load_mujoco()
        self._screen = Offscreen("PushCube", make_model(), size, skybox=False)
        self._target = self._screen.model.geom("target").id
        self._looks: Variation | None = None

    def draw(
        self,
        states: NDArray[np.float64],
        variations: Sequence[Variation],
        camera: str = "front",
        targets: NDArray[np.float64] | None = None,
    ) -> NDArray[np.uint8]:
        """Return frames uint8 (B, S, S, 3).

        Args:
            states: (B, 25).
            variations: B of them.
            camera: one of `CAMERAS`.
            targets: (B, 25), goals whose place is marked; None marks none.
        """
        rows = [self._draw(*one, camera, targets) for one in enumerate(zip(states, variations, strict=True))]
        return np.stack(rows)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._screen.close()

    def _draw(
        self,
        row: int,
        scene: tuple[NDArray[np.float64], Variation],
        camera: str,
        targets: NDArray[np.float64] | None,
    ) -> NDArray[np.uint8]:
        state, looks = scene
        if looks != self._looks:
            paint(self._screen.model, looks)
            self._looks = looks
        place = _UNSEEN if targets is None else (*targets[row][CUBE][:2], 0.0)
        self._screen.model.geom_pos[self._target] = place
        self._screen.data.qpos[:] = state[POSITIONS]
        self._mujoco.mj_kinematics(self._screen.model, self._screen.data)
        self._mujoco.mj_camlight(self._screen.model, self._screen.data)
        return self._screen.draw(camera)


def render_states(
    states: NDArray[np.float64], size: int = 64, camera: str = "front", variation: Variation | None = None
) -> NDArray[np.uint8]:
    """Return frames uint8 (B, size, size, 3) of states (B, 25).

    Raises:
        UserError: as in `Renderer`.
        ValueError: an unknown camera.
    """
    if camera not in CAMERAS:
        raise ValueError(f"unknown camera {camera!r}; choose from {', '.join(CAMERAS)}")
    renderer = Renderer(size)
    try:
        return renderer.draw(np.asarray(states, np.float64), [variation or Variation()] * len(states), camera)
    finally:
        renderer.close()
