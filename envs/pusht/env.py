"""`wmkit/PushT-v0`: push a T to a pose with a disc. Single and vectorised."""

from gymnasium.vector import AutoresetMode

from ..scene_checks import whole_number
from ..scene_env import SceneEnv, SceneVectorEnv
from .physics import CONTROL_HZ
from .scenes import SceneOptions, Scenes
from .window import Window

__all__ = ["PushTEnv", "PushTVectorEnv"]


class PushTEnv(SceneEnv):
    """Push the block into the goal region. World 512 x 512 px, ten steps a second, physics of gym-pusht 0.1.8.

    Observations are a dict: "pixels" uint8 (S, S, 3) and/or "state" float64 (10,), see `geometry`. Actions are
    float32 (2,): relative, in [-1, 1], put the agent's target up to 100 px from where it is; absolute ones are the
    target itself in [0, 512] px. Actions outside are clipped, and so is the target. The reward is the coverage over
    0.95, at most 1; the episode terminates on success. `info` always holds "state" (10,), "goal_state" (10,),
    "coverage" and "success", and after a reset "goal_pixels" where there are pixels. If the goal is a block pose,
    "goal_state" has the agent where it starts.

    `reset(options=...)` takes "state" (5, 7 or 10 numbers, set exactly; missing velocities are zero), "goal" (block
    pose of 3 numbers, or a state, whose agent position then counts in the `pose` rule) and "variation" (see
    `variations`). The goal's marker is drawn at a block pose; for a goal with an agent it stays at the default in
    observations, so that they do not give the goal away; `render` shows it at the goal.

    `set_variation` changes looks and floor; sizes and shapes are refused, which only a reset can change. The names not
    given stay, and None restores the reset's.

    Args:
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S.
        action_mode: "relative" or "absolute".
        success: "coverage" (over 95 % of the goal) or "pose" (see `geometry.pose_success`).
        render_mode: None, "rgb_array" (512 x 512) or "human" (needs pygame).

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012

    def __init__(
        self,
        obs_type: str = "pixels",
        image_size: int = 64,
        action_mode: str = "relative",
        success: str = "coverage",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(Scenes(SceneOptions(obs_type, image_size, action_mode, success), 1), render_mode)
        self._window: Window | None = None

    def close(self) -> None:
        """Close the window, if there is one."""
        super().close()
        if self._window is not None:
            self._window.close()
            self._window = None

    def _show(self) -> None:
        if self.render_mode == "human":
            self._window = self._window or Window(self._scenes.render_size, CONTROL_HZ)
            self._window.show(self._scenes.render(0, self._scenes.render_size))


class PushTVectorEnv(SceneVectorEnv):
    """Many PushT environments stepped together, with one call of the renderer for all frames.

    Everything is as in `PushTEnv`, with a leading axis B, `info` included. `reset(options=...)` takes "state" and
    "goal" with one row for all environments or B rows, "variation" as one mapping or B of them, and "reset_mask",
    bool (B,), to restart only some. With `autoreset_mode` "next_step" an environment that has ended is restarted by
    the step after; with "disabled" it keeps running until it is reset.

    Args:
        num_envs: B.
        obs_type: as in `PushTEnv`, like the next three.
        image_size: S.
        action_mode: "relative" or "absolute".
        success: "coverage" or "pose".
        render_mode: None or "rgb_array".
        max_episode_steps: truncate after so many steps; None never does.
        autoreset_mode: "next_step" or "disabled", or Gymnasium's enumeration.

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
    """

    def __init__(
        self,
        num_envs: int = 1,
        obs_type: str = "pixels",
        image_size: int = 64,
        action_mode: str = "relative",
        success: str = "coverage",
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        scenes = Scenes(SceneOptions(obs_type, image_size, action_mode, success), whole_number("num_envs", num_envs))
        super().__init__(scenes, num_envs, render_mode, CONTROL_HZ, max_episode_steps, autoreset_mode)
