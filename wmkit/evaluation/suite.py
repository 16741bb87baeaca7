"""From a model's folder to its pairs, probes and the agents it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contracts import WorldModel
from ..data.episodes import EpisodeStore
from ..data.splits import load_splits
from ..errors import UserError
from ..tasks import Task
from . import agents
from .held_out import check_held_out, read_recordings
from .manifest import HELD_OUT, Manifest, load_manifest
from .protocols import PROTOCOLS, draw_manifest

__all__ = ["Pairs", "bounds", "floors", "obtain", "probe", "shipped_manifest"]

_PROBE_EPISODES, _PROBE_STRIDE = 60, 3


@dataclass(frozen=True)
class Pairs:
    """The pairs of an evaluation and what they stand on.

    Attributes:
        manifest: the pairs.
        store: the data set, None where the manifest came alone.
        label: one line on where the pairs are from, for the table.
    """

    manifest: Manifest
    store: EpisodeStore | None
    label: str


def shipped_manifest(folder: Path, task: Task, protocol: str) -> Path:
    """Return where a model's folder keeps the manifest of a protocol."""
    return folder / f"manifest-{task.name}-{protocol}.json"


def obtain(
    task: Task,
    protocol: str,
    count: int,
    *,
    seed: int = 0,
    rule: str | None = None,
    data: Path | None = None,
    path: Path | None = None,
    folder: Path | None = None,
    training: Mapping[str, Any] | None = None,
) -> Pairs:
    """Find or draw the pairs: from a manifest file, from a data set, or from the manifest in the model's folder.

    Args:
        task: the environment.
        protocol: its name.
        count: P.
        seed: of the draw.
        rule: success rule; None takes the protocol's.
        data: folder of the data set.
        path: a manifest file.
        folder: the model's folder, whose own manifest serves where neither of the two above is given.
        training: what the model says of its data, for `check_held_out`.

    Raises:
        UserError: the task has no goals, no pairs can be had, or training may have seen them.
    """
    if not task.has_goals:
        raise UserError(f"{task.name} has rewards ({', '.join(task.rewards)}) and no goals, which all protocols need")
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown --protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    store = None if data is None else EpisodeStore.open(data)
    if path is None and store is None and folder is not None:
        own = shipped_manifest(folder, task, protocol)
        path = own if own.exists() else None
    if path is not None:
        manifest = load_manifest(path).first(count)
        if (manifest.environment, manifest.protocol) != (task.name, protocol):
            found = f"--env {manifest.environment} --protocol {manifest.protocol}"
            raise UserError(f"{path} is for {found}; ask for those")
    else:
        manifest = _draw(task, protocol, count, seed, rule, store)
    return Pairs(manifest, store, check_held_out(manifest, training or {}))


def _draw(task: Task, protocol: str, count: int, seed: int, rule: str | None, store: EpisodeStore | None) -> Manifest:
    """Draw pairs from held-out episodes, or from the environment's resets."""
    kind = PROTOCOLS[protocol]
    if store is None or kind.source == "reset":
        return draw_manifest(task, kind, count, seed, rule=rule)
    if store.metadata.task != task.name:
        raise UserError(f"{store.folder} holds episodes of {store.metadata.task}, not of --env {task.name}")
    splits = load_splits(store)
    recordings = read_recordings(store, splits)
    return draw_manifest(
        task,
        kind,
        count,
        seed,
        recordings=recordings,
        fingerprint=store.fingerprint,
        split_hash=splits.hashes[HELD_OUT],
        rule=rule,
    )


def floors(task: Task, seed: int = 0) -> list[agents.Agent]:
    """Return the agents that any model has to beat."""
    return [agents.RandomAgent(task, seed), agents.HoldAgent(task)]


def bounds(task: Task, manifest: Manifest, seed: int = 0, *, rule: str | None = None) -> list[agents.Agent]:
    """Return the agents that know more than a model: the recording, if there is one, the expert, a simulator's plan.

    Args:
        task: the environment; without a simulator or a distance there is no plan through it.
        manifest: the pairs.
        seed: of the expert and of the plans.
        rule: success rule; None takes the manifest's.
    """
    recorded = all(len(pair.actions) for pair in manifest.pairs)
    found: list[agents.Agent] = [agents.ReplayAgent(task)] if recorded else []
    found.append(agents.ExpertAgent(task, seed))
    if task.simulator is not None and task.distance is not None:
        from .upper_bound import SimulatorAgent

        found.append(SimulatorAgent(task, rule or manifest.rule, seed))
    return found


def probe(model: WorldModel, task: Task, store: EpisodeStore) -> dict[str, float]:
    """Return how well a linear map of the latent gives each of the task's probes on held-out frames: R2 by name.

    Args:
        model: reads one observation.
        task: names the probes.
        store: the data set.

    Raises:
        UserError: the data do not fit the model, or fewer than two episodes are held out.
    """
    from ..training.diagnostics import linear_probe
    from .frames import check_fit, read_frames

    check_fit(model, store)
    frames = read_frames(model, task, store, load_splits(store), HELD_OUT, _PROBE_EPISODES, _PROBE_STRIDE)
    return linear_probe(frames.latents, frames.episodes, frames.targets)
