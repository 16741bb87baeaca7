"""Presets that train several parts of a run, each into a folder of its own."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import registry
from ..data.latents import LatentCache
from ..data.metadata import Metadata
from ..errors import UserError
from ..tasks import Task

__all__ = ["DMPC", "PAPER_DMPC", "CompositePreset", "Part"]


@dataclass(frozen=True)
class Part:
    """One part of a run, ready to be trained.

    Attributes:
        name: of the part and of its folder in the run.
        preset: registered name of its preset.
        recipe: device -> what the training loop takes.
    """

    name: str
    preset: str
    recipe: Callable[[str], Any]


@dataclass(frozen=True)
class CompositePreset:
    """Presets that together make a run.

    Attributes:
        name: of the preset.
        presets: part -> registered name of its preset. A "value" is trained for tasks with rewards alone.
    """

    name: str
    presets: Mapping[str, str]

    def describe(self) -> str:
        """Return one line."""
        return f"{self.name}: {', '.join(f'{part} ({preset})' for part, preset in self.presets.items())}"

    def parts(self, data: Path, overrides: Mapping[str, Any]) -> list[Part]:
        """Return the parts in the order in which they are trained.

        Args:
            data: from `wmkit collect`.
            overrides: "dynamics.steps" for a setting of one part; "episodes" for a setting of all parts that have it.

        Raises:
            UserError: a part or a setting is unknown.
        """
        task: Task = registry.load("environments", Metadata.load(data).task)
        names = [name for name in self.presets if name != "value" or task.rewards]
        presets = {name: registry.load("presets", self.presets[name]) for name in names}
        chosen = _divided(presets, overrides)
        cache: LatentCache = {}
        return [
            Part(name, self.presets[name], _maker(preset, data, chosen[name], cache))
            for name, preset in presets.items()
        ]


def _maker(preset: Any, data: Path, overrides: Mapping[str, Any], cache: LatentCache) -> Callable[[str], Any]:
    """Return what builds a part's recipe on a device; nothing is read before it is called."""
    shared = {"cache": cache} if "cache" in inspect.signature(preset.recipe).parameters else {}
    return lambda device: preset.recipe(data, device, overrides, **shared)


def _divided(presets: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each part's settings by name of the part. Raises UserError for one that no part has."""
    fields = {part: {field.name for field in dataclasses.fields(preset)} for part, preset in presets.items()}
    divided: dict[str, dict[str, Any]] = {part: {} for part in presets}
    for name, value in overrides.items():
        first, _, rest = name.partition(".")
        if first in presets and rest:
            divided[first][rest] = value
            continue
        having = [part for part in presets if first in fields[part]]
        if not having:
            known = sorted(set().union(*fields.values()))
            raise UserError(
                f"unknown setting {name!r}; give PART.name with a part of {', '.join(presets)}, or for all "
                f"parts one of {', '.join(known)}"
            )
        for part in having:
            divided[part][name] = value
    return divided


DMPC = CompositePreset(
    "dmpc", {"dynamics": "diffusion-dynamics", "proposal": "diffusion-proposal", "value": "terminal-value"}
)
"""Diffusion dynamics, diffusion proposal and, where there are rewards, a value; minutes on a CPU."""

PAPER_DMPC = CompositePreset(
    "dmpc-paper",
    {"dynamics": "dmpc-diffusion-dynamics", "proposal": "dmpc-diffusion-proposal", "value": "terminal-value"},
)
"""The same with networks of the paper's size."""
