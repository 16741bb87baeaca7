r"""Calibrate a model's surprise monitor on nominal episodes, with a promise about false alarms.

    wmkit calibrate runs/pusht --data data/pusht-nominal --false-alarms 0.01
    wmkit calibrate runs/walker --data data/walker --false-alarms 0.01 --out runs/walker-monitor
    wmkit calibrate runs/robot --data data/robot --source recorded

What is normal depends on who acts. By default the model's own controller plays between starts and goals of the data's
episodes, in the environment that they are of; with `--source recorded`, and where there are no goals, the recorded
episodes themselves are what is normal: record them with the controller that the monitor will watch. Episodes that the
model was trained on are left out. The calibration is saved in the model's folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from wmkit.errors import UserError

from .assembly import check_task, controller_maker, load_model, resolve_planning
from .surprise_setup import observed

if TYPE_CHECKING:
    import numpy as np

    from wmkit.data.episodes import EpisodeStore
    from wmkit.monitor.signals import Raw, Signals
    from wmkit.tasks import Task

__all__ = ["Calibrate", "run"]


@dataclass(frozen=True)
class Calibrate:
    """Options of `wmkit calibrate`."""

    model: tyro.conf.Positional[str]
    """Folder of a model or of a run of `wmkit train dmpc`, pretrained:NAME, or owner/name on the Hugging Face hub."""
    data: Path
    """Folder of nominal episodes; of the model's own training data only those it was not trained on count."""
    false_alarms: float = 0.01
    """Promised share of the steps of new nominal episodes whose score is above the threshold."""
    false_alarms_episode: float = 0.05
    """Promised chance of any alarm in a new nominal episode, for monitors asked for that."""
    source: Literal["auto", "played", "recorded"] = "auto"
    """Whether the model's controller plays, or the recorded episodes count; auto plays where there are goals and the
    data were not recorded by a controller."""
    protocol: str = "long50"
    """How starts and goals are drawn from the episodes for play; an episode ends with success or its budget."""
    episodes: int | None = None
    """Episodes to use; by default all."""
    k: int = 3
    """Model steps of the longer prediction; 0 for none."""
    seed: int = 0
    """Order of the episodes, draw of the pairs, and seed of the planner."""
    batch: int = 100
    """Episodes played side by side."""
    out: Path | None = None
    """Folder for the calibration; by default the model's."""


def run(config: Calibrate) -> None:
    """Calibrate and save.

    Raises:
        UserError: data and model do not fit, or there are too few episodes for the rate (the text says how many).
    """
    from wmkit.data.episodes import EpisodeStore
    from wmkit.data.recording import load_task
    from wmkit.monitor.calibration import calibrate
    from wmkit.monitor.conformal import episodes_needed
    from wmkit.monitor.signals import Signals

    for name, least in (("episodes", 1), ("batch", 1), ("seed", 0)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise UserError(f"--{name} must be {least} or more, not {value}")
    for rate in (config.false_alarms, config.false_alarms_episode):
        _within(episodes_needed, rate)
    model, folder = load_model(_part(config.model))
    out = config.out or folder
    store = EpisodeStore.open(config.data)
    task = load_task(store.metadata.task)
    signals = _within(lambda k: Signals(model, k=k), config.k)
    metadata = getattr(model, "metadata", {})
    check_task(model, config.model, task)
    chosen, label = _unseen(store, metadata, config.seed)
    chosen = chosen[: config.episodes]
    _enough(len(chosen), config, label)
    played = config.source == "played" or (
        config.source == "auto" and task.has_goals and store.metadata.policy != "controller"
    )
    episodes, facts = (_play if played else _read)(config, task, store, signals, chosen, metadata)
    found = calibrate(
        episodes,
        model,
        per_step=config.false_alarms,
        per_episode=config.false_alarms_episode,
        k=config.k,
        facts={"task": task.name, "data": {"fingerprint": store.fingerprint, "episodes": label}, **facts},
    )
    out.mkdir(parents=True, exist_ok=True)
    found.save(out)
    counts, share = found.facts["episodes"], found.facts["share_above"]
    print(
        f"{out}: calibrated on {label}, {facts['source']}: {counts['normal']} episodes say what is normal, "
        f"{counts['thresholds']} set the thresholds; {share:.2%} of their steps are above it, "
        f"{config.false_alarms:.2%} promised"
    )
    if found.episode_threshold is None:
        print(f"no threshold for a rate per episode of {config.false_alarms_episode:g}: too few episodes")


def _part(name: str) -> str:
    """Return the dynamics of a run with several parts, else the name as it is."""
    part = Path(name) / "dynamics"
    return str(part) if (part / "config.json").is_file() else name


def _within(check: Any, value: Any) -> Any:
    """Return what `check` says of an option's value; a ValueError becomes the user's."""
    try:
        return check(value)
    except ValueError as error:
        raise UserError(str(error)) from None


def _unseen(store: "EpisodeStore", metadata: Mapping[str, Any], seed: int) -> "tuple[list[int], str]":
    """Return the positions of episodes that the model was not trained on, in random order, and what they are."""
    import numpy as np

    from wmkit.data.splits import load_splits

    data, splits = metadata.get("data") or {}, load_splits(store)
    same = data.get("fingerprint") == store.fingerprint
    if same and (data.get("splits") or {}).get("validation") != splits.hashes["validation"]:
        raise UserError(f"the model was trained on another split of {store.folder}; give the data's own splits.json")
    numbers = np.asarray(splits.validation) if same else store.episodes
    positions = np.flatnonzero(np.isin(store.episodes, numbers))
    text = "validation episodes of the training data" if same else "episodes of other data than the training's"
    return np.random.default_rng(seed).permutation(positions).tolist(), text


def _enough(count: int, config: Calibrate, label: str) -> None:
    """Raise UserError where there are fewer episodes than the rate per step needs."""
    from wmkit.monitor.calibration import episodes_for

    needed = episodes_for(config.false_alarms)
    if count < needed:
        raise UserError(
            f"a false-alarm rate of {config.false_alarms:g} needs {needed} nominal episodes, and {config.data} has "
            f"{count} ({label}); collect more, or ask for a higher rate with --false-alarms"
        )


def _read(
    config: Calibrate,
    task: "Task",
    store: "EpisodeStore",
    signals: "Signals",
    chosen: list[int],
    metadata: Mapping[str, Any],
) -> "tuple[list[list[Raw]], dict[str, Any]]":
    """Return the recorded episodes."""
    from tqdm import tqdm

    from wmkit.monitor.traces import recorded

    with tqdm(total=len(chosen), unit="episode", desc="read", leave=False) as bar:
        found = recorded(signals, store, chosen, progress=lambda done, total: _advance(bar, done))
    return found, {"source": f"recorded by the {store.metadata.policy} policy"}


def _play(
    config: Calibrate,
    task: "Task",
    store: "EpisodeStore",
    signals: "Signals",
    chosen: list[int],
    metadata: Mapping[str, Any],
) -> "tuple[list[list[Raw]], dict[str, Any]]":
    """Let the model's controller play between starts and goals of the episodes."""
    from tqdm import tqdm

    from wmkit.evaluation.agents import ModelAgent
    from wmkit.evaluation.protocols import PROTOCOLS, Recording, draw_manifest
    from wmkit.evaluation.runner import begin_pairs
    from wmkit.monitor.traces import Table, played

    if not task.has_goals:
        raise UserError(f"{task.name} has no goals to play for; use --source recorded")
    if config.protocol not in PROTOCOLS:
        raise UserError(f"unknown --protocol {config.protocol!r}; known: {', '.join(PROTOCOLS)}")
    recordings = [Recording(*_recording(store, position)) for position in chosen]
    manifest = draw_manifest(
        task, PROTOCOLS[config.protocol], len(chosen), config.seed, recordings=recordings, split="nominal"
    )
    planning = resolve_planning(metadata, {})
    maker = controller_maker(signals.model, planning, config.seed)
    seen_as = observed(signals.model)
    pixels = signals.model.spec.observations.get("pixels")
    size = 64 if pixels is None else pixels.shape[0]

    def start(rows: "np.ndarray") -> Any:
        agent = ModelAgent(maker, observes=seen_as, shrink=planning["shrink"])
        env = task.make_vector(num_envs=len(rows), obs_type=agent.observes, image_size=size)
        seen, begun = begin_pairs(env, manifest, rows)
        agent.reset(begun)
        return Table(
            env,
            agent.controller,
            seen,
            lambda states: task.success(states, begun.goals, manifest.rule, False) | ~task.valid(states),
        )

    with tqdm(total=len(chosen), unit="episode", desc="play", leave=False) as bar:
        found = played(
            signals,
            start,
            manifest.budgets,
            batch=config.batch,
            progress=lambda done, total: _advance(bar, done),
        )
    return found, {"source": f"played by the model's controller, protocol {config.protocol}"}


def _advance(bar: Any, done: int) -> None:
    bar.update(done - bar.n)


def _recording(store: "EpisodeStore", position: int) -> tuple[Any, ...]:
    """Return one episode's number, states, actions and scene."""
    scene = {name: store.values(name)[position] for name in store.metadata.scene}
    states = store.read("state", [position]).astype("float64")
    return int(store.episodes[position]), states, store.read("action", [position]), scene
