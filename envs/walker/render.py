"""Pictures of the walker, drawn by MuJoCo with OpenGL; a picture depends on the state alone, not on the variation."""

import atexit
import importlib.util
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wmkit.errors import UserError

from .kinematics import STATE_SIZE
from .model import load_mujoco, make_model

__all__ = ["Renderer", "render_states"]

_CAMERA = "side"
_NO_OPENGL = (
    "the walker's pixels need OpenGL, and MuJoCo found none ({error}); on Debian or Ubuntu: apt-get install "
    "libegl1 libgl1 libgles2, and set MUJOCO_GL=egl; or use obs_type='state', which needs none"
)


class Renderer:
    """Draws states as dm-control's side camera sees them, without multisampling, shadows and reflections.

    OpenGL comes from where the environment variable MUJOCO_GL says; on Linux, where it is not set, from EGL, which
    needs no display.

    Args:
        size: S, pixels of a side.

    Raises:
        UserError: there is no OpenGL here, or dm_control or mujoco is not installed.
    """

    def __init__(self, size: int) -> None:
        mujoco = load_mujoco()
        self._model = model = make_model()
        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        self._mujoco = mujoco
        self._data = mujoco.MjData(model)
        self._scene, self._option = mujoco.MjvScene(model, maxgeom=100), mujoco.MjvOption()
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = False
        self._camera = mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(_CAMERA).id
        self._area = mujoco.MjrRect(0, 0, size, size)
        self._gl: Any = None
        self._context: Any = None
        self._open(size)

    def draw(self, states: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return frames uint8 (B, S, S, 3) of states (B, 18)."""
        self._gl.make_current()
        return np.stack([self._draw(state) for state in states])

    def close(self) -> None:
        """Free the OpenGL context."""
        atexit.unregister(self.close)
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def _open(self, size: int) -> None:
        """Make an OpenGL context and MuJoCo's own; freed at the end of the process, if not before."""
        try:
            self._gl = _gl_context(size)
            self._gl.make_current()
            self._context = self._mujoco.MjrContext(self._model, self._mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(_NO_OPENGL.format(error=text)) from None
        self._mujoco.mjr_setBuffer(self._mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        atexit.register(self.close)

    def _draw(self, state: NDArray[np.float64]) -> NDArray[np.uint8]:
        mujoco = self._mujoco
        self._data.qpos[:] = state[: STATE_SIZE // 2]
        mujoco.mj_fwdPosition(self._model, self._data)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, self._camera, everything, self._scene)
        mujoco.mjr_render(self._area, self._scene, self._context)
        frame = np.empty((self._area.height, self._area.width, 3), np.uint8)
        mujoco.mjr_readPixels(frame, None, self._area, self._context)
        return frame[::-1]


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


def _gl_context(size: int) -> Any:
    """Return an OpenGL context of the kind that the machine offers.

    Mesa's software OpenGL and Triton each bring an LLVM; where Mesa's is loaded first, importing Triton ends the
    program (segmentation fault; Mesa 22, Triton 3.7), and PyTorch imports it whenever it is installed.
    """
    if importlib.util.find_spec("triton") is not None:
        importlib.import_module("triton")
    if sys.platform == "linux" and not os.environ.get("MUJOCO_GL"):
        from mujoco.egl import GLContext
    else:
        from mujoco.gl_context import GLContext
    return GLContext(size, size)
