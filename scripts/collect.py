"""Record episodes of an environment.

For example:

    wmkit collect two-room --episodes 300 --out data/two-room --env door=random
    wmkit collect walker --task run --quality medium --episodes 20 --out data/walker --workers 2
    wmkit collect pusht --episodes 1000 --policy expert --noise 0.2 --out data/pusht --workers 2 --seed 0
    wmkit collect walker --proposal runs/walker --noise 0.2 --episodes 30 --out data/weak --env variation=weak_ankle

An interrupted command, repeated, goes on where it stood; with more episodes it extends what is there.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from wmkit.errors import UserError

__all__ = ["Collect", "run"]


@dataclass(frozen=True)
class Collect:
    """Options of `wmkit collect`."""

    environment: tyro.conf.Positional[str]
    """Environment: a registered name (see `wmkit info`), or module:attribute of a Task."""
    out: Path
    """Folder to write to."""
    episodes: int = 1000
    """Episodes that the folder shall hold."""
    policy: Literal["expert", "random"] = "expert"
    """Who acts: the task's expert, or smooth random actions."""
    task: str | None = None
    """Reward to collect where there are several, e.g. stand, walk or run; by default the environment's first."""
    quality: str | None = None
    """How well the expert does, where it knows several: e.g. expert, medium, or mixed (drawn for each episode)."""
    noise: float = 0.0
    """Standard deviation of the noise on the expert's or proposal's actions, as a share of half the action range."""
    proposal: str | None = None
    """A run, or a proposal's folder: let this trained proposal act, in place of the policy."""
    seed: int = 0
    """What all randomness derives from."""
    workers: int = 1
    """Processes; the data are the same for any number of them."""
    image_size: int = 64
    """Side of the frames, pixels."""
    linger: int = 5
    """Environment steps recorded after success."""
    max_steps: int | None = None
    """Longest episode, environment steps; by default the task's."""
    episodes_per_shard: int = 25
    """Episodes in one file."""
    env: tuple[str, ...] = field(default_factory=tuple)
    """More keywords for the environment, each key=value, e.g. door=random."""


def run(config: Collect) -> None:
    """Collect, with a progress bar.

    Raises:
        UserError: see `wmkit.data.collect.collect`.
        SystemExit: 130 after Ctrl-C.
    """
    from tqdm import tqdm

    from wmkit.data.collect import collect
    from wmkit.data.recording import Settings

    if config.proposal is not None and config.policy == "random":
        raise UserError("--policy random and --proposal are two policies; give one")
    env = {"image_size": config.image_size, **_keywords(config.env)}
    settings = Settings(
        config.environment,
        config.policy if config.proposal is None else "proposal",
        config.noise,
        config.seed,
        config.linger,
        config.max_steps,
        env,
        config.task,
        config.quality,
        config.proposal,
    )
    bar: list[Any] = []

    def advance(count: int) -> None:
        """Draw the bar from the first episode on, so that a refused command shows none."""
        if count and not bar:
            bar.append(tqdm(total=config.episodes, unit="episode", desc=f"collect {config.environment}"))
        if count:
            bar[0].update(count)

    try:
        report = collect(
            settings,
            config.out,
            config.episodes,
            workers=config.workers,
            episodes_per_shard=config.episodes_per_shard,
            progress=advance,
        )
    except KeyboardInterrupt:
        print(f"interrupted; finished shards are kept in {config.out}: repeat the command to go on")
        raise SystemExit(130) from None
    finally:
        for drawn in bar:
            drawn.close()
    store = report.store
    print(
        f"{config.out}: {len(store)} episodes ({report.resumed} were there), {int(store.lengths.sum())} steps, "
        f"{report.redrawn} redrawn, fingerprint {store.fingerprint[:12]}"
    )


def _keywords(words: tuple[str, ...]) -> dict[str, Any]:
    """Turn key=value words into keywords; values are read as JSON, and otherwise as text."""
    import json

    keywords: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key.isidentifier() and equals) or key in keywords:
            raise UserError(f"--env {word!r} must read key=value, each key once, e.g. door=random")
        try:
            keywords[key] = json.loads(value)
        except ValueError:
            keywords[key] = value
    return keywords
