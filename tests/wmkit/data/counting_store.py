"""A store whose numbers say where they stand: frame t of episode e holds e and t."""

from pathlib import Path

import numpy as np

from wmkit.data.episodes import EpisodeStore
from wmkit.data.metadata import ColumnSpec, Metadata
from wmkit.data.shards import Episode, write_shard

COLUMNS = (
    ColumnSpec("pixels", "frame", "uint8", (4, 4, 3), "0 to 255, RGB"),
    ColumnSpec("state", "frame", "float64", (2,), "1, 1", ("episode", "frame")),
    ColumnSpec("success", "frame", "bool", (), ""),
    ColumnSpec("action", "step", "float32", (2,), "environment units"),
    ColumnSpec("goal_state", "episode", "float64", (2,), "1, 1"),
    ColumnSpec("attempt", "episode", "int64", (), "1"),
)


def counting_episode(index: int, length: int) -> Episode:
    """Make an episode: state (index, t), pixels t, action (index, t) / 1000."""
    time = np.arange(length + 1)
    state = np.stack([np.full(length + 1, index), time], axis=1).astype(np.float64)
    columns = {
        "pixels": np.broadcast_to(time[:, None, None, None] % 256, (length + 1, 4, 4, 3)).astype(np.uint8),
        "state": state,
        "success": time == length,
        "action": (state[:-1] / 1000).astype(np.float32),
        "goal_state": state[-1],
        "attempt": np.array(0),
    }
    return Episode(index, columns)


def counting_metadata(episodes: int, per_shard: int = 3, seed: int = 0) -> Metadata:
    """Describe a store of counting episodes."""
    return Metadata(
        task="counting",
        env={},
        episodes=episodes,
        episodes_per_shard=per_shard,
        seed=seed,
        policy="expert",
        noise=0.0,
        linger=0,
        max_steps=1000,
        seconds_per_step=0.1,
        action_low=(-1.0, -1.0),
        action_high=(1.0, 1.0),
        action_repeat=1,
        columns=COLUMNS,
    )


def write_counting_store(folder: Path, lengths: list[int], per_shard: int = 3, seed: int = 0) -> EpisodeStore:
    """Write counting episodes of the given lengths, and open them."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = counting_metadata(len(lengths), per_shard, seed)
    metadata.save(folder)
    for shard in range(metadata.shards):
        episodes = [counting_episode(index, lengths[index]) for index in metadata.shard_episodes(shard)]
        write_shard(folder, shard, metadata, episodes)
    return EpisodeStore.open(folder)
