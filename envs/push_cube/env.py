"""`wmkit/PushCube-v0`: a robot arm pushes a cube to a place on the table. Single and vectorised."""

from collections.abc import Sequence

from gymnasium.vector import AutoresetMode

from ..scene_checks import whole_number
from ..scene_env import SceneEnv, SceneVectorEnv
from .control import SECONDS_PER_STEP
from .scenes import SceneOptions, Scenes

__all__ = ["PushCubeEnv", "PushCubeVectorEnv"]

_FPS = round(1 / SECONDS_PER_STEP)


class PushCubeEnv(SceneEnv):
    """Push the cube to a place on the table with the closed hand of Kinova's Jaco, ten control steps a second.

    Observations are a dict: "pixels" uint8 (S, S, 3) of the first camera, "pixels_NAME" of further ones; "state"
    float64 (25,), see `kinematics`; "proprioception" float64 (15,), six joint angles in rad, their speeds in rad/s, and
    the hand's place in m. Actions are float32 in [-1, 1], what lies outside is clipped: displacements of the hand in x
    and y (`action_mode` "plane"), or in x, y and z ("space"), 2 cm at 1; see `control`. The reward is 1 where the cube
    is at the goal and a quarter at 10 cm. The episode terminates on success, the cube's centre within 2.5 cm of the
    goal's. `info` always holds "state" (25,), "goal_state" (25,), "hand" (3,), "success" and "variation", and after
    a reset "goal_pixels" (and "goal_pixels_NAME") where there are pixels.

    `reset(options=...)` takes "state" (25,), "goal" (the cube's place, 2 or 3 numbers in m, or a state) and "variation"
    (see `variations`). Otherwise cube, hand and target are drawn, the target at least 8 cm from the cube. The target's
    mark is shown by `render`, and in observations only with `show_target`, since there the goal is told by a picture.
    With `set_variation` the names not given stay, and None restores the reset's.

    Args:
        obs_type: "pixels", "state", "proprioception", "pixels_state" or "pixels_proprioception".
        image_size: S.
        cameras: of "front", "side" and "top", one or more.
        action_mode: "plane" or "space".
        randomise: names of the variations that every reset draws, or "all".
        show_target: whether observed pictures show the target's mark.
        render_mode: None or "rgb_array" (480 x 480).

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
        UserError: dm_control or mujoco is not installed, or there is no OpenGL and pixels are asked for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": _FPS}  # noqa: RUF012

    def __init__(
        self,
        obs_type: str = "pixels",
        image_size: int = 64,
        cameras: str | Sequence[str] = ("front",),
        action_mode: str = "plane",
        randomise: str | Sequence[str] = (),
        show_target: bool = False,
        render_mode: str | None = None,
    ) -> None:
        options = SceneOptions(obs_type, image_size, cameras, action_mode, randomise, show_target)
        super().__init__(Scenes(options, 1), render_mode)


class PushCubeVectorEnv(SceneVectorEnv):
    """Many PushCube environments stepped together, by threads where there are eight or more.

    Everything is as in `PushCubeEnv`, with a leading axis B, `info` included. `reset(options=...)` takes "state" and
    "goal" with one row for all environments or B rows, "variation" as one mapping or a list of B, and "reset_mask",
    bool (B,), to restart only some. With `autoreset_mode` "next_step" an environment that has ended is restarted by
    the step after; with "disabled" it keeps running until it is reset.

    Args:
        num_envs: B.
        obs_type: as in `PushCubeEnv`, like the next six.
        image_size: S.
        cameras: of "front", "side" and "top".
        action_mode: "plane" or "space".
        randomise: names of variations, or "all".
        show_target: whether observed pictures show the target's mark.
        render_mode: None or "rgb_array".
        max_episode_steps: truncate after so many steps; None never does.
        autoreset_mode: "next_step" or "disabled", or Gymnasium's enumeration.

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
        UserError: as in `PushCubeEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        obs_type: str = "pixels",
        image_size: int = 64,
        cameras: str | Sequence[str] = ("front",),
        action_mode: str = "plane",
        randomise: str | Sequence[str] = (),
        show_target: bool = False,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        options = SceneOptions(obs_type, image_size, cameras, action_mode, randomise, show_target)
        scenes = Scenes(options, whole_number("num_envs", num_envs))
        super().__init__(scenes, num_envs, render_mode, _FPS, max_episode_steps, autoreset_mode)
