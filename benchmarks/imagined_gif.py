"""A GIF of what a model imagines beside what comes: start, imagined future, real outcome and goal of held-out pairs.

    python benchmarks/imagined_gif.py pretrained:pushcube-tiny --data data/push-cube --seed 7 --out docs/push_cube.gif
    python benchmarks/imagined_gif.py runs/pusht --data data/pusht --protocol long50 --out imagined.gif

The pairs are the first ones that `wmkit eval` with the same data, protocol and seed takes, success or not, or those
that `--rows` names; the model plans with its own settings. A decoder for the pictures is fitted to the data's training
episodes, a minute or two on one core; no plan sees it. `imagined_movie` says which latents are shown when.
"""

# pyright: reportMissingImports=false

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import load_task
from wmkit.data.splits import load_splits
from wmkit.evaluation import ModelAgent, suite
from wmkit.evaluation.frames import check_fit, read_frames
from wmkit.evaluation.imagined_movie import imagined_movie, run_imagining
from wmkit.evaluation.movie import gif_bytes
from wmkit.evaluation.picture_decoder import PictureDecoder
from wmkit.scripts.assembly import controller_maker, load_model, resolve_planning

_PLAYED = 0.5
"""Seconds of the GIF for each second of simulated time."""


@dataclass(frozen=True)
class Args:
    """Options."""

    model: tyro.conf.Positional[str]
    """Folder of a run or model, or pretrained:NAME."""
    data: Path
    """Data set of the model's task, whose held-out episodes the pairs come from."""
    out: Path
    """The GIF."""
    protocol: str = "short"
    """Name of the evaluation protocol."""
    rows: tuple[int, ...] = (0, 1, 2, 3)
    """Which of the protocol's pairs, one after the other."""
    episodes: int = 300
    """Training episodes that the decoder is fitted to, at most."""
    decoder_steps: int = 2500
    """Gradient steps of the decoder."""
    size: int = 160
    """Pixels of one picture."""
    stride: int = 1
    """Environment steps between frames."""
    seed: int = 0
    """Of the pairs, the planner and the decoder."""


def main(args: Args) -> None:
    """Write the GIF and say what is on it."""
    model, folder = load_model(args.model)
    store = EpisodeStore.open(args.data)
    task, metadata = load_task(store.metadata.task), model.metadata
    training = metadata.get("data")
    decoder, count = fitted(args, model, task, store), 1 + max(args.rows)
    found = suite.obtain(task, args.protocol, count, seed=args.seed, data=args.data, folder=folder, training=training)
    manifest = replace(found.manifest, pairs=tuple(found.manifest.pairs[row] for row in args.rows))
    planning = resolve_planning(metadata, {})
    agent = ModelAgent(controller_maker(model, planning, args.seed), shrink=planning["shrink"])
    seen = run_imagining(task, manifest, agent, model.spec.observations["pixels"].shape[0])
    movie = imagined_movie(task, manifest, seen, decoder, image_size=args.size, stride=args.stride)
    data = gif_bytes(movie, _PLAYED * args.stride * task.seconds_per_step)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(data)
    reached = int(seen.outcomes.success.sum())
    print(f"{args.out}: {len(data) / 2**20:.2f} MiB, {reached} of {len(args.rows)} reached; {found.label}")


def fitted(args: Args, model: Any, task: Any, store: EpisodeStore) -> PictureDecoder:
    """Return a decoder of the model's latents, fitted to training episodes."""
    check_fit(model, store)
    frames = read_frames(model, task, store, load_splits(store), "train", args.episodes, model.spec.action_repeat)
    if frames.pixels is None:
        raise SystemExit(f"{args.model} reads no pixels, so there are no pictures of what it imagines")
    return PictureDecoder.fit(frames.latents, frames.pixels, args.decoder_steps, args.seed)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
