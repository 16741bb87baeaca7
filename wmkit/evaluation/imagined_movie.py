"""Start, imagined future, what really came, and goal, side by side: a GIF of an agent that plans with a model.

Of each plan the picture decoder draws every imagined latent for as long as a model step takes: the picture is what is
expected at that step's end. A plan is shown to its end, however often the agent plans anew meanwhile; then comes the
one by which it acts at that moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..tasks import Task
from .agents import ModelAgent, Start
from .manifest import Manifest
from .movie import render_pairs
from .picture_decoder import PictureDecoder
from .runner import Outcomes, evaluate

__all__ = ["Imagining", "imagined_movie", "plan_shown", "run_imagining"]

_INK, _MUTED, _PAPER, _FRAME = (33, 37, 41), (107, 117, 133), (255, 255, 255), (206, 212, 218)
_GREEN, _RED = (38, 128, 66), (190, 45, 40)
_TITLES = ("start", "imagined", "real", "goal")
_GAP = 6
_HELD = 20
"""Frames for which the end of an episode stays."""


@dataclass(frozen=True)
class Imagining:
    """What an agent did on P pairs, and what it imagined.

    Attributes:
        outcomes: of the P pairs.
        plans: for each pair environment step -> (H, D), the latents that the plan made then imagines.
        action_repeat: environment steps of a model step.
    """

    outcomes: Outcomes
    plans: Sequence[Mapping[int, Tensor]]
    action_repeat: int


class _Watched:
    """An agent whose plans are kept; for one environment at a time."""

    def __init__(self, agent: ModelAgent) -> None:
        self.name, self.observes, self._agent = agent.name, agent.observes, agent
        self.plans: list[dict[int, Tensor]] = []
        self._step = 0
        self._known: object = None

    def reset(self, start: Start) -> None:
        self._agent.reset(start)
        self.plans.append({})
        self._step = 0

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        actions, plan = self._agent.act(observations, states), self._agent.controller.plan
        if plan is not self._known:
            self.plans[-1][self._step], self._known = plan.latents[0].float().cpu(), plan
        self._step += 1
        return actions


def run_imagining(task: Task, manifest: Manifest, agent: ModelAgent, image_size: int = 64) -> Imagining:
    """Evaluate an agent on every pair, one after the other, and keep its plans.

    Args:
        task: the environment.
        manifest: the pairs.
        agent: with a controller of one environment.
        image_size: pixels of what it observes.

    Raises:
        UserError: the manifest is for another environment.
    """
    watched = _Watched(agent)
    outcomes = evaluate(task, manifest, watched, image_size=image_size, batch=1)
    return Imagining(outcomes, watched.plans, agent.controller.model.spec.action_repeat)


def plan_shown(plans: Mapping[int, Tensor], steps: int, action_repeat: int) -> Tensor:
    """Return the imagined latents (steps, D) that are shown at environment steps 0, 1, and so on.

    Args:
        plans: environment step -> (H, D), latents a model step apart; there is one for step 0.
        steps: how many.
        action_repeat: environment steps of a model step.
    """
    begun, rows = 0, []
    for step in range(steps):
        if step >= begun + action_repeat * len(plans[begun]):
            begun = max(made for made in plans if made <= step)
        rows.append(plans[begun][min((step - begun) // action_repeat, len(plans[begun]) - 1)])
    return torch.stack(rows)


def imagined_movie(
    task: Task,
    manifest: Manifest,
    seen: Imagining,
    decoder: PictureDecoder,
    *,
    image_size: int = 160,
    stride: int = 1,
) -> list[np.ndarray]:
    """Return the frames (height, width, 3) uint8 of all pairs, one pair after the other, each until success or budget.

    Args:
        task: the environment.
        manifest: the pairs.
        seen: what happened on them.
        decoder: of the model's latents.
        image_size: pixels of one picture.
        stride: environment steps between frames.
    """
    frames, outcomes = [], seen.outcomes
    for row, plans in enumerate(seen.plans):
        hit = int(outcomes.first_success[row])
        end = hit if hit > 0 else int(manifest.budgets[row])
        steps = sorted({*range(0, end, stride), end})
        real, goals = render_pairs(task, manifest, [row], outcomes.states[[row]][:, steps], image_size)
        imagined = decoder.pictures(plan_shown(plans, end + 1, seen.action_repeat)[steps]).numpy()
        result = (f"reached, step {hit}", _GREEN) if hit > 0 else (f"not reached in {end} steps", _RED)
        for index, step in enumerate(steps):
            note = result if step == end else (f"step {step}", _MUTED)
            pictures = (real[0, 0], imagined[index], real[0, index], goals[0])
            frames.append(_sheet(pictures, image_size, f"{row + 1} / {len(seen.plans)}", note))
        frames += [frames[-1]] * _HELD
    return frames


def _sheet(pictures: Sequence[np.ndarray], size: int, left: str, note: tuple[str, tuple[int, int, int]]) -> np.ndarray:
    """Lay out one frame: a title over each picture, which pair it is at left, and what happens under the real one."""
    height = max(10, size // 11)
    font, line = ImageFont.load_default(size=height), round(1.6 * height)
    sheet = Image.new("RGB", (len(pictures) * (size + _GAP) + _GAP, size + 2 * line), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (title, picture) in enumerate(zip(_TITLES, pictures, strict=True)):
        x = _GAP + column * (size + _GAP)
        draw.text((x + size / 2, line / 2), title, fill=_INK, font=font, anchor="mm")
        sheet.paste(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC), (x, line))
        draw.rectangle((x, line, x + size - 1, line + size - 1), outline=_FRAME)
    y = 1.5 * line + size
    draw.text((_GAP, y), left, fill=_MUTED, font=font, anchor="lm")
    draw.text((_GAP + 2.5 * size + 2 * _GAP, y), note[0], fill=note[1], font=font, anchor="mm")
    return np.asarray(sheet)
