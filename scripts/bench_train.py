"""Time one step of training: loss, gradients, clipping and optimiser, in frames a second.

For example:

    wmkit bench train
    wmkit bench train --preset paper --device cuda --batch 128
    wmkit bench train --peer stable-worldmodel --peer-python PEER/bin/python --out train.json

The model is LeWM as published ("paper": ViT-tiny/14 at 224 pixels) or a small one of the same form ("tiny": 64 pixels,
patches of 8, width 96), with random weights; the loss that of its training script: teacher forcing, and SIGReg with
1024 projections and 17 knots, weight 0.09; gradients clipped to norm 1, AdamW. With a peer, both train from the same
weights on the same batch, and first their losses and gradients are compared under the same projections. They take
turns. The peer's images are normalised before its clock starts, as its loader does; wmkit's come as uint8. Beside
"tiny" stands wmkit's own preset lewm-tiny, another network for frames of the same size: its frames a second alone.
"""

import contextlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wmkit.errors import UserError
from wmkit.provenance import provenance

from .bench_report import beside, check_machine, check_unused, finish, torches, use_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wmkit.timing import Peer, Timed

    from .train_sides import OurSide

__all__ = ["TrainBench", "run"]

_SEED = 7
_CHECKED = 1e-4
"""Largest relative difference of the two losses in float32."""
_OTHER = "wmkit lewm-tiny, another network"


@dataclass(frozen=True)
class TrainBench:
    """What `wmkit bench train` is asked for."""

    preset: Literal["tiny", "paper"] = "tiny"
    """Size of the model and its images."""
    batch: int = 32
    """Clips of a step."""
    frames: int = 4
    """Frames of a clip, at most 4: the predictor looks back on 3."""
    rounds: int = 7
    """Turns that are timed; two more before them are not."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where all train."""
    threads: int | None = None
    """CPU threads of each contestant; by default torch's choice."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Precisions, of the peer too; bfloat16 is autocast."""
    ways: tuple[Literal["eager", "compiled"], ...] | None = None
    """With torch.compile or without; by default eager on the CPU, where it is the faster one, and both on a GPU."""
    peer: str | None = None
    """Another package to measure beside, e.g. stable-worldmodel."""
    peer_python: Path | None = None
    """Its Python; by default WMKIT_PEER_PYTHON names it."""
    out: Path | None = None
    """Write the result to this JSON file."""
    json: bool = False
    """Print the result as one JSON object instead of a table."""


def run(config: TrainBench) -> None:
    """Measure and print.

    Raises:
        UserError: options out of range; no peer, one that fails, or one whose loss is another.
    """
    _check(config)
    result = _measure(config)
    finish(result, config.out, config.json, _table(result))


def _check(config: TrainBench) -> None:
    """Raise UserError for an option out of its range."""
    for name, least in (("batch", 2), ("frames", 2), ("rounds", 1)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise UserError(f"--{name} must be at least {least}, not {value}")
    if config.frames > 4:
        raise UserError(f"--frames is {config.frames}; the predictor looks back on 3 frames, so at most 4")
    for name in ("dtypes", "ways"):
        if getattr(config, name) == ():
            raise UserError(f"--{name} needs at least one")
    if config.peer is None:
        check_unused(config, ("peer_python",), "only with --peer")
    check_machine(config)


def _measure(config: TrainBench) -> dict[str, Any]:
    """Return the result, as JSON holds it."""
    from wmkit.timing import take_turns

    with _sides(config) as (ours, peer, facts):
        agreement = None if peer is None else _agree(ours.check(_SEED), peer.ask("loss", seed=_SEED))
        contestants: dict[str, Callable[[], float]] = {}
        if peer is not None:
            contestants |= {f"{config.peer} {dtype}": peer.seconds("step", dtype=dtype) for dtype in config.dtypes}
        for dtype in config.dtypes:
            for way in config.ways or (("eager",) if config.device == "cpu" else ("eager", "compiled")):
                contestants[f"wmkit {dtype} {way}"] = ours.trainer(dtype, way)
        work = dict.fromkeys(contestants, float(config.batch * config.frames))
        if config.preset == "tiny":
            contestants[_OTHER], work[_OTHER] = ours.own_preset()
        timed = take_turns(contestants, config.rounds, warmup=2, work=work, after=_progress(work))
    return {
        "provenance": provenance(),
        "settings": _settings(config) | {"threads": facts["threads"]},
        "parameters": ours.parameters,
        "peer": facts["peer"],
        "agreement": agreement,
        "seconds": {name: each.to_json() for name, each in timed.items()},
        "ratios": _ratios(timed, config.peer),
    }


@contextlib.contextmanager
def _sides(config: TrainBench) -> "Iterator[tuple[OurSide, Peer | None, dict[str, Any]]]":
    """Make both sides, and say what they are; the peer ends with the block."""
    from .peers import open_peer
    from .train_sides import OurSide, share

    with use_threads(config.threads) as threads, contextlib.ExitStack() as stack:
        peer, said, model = None, None, None
        ours = OurSide(config.preset, config.batch, config.frames, config.device)
        if config.peer is not None:
            peer = stack.enter_context(open_peer(config.peer, "train", config.peer_python))
            model, said = share(peer, ours, threads)
        ours.adopt(model)
        yield ours, peer, {"threads": threads, "peer": said}


def _agree(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Return both losses, their terms and norms of gradients, and the relative differences.

    Raises:
        UserError: a difference is above 1e-4: it is not the same training that would be timed.
    """
    differences = {name: abs(ours[name] - theirs[name]) / abs(theirs[name]) for name in theirs}
    if not all(difference <= _CHECKED for difference in differences.values()):
        shown = ", ".join(f"{name} {ours[name]:.6g} and {theirs[name]:.6g}" for name in theirs)
        raise UserError(f"the losses differ by more than {_CHECKED:g}, wmkit's and the peer's: {shown}")
    return {"wmkit": ours, "peer": theirs, "relative_difference": differences}


def _settings(config: TrainBench) -> dict[str, Any]:
    """Return the options, without where files lie."""
    return {name: value for name, value in asdict(config).items() if name not in ("peer_python", "out", "json")}


def _progress(work: dict[str, float]) -> "Callable[[str, float], None]":
    """Return what shows one run."""

    def show(name: str, seconds: float) -> None:
        print(f"{name:<32} {work[name] / seconds:>12.1f} frames/s", file=sys.stderr, flush=True)

    return show


def _ratios(timed: "dict[str, Timed]", peer: str | None) -> dict[str, Any]:
    """Return peer's contestant -> wmkit's of the same network -> how many times as long the peer takes for a frame."""
    from wmkit.timing import ratio

    theirs = [name for name in timed if peer is not None and name.startswith(f"{peer} ")]
    ours = [name for name in timed if name not in (*theirs, _OTHER)]
    return {other: {name: ratio(timed[other], timed[name]).to_json() for name in ours} for other in theirs}


def _table(result: dict[str, Any]) -> str:
    """Return the result as text."""
    settings, ratios = result["settings"], result["ratios"]
    lines = [
        f"LeWM {settings['preset']}, {result['parameters'] / 1e6:.3g} M parameters, {settings['batch']} clips of "
        f"{settings['frames']} frames, on {settings['device']}",
        f"{settings['threads']} threads, {settings['rounds']} turns; {torches(result, settings['peer'])}",
    ]
    if result["agreement"] is not None:
        differences = result["agreement"]["relative_difference"].items()
        shown = ", ".join(f"{name} {value:.1g}" for name, value in differences)
        lines.append(f"same weights, batch and projections in float32, relative differences: {shown}")
    lines += ["", f"{'one step':<32}{'median':>12}{'fastest':>12}{'slowest':>12}{'frames/s':>12}"]
    for name, timed in result["seconds"].items():
        times = (timed["median"], min(timed["all"]), max(timed["all"]))
        shown = "" if name == _OTHER else "".join(f"{value * 1e3:>9.1f} ms" for value in times)
        lines.append(f"{name:<32}{shown:>36}{timed['rate']:>12.0f}")
    for other, found in ratios.items():
        lines += ["", f"frames/s against {other}", *(f"{name:<32}{beside(each)}" for name, each in found.items())]
    return "\n".join(lines)
