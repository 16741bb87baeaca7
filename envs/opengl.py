"""Pictures of MuJoCo scenes, drawn with OpenGL without a display, by default the quick way: flat, without shadows.

An OpenGL context can be current in one thread at a time, and stays so until that thread lets it go. Here it is current
only while a picture is drawn, so that any thread may draw the next.
"""

import atexit
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wmkit.errors import UserError

from .mujoco_support import load_mujoco, opengl_error

__all__ = ["Offscreen"]

_NO_OPENGL = (
    "{user}'s pixels need OpenGL, and MuJoCo found none ({error}); on Debian or Ubuntu: apt-get install "
    "libegl1 libgl1 libgles2, and set MUJOCO_GL=egl; or use obs_type='state', which needs none"
)


class Offscreen:
    """Draws one MuJoCo model through one of its fixed cameras, in any thread, but in one at a time.

    OpenGL comes from where the environment variable MUJOCO_GL says; on Linux, where it is not set, from EGL, which
    needs no display.

    Attributes:
        model: the renderer's own; what its geoms look like may change between pictures.
        data: whose positions are drawn.
    """

    def __init__(self, user: str, model: Any, size: int, *, skybox: bool = True, effects: bool = False) -> None:
        """Create the renderer.

        Args:
            user: which environment this is for, in messages.
            model: a `mujoco.MjModel` of the renderer's own, whose visual settings are changed.
            size: S, pixels of a side.
            skybox: whether the sky is drawn, where the model has one.
            effects: whether multisampling, shadows and reflections are as the model has them; without, pictures are
                drawn several times faster.

        Raises:
            UserError: there is no OpenGL here.
        """
        self._mujoco = mujoco = load_mujoco()
        if not effects:
            model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        self.model, self.data = model, mujoco.MjData(model)
        self._scene, self._option = mujoco.MjvScene(model, maxgeom=100), mujoco.MjvOption()
        for flag, drawn in (("SHADOW", effects), ("REFLECTION", effects), ("SKYBOX", skybox)):
            if not drawn:
                self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._area = mujoco.MjrRect(0, 0, size, size)
        self._gl: Any = None
        self._context: Any = None
        self._open(user, size)

    def draw(self, camera: str) -> NDArray[np.uint8]:
        """Return the picture uint8 (S, S, 3) of `data`, whose positions are up to date, through a named camera."""
        mujoco = self._mujoco
        self._camera.fixedcamid = self.model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, self.data, self._option, None, self._camera, everything, self._scene)
        frame = np.empty((self._area.height, self._area.width, 3), np.uint8)
        with _current(self._gl):
            mujoco.mjr_render(self._area, self._scene, self._context)
            mujoco.mjr_readPixels(frame, None, self._area, self._context)
        return frame[::-1]

    def close(self) -> None:
        """Free the OpenGL context; a second call does nothing."""
        atexit.unregister(self.close)
        if self._gl is not None:
            with _current(self._gl):
                self._context.free()
            self._gl.free()
            self._gl = None

    def _open(self, user: str, size: int) -> None:
        """Make an OpenGL context and MuJoCo's own; freed at the end of the process, if not before."""
        try:
            self._gl = _gl_context(size)
            with _current(self._gl):
                self._context = self._mujoco.MjrContext(self.model, self._mujoco.mjtFontScale.mjFONTSCALE_100)
                self._mujoco.mjr_setBuffer(self._mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        except Exception as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            asked = os.environ.get("MUJOCO_GL")
            text = f"MUJOCO_GL={asked!r}: {text}" if asked else text
            raise UserError(_NO_OPENGL.format(user=user, error=text)) from None
        atexit.register(self.close)


@contextmanager
def _current(context: Any) -> Iterator[None]:
    """Make an OpenGL context this thread's for a while (EGL: 7 microseconds); afterwards it is no thread's.

    MuJoCo's contexts cannot let go themselves. Those of OSMesa and of macOS need not.
    """
    context.make_current()
    try:
        yield
    finally:
        kind = type(context).__module__
        if kind == "mujoco.egl":
            from mujoco import egl

            nothing = (egl.EGL.EGL_NO_SURFACE, egl.EGL.EGL_NO_SURFACE, egl.EGL.EGL_NO_CONTEXT)
            egl.EGL.eglMakeCurrent(egl.EGL_DISPLAY, *nothing)
        elif kind == "mujoco.glfw":
            import glfw

            glfw.make_context_current(None)  # pyright: ignore[reportArgumentType]


def _gl_context(size: int) -> Any:
    """Return an OpenGL context of the kind that the machine offers.

    Mesa's software OpenGL and Triton each bring an LLVM; where Mesa's is loaded first, importing Triton ends the
    program (segmentation fault; Mesa 22, Triton 3.7), and PyTorch imports it whenever it is installed.
    """
    if opengl_error():
        raise RuntimeError(opengl_error())
    if importlib.util.find_spec("triton") is not None:
        importlib.import_module("triton")
    if sys.platform == "linux" and not os.environ.get("MUJOCO_GL"):
        from mujoco.egl import GLContext
    else:
        from mujoco.gl_context import GLContext
    context = GLContext(size, size)
    if not getattr(context, "_context", True):
        raise RuntimeError("GLFW finds no display")
    return context
