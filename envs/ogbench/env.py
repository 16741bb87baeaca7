"""OGBench's cube-single with starts, goals and batches as wmkit's environments have them. Single and vectorised."""

from gymnasium.vector import AutoresetMode

from ..scene_checks import whole_number
from ..scene_env import SceneEnv, SceneVectorEnv
from .scenes import SceneOptions, Scenes

__all__ = ["SECONDS_PER_STEP", "OGBenchCubeEnv", "OGBenchCubeVectorEnv"]

SECONDS_PER_STEP = 0.05
"""Seconds of one control step."""
_FPS = round(1 / SECONDS_PER_STEP)


class OGBenchCubeEnv(SceneEnv):
    """Pick a cube up with a UR5e arm and put it down at its goal: OGBench's own simulation, twenty steps a second.

    Observations are a dict: "pixels" uint8 (S, S, 3), as OGBench draws them, and/or "state" float64 (74,), see `state`.
    Actions are float32 (5,) in [-1, 1], clipped: the hand's displacement in x, y and z (5 cm at 1), its turn about z
    (0.3 rad at 1) and the gripper's closing. The reward is 1 where the cube is within 4 cm of its goal, else 0, and the
    episode terminates there. `info` always holds "state" (74,), "goal_state" (74,) and "success", and after a reset
    "goal_pixels" where there are pixels.

    `reset(options=...)` takes "state" (74 numbers, set exactly, or the 41 positions and velocities) and "goal" (the
    same, of which the cube's place counts, or that place alone, 3 numbers in metres). What is not given is drawn as
    OGBench does when it collects data, again where the cube would be at its goal already. There are no variations.

    Args:
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S.
        render_mode: None or "rgb_array" (480 x 480).

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
        UserError: ogbench is not installed, or there is no OpenGL and pixels are asked for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": _FPS}  # noqa: RUF012

    def __init__(self, obs_type: str = "pixels", image_size: int = 64, render_mode: str | None = None) -> None:
        super().__init__(Scenes(SceneOptions(obs_type, image_size), 1), render_mode)


class OGBenchCubeVectorEnv(SceneVectorEnv):
    """Many cubes, stepped one after another by one simulation.

    Everything is as in `OGBenchCubeEnv`, with a leading axis B, `info` included. `reset(options=...)` takes "state" and
    "goal" with one row for all environments or B rows, and "reset_mask", bool (B,), to restart only some. With
    `autoreset_mode` "next_step" an environment that has ended is restarted by the step after; with "disabled" it keeps
    running until it is reset.

    Args:
        num_envs: B.
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S.
        render_mode: None or "rgb_array".
        max_episode_steps: truncate after so many steps; None never does.
        autoreset_mode: "next_step" or "disabled", or Gymnasium's enumeration.

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
        UserError: as in `OGBenchCubeEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        obs_type: str = "pixels",
        image_size: int = 64,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        scenes = Scenes(SceneOptions(obs_type, image_size), whole_number("num_envs", num_envs))
        super().__init__(scenes, num_envs, render_mode, _FPS, max_episode_steps, autoreset_mode)
