"""A batched anti-aliased rasteriser for PushT in plain NumPy, with the look of gym-pusht.

Shapes are drawn straight at the target size from signed distances, inside a small window of pixels round each body,
over a background with walls and goal that is drawn once an episode. A frame is float maths on a few hundred pixels at
64 x 64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .geometry import WORLD_SIZE
from .variations import Variation

__all__ = ["Renderer", "render_states"]

_RIM = 2.0
_AGENT_RIM = 4.0
_LIGHTER = 1.2
_WALL_CENTERS = (5.0, 506.0)

Float = NDArray[np.float32]
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class _Look:
    """Drawing parameters of B scenes, float32, colours 0 to 255; scenes with fewer rectangles are padded.

    Attributes:
        centers: rectangle centres in the block's frame, (B, R, 2).
        halves: their half sizes, (B, R, 2).
        cog: centre of gravity in the block's frame, (B, 2).
        block_radius: from the centre of gravity to the farthest corner, in px, the largest of the batch.
        block_colors: rim colour of each rectangle, (B, R, 3).
        goal_colors: (B, 3).
        goal_visible: bool (B,).
        agent_colors: (B, 3).
        agent_radii: (B,).
        background_colors: (B, 3).
        frame_colors: (B, 3).
    """

    centers: Float
    halves: Float
    cog: Float
    block_radius: float
    block_colors: Float
    goal_colors: Float
    goal_visible: NDArray[np.bool_]
    agent_colors: Float
    agent_radii: Float
    background_colors: Float
    frame_colors: Float


class Renderer:
    """Draws batches of scenes at one image size.

    Args:
        image_size: S, pixels of a side.
        variations: one for the whole batch, or one for each scene.
    """

    def __init__(self, image_size: int, variations: Variation | Sequence[Variation]) -> None:
        self.image_size = image_size
        self._scale = image_size / WORLD_SIZE
        self._look = _look([variations] if isinstance(variations, Variation) else list(variations))

    def background(self, goals: ArrayLike | None, count: int = 1) -> Frames:
        """Floor, walls and, where visible, the goal.

        Args:
            goals: goal states (B, 10) or block poses (B, 3); None draws no goal.
            count: B where there are no goals.

        Returns:
            uint8 (B, S, S, 3).
        """
        poses = None if goals is None else _block_pose(np.asarray(goals, float))
        frames = self._floor(count if poses is None else len(poses))
        look = self._look
        if poses is not None and look.goal_visible.any():
            y, x, local = self._block_window(poses)
            weight = self._inside(local, 0.0).max(axis=1) * look.goal_visible[:, None, None]
            _blend(frames, y, x, (weight,), (look.goal_colors,))
        return frames

    def draw(self, background: Frames, states: ArrayLike) -> Frames:
        """The scenes at the states, over a background from `background`.

        Args:
            background: uint8 (B, S, S, 3), or (1, S, S, 3) for all; it is not changed.
            states: (B, 10).

        Returns:
            uint8 (B, S, S, 3).
        """
        states = np.asarray(states, float)
        frames = np.repeat(background, len(states) // len(background), axis=0)
        self._draw_block(frames, states[:, 2:5])
        self._draw_agent(frames, states[:, :2])
        return frames

    def _floor(self, count: int) -> Frames:
        look, scale = self._look, self._scale
        centers = (np.arange(self.image_size, dtype=np.float32) + 0.5) / scale
        low, high = _WALL_CENTERS
        outer = np.maximum(np.abs(centers - (low + high) / 2) - (high - low) / 2, -1e6)
        distance = np.maximum(outer[:, None], outer)
        wall = np.clip(0.5 - (np.abs(distance) - _RIM) * scale, 0, min(1.0, 2 * _RIM * scale))[None, :, :, None]
        floor = look.background_colors[:, None, None] * (1 - wall) + look.frame_colors[:, None, None] * wall
        frames = (floor + 0.5).astype(np.uint8)
        return np.repeat(frames, count, axis=0) if len(frames) == 1 else frames

    def _draw_block(self, frames: Frames, poses: NDArray[np.float64]) -> None:
        y, x, local = self._block_window(poses)
        outer, inner = self._inside(local, _RIM), self._inside(local, -_RIM)
        rims = self._look.block_colors
        fills = np.minimum(_LIGHTER * rims, 255)
        weights, colors = [], []
        for r in range(rims.shape[1]):
            weights += [outer[:, r], inner[:, r]]
            colors += [rims[:, r], fills[:, r]]
        _blend(frames, y, x, weights, colors)

    def _draw_agent(self, frames: Frames, positions: NDArray[np.float64]) -> None:
        look, scale = self._look, self._scale
        y, x = self._window(positions, float(look.agent_radii.max()))
        dx = (x + 0.5) / scale - positions[:, :1]
        dy = (y + 0.5) / scale - positions[:, 1:2]
        distance = np.sqrt(dx[:, None, :] ** 2 + dy[:, :, None] ** 2).astype(np.float32)
        radius = look.agent_radii[:, None, None]
        weights = [np.clip(0.5 + (r - distance) * scale, 0, 1) for r in (radius, radius - _AGENT_RIM)]
        _blend(frames, y, x, weights, (look.agent_colors, np.minimum(_LIGHTER * look.agent_colors, 255)))

    def _window(self, centers: NDArray[np.float64], radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns, (B, W) each, of the square windows round the centres; indices stop at the image's edge."""
        reach = (radius + _RIM) * self._scale + 1
        steps = np.arange(int(2 * reach) + 1)
        first = np.floor(centers * self._scale - reach).astype(np.int64)
        index = np.clip(first[:, :, None] + steps, 0, self.image_size - 1)
        return index[:, 1], index[:, 0]

    def _block_window(self, poses: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], Float]:
        """Rows and columns (B, W) of the block's window, and its pixels in the block's frame, (B, 2, W, W)."""
        look = self._look
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        cx, cy = look.cog[:, 0], look.cog[:, 1]
        centers = poses[:, :2] + np.stack((cos * cx - sin * cy, sin * cx + cos * cy), axis=1)
        y, x = self._window(centers, look.block_radius)
        dx = ((x + 0.5) / self._scale - poses[:, :1]).astype(np.float32)
        dy = ((y + 0.5) / self._scale - poses[:, 1:2]).astype(np.float32)
        cos, sin = cos.astype(np.float32)[:, None], sin.astype(np.float32)[:, None]
        local_x = (cos * dx)[:, None, :] + (sin * dy)[:, :, None]
        local_y = (cos * dy)[:, :, None] - (sin * dx)[:, None, :]
        return y, x, np.stack((local_x, local_y), axis=1).astype(np.float32, copy=False)

    def _inside(self, local: Float, grow: float) -> Float:
        """How much of each pixel lies in each rectangle grown by `grow` px: (B, R, W, W), 0 to 1."""
        look = self._look
        distance = np.abs(local[:, None] - look.centers[:, :, :, None, None]) - look.halves[:, :, :, None, None]
        return np.clip(0.5 - (distance.max(axis=2) - grow) * np.float32(self._scale), 0, 1)


def render_states(
    states: ArrayLike,
    image_size: int = 64,
    variation: Variation | Sequence[Variation] | None = None,
    goals: ArrayLike | None = None,
) -> Frames:
    """Draw states as the environment's pixel observations.

    Args:
        states: (B, 10).
        image_size: S.
        variation: looks, one for all or one for each state; by default gym-pusht's.
        goals: goal states (B, 10) or poses (B, 3); one row serves all states; None draws no goal.

    Returns:
        uint8 (B, S, S, 3), RGB.
    """
    renderer = Renderer(image_size, variation or Variation())
    return renderer.draw(renderer.background(goals, 1), np.atleast_2d(np.asarray(states, float)))


def _block_pose(goals: NDArray[np.float64]) -> NDArray[np.float64]:
    goals = np.atleast_2d(goals)
    return goals if goals.shape[1] == 3 else goals[:, 2:5]


def _blend(frames: Frames, y: NDArray, x: NDArray, weights: Sequence[NDArray], colors: Sequence[NDArray]) -> None:
    """Paint flat-coloured layers, weights (B, W, W) and colours (B, 3), in order into the frames' windows."""
    rows = np.arange(len(frames))[:, None, None], y[:, :, None], x[:, None, :]
    pixels = frames[rows].astype(np.float32)
    for weight, color in zip(weights, colors, strict=True):
        pixels += weight[..., None].astype(np.float32) * (color[:, None, None] - pixels)
    frames[rows] = (pixels + 0.5).astype(np.uint8)


def _look(variations: Sequence[Variation]) -> _Look:
    shapes = [v.shape for v in variations]
    count = max(len(s.rectangles) for s in shapes)
    centers, halves = np.zeros((2, len(shapes), count, 2), np.float32)
    halves -= 1e6
    for i, shape in enumerate(shapes):
        centers[i, : len(shape.centers)], halves[i, : len(shape.halves)] = shape.centers, shape.halves

    def stacked(values: list) -> Float:
        return np.array(values, np.float32)

    return _Look(
        centers=centers,
        halves=halves,
        cog=stacked([s.center_of_gravity for s in shapes]),
        block_radius=max(s.radius for s in shapes),
        block_colors=stacked([[v.block_color] + [v.stem_color or v.block_color] * (count - 1) for v in variations]),
        goal_colors=stacked([v.goal_color for v in variations]),
        goal_visible=np.array([v.goal_visible for v in variations]),
        agent_colors=stacked([v.agent_color for v in variations]),
        agent_radii=stacked([v.agent_radius for v in variations]),
        background_colors=stacked([v.background_color for v in variations]),
        frame_colors=stacked([v.frame_color for v in variations]),
    )
