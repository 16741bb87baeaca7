"""Look inside a model: probes, imagined pictures, straightness, health; one page with all of it.

    wmkit inspect runs/pusht --data data/pusht
    wmkit inspect pretrained:pusht-tiny --data data/pusht --out runs/inspect

Probes and a decoder for pictures are fitted to the data's training episodes and scored on held-out ones. The folder
gets inspection.html and result.json. The better probe, which `wmkit demo` draws imagined futures with, is saved as
readout.json and readout.safetensors: beside the weights of your own run, else in the folder of the results.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from wmkit.errors import UserError

from .parts import load_run

if TYPE_CHECKING:
    from wmkit.readout import Readout

__all__ = ["Inspect", "run"]


@dataclass(frozen=True)
class Inspect:
    """Options of `wmkit inspect`."""

    model: tyro.conf.Positional[str]
    """Folder of a run or model, pretrained:NAME, or owner/name on the Hugging Face hub."""
    data: Path
    """Data set of the model's task."""
    out: Path | None = None
    """Folder for the page; by default inspect/ in the run's folder, or runs/inspect/NAME for a model that is no run."""
    episodes: int = 600
    """Training episodes to fit probes and decoder to, at most."""
    horizon: int = 8
    """Model steps to look ahead."""
    decoder_steps: int = 2000
    """Gradient steps of the picture decoder, about a minute; 0 draws no pictures."""
    seed: int = 0
    """What all randomness derives from."""
    save_readout: bool = False
    """Write the readout beside the weights of a model that is no run of yours, too."""


def run(config: Inspect) -> None:
    """Measure, write the page, the numbers and the readout.

    Raises:
        UserError: the model or the data are not there, do not fit each other, or are too few.
    """
    from rich.console import Console

    from wmkit.data.episodes import EpisodeStore
    from wmkit.data.recording import load_task
    from wmkit.evaluation.inspection import Settings, inspect

    _check(config)
    console = Console()
    parts = load_run(config.model)
    model, folder = parts.dynamics, _weights_folder(parts.folder)
    store = EpisodeStore.open(config.data)
    out = config.out or _default_out(config.model, parts.folder)
    settings = Settings(config.episodes, config.horizon, config.decoder_steps, config.seed)
    training = parts.metadata.get("data")
    task = load_task(store.metadata.task)
    with console.status("look inside") as status:
        found = inspect(model, task, store, settings, training=training, progress=status.update)
    out.mkdir(parents=True, exist_ok=True)
    kept = _save_readout(found.readout, config, folder, out)
    origin = {"model": config.model, "data": config.data, "fingerprint": store.fingerprint, "readout": kept}
    _write(out, config, folder, task.name, found, origin)
    page = out / "inspection.html"
    for line in [*_lines(found), f"readout ({found.best}) saved in {kept}; page: {page}"]:
        console.print(line, highlight=False, soft_wrap=True)


def _check(config: Inspect) -> None:
    """Raise UserError for options out of range."""
    for name, least in (("episodes", 2), ("horizon", 1), ("decoder_steps", 0)):
        if getattr(config, name) < least:
            raise UserError(f"--{name.replace('_', '-')} must be {least} or more, not {getattr(config, name)}")


def _weights_folder(folder: Path) -> Path:
    """Return the folder of the dynamics' weights, of a model or of a run with several parts."""
    return folder if (folder / "config.json").is_file() else folder / "dynamics"


def _default_out(name: str, folder: Path) -> Path:
    """Return where results go."""
    if Path(name).is_dir():
        return folder / "inspect"
    return Path("runs") / "inspect" / name.replace(":", "-").replace("/", "-")


def _save_readout(readout: "Readout", config: Inspect, folder: Path, out: Path) -> Path:
    """Save the readout beside the weights where that is the user's own folder, else with the results."""
    from wmkit.model_folder import weights_sha256

    own = Path(config.model).is_dir() and os.access(folder, os.W_OK)
    target = folder if own or config.save_readout else out
    readout.save(target, weights_sha256(folder))
    return target


def _write(out: Path, config: Inspect, folder: Path, task: str, found: Any, origin: dict[str, Any]) -> None:
    """Write the page and the numbers."""
    from wmkit.data.files import write_json
    from wmkit.evaluation.inspection_page import write_page
    from wmkit.model_folder import weights_sha256
    from wmkit.provenance import provenance
    from wmkit.training.records import plain

    write_page(out / "inspection.html", Path(config.model).name, task, found, origin)
    result = {
        "environment": task,
        **origin,
        "model_sha256": weights_sha256(folder),
        **found.numbers(),
        "config": asdict(config),
        **provenance(),
    }
    write_json(out / "result.json", plain(result))


def _lines(found: Any) -> list[str]:
    """Return the main numbers, a few lines."""
    lines = [found.origin]
    for kind, readout in found.probes.items():
        scores = ", ".join(f"{name} {each['r']:.3f}" for name, each in readout.scores.items())
        lines.append(f"{kind} probes, r on held-out frames: {scores}")
    numbers, straight = found.diagnostics, found.straightness
    lines.append(
        f"imagined one step ahead: error {numbers['open_loop/1']:.4f}, copying {numbers['copy_last/1']:.4f} (variances)"
    )
    lines.append("straightness: " + ", ".join(f"{name} {value:.2f}" for name, value in straight.items()))
    return lines
