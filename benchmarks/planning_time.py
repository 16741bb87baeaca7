"""Time one decision with a paper-size LeWM on the CPU, beside stable-worldmodel's with the same weights.

    python benchmarks/planning_time.py --peer-python PEER/bin/python

The peer lives in an environment of its own:

    python3 -m venv PEER && PEER/bin/pip install 'stable-worldmodel[data]' imageio imageio-ffmpeg transformers einops \
        hydra-core stable-pretraining pygame 'pymunk>=7'

One decision is encoding the observation and the goal, and CEM: 300 candidates, 30 iterations, 30 elites, horizon 5, one
known frame. The two take turns, after one warm-up each. First the peer's weights are converted and both models'
predictions compared. Leave the machine alone while it runs: the result carries the load average.
"""

# pyright: reportMissingImports=false

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import torch
import tyro
from peers.stable_worldmodel_weights import convert
from safetensors.torch import load_file
from torch import Tensor

from wmkit import __version__
from wmkit.contracts import Context
from wmkit.models import LeWM, LeWMConfig
from wmkit.models.lewm.config import IMAGENET_BACKGROUND, IMAGENET_SCALE
from wmkit.planners import CEM, GoalObjective

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Args:
    """What to time.

    Attributes:
        peer_python: Python of the environment with stable-worldmodel; without it, wmkit alone is timed.
        samples: candidates of one iteration.
        iterations: refinements of one decision.
        rounds: decisions of each that are timed.
        threads: of each process.
        out: JSON file of the result.
    """

    peer_python: Path | None = None
    samples: int = 300
    iterations: int = 30
    rounds: int = 5
    threads: int = 2
    out: Path = _HERE / "results" / "planning_time.json"


class Peer:
    """stable-worldmodel in a process of its own."""

    def __init__(self, args: Args) -> None:
        """Start the process."""
        numbers = [str(number) for number in (args.threads, args.samples, args.iterations)]
        command = [str(args.peer_python), "-W", "ignore", str(_HERE / "peers" / "stable_worldmodel_cem.py"), *numbers]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def ask(self, **request: str) -> dict[str, Any]:
        """Send a request and return the answer, past whatever else the peer prints.

        Raises:
            RuntimeError: the process ended.
        """
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the peer's process has no pipes")
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the peer ended with code {self.process.wait()}; run {self.process.args} to see why")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def build() -> LeWM:
    """Return the paper's LeWM: ViT-tiny/14 at 224, predictor of 6 layers and 16 heads, BatchNorm projectors."""
    torch.manual_seed(0)
    config = LeWMConfig(
        image_size=224,
        latent_size=192,
        action_repeat=5,
        action_low=(-1.0, -1.0),
        action_high=(1.0, 1.0),
        seconds_per_step=0.5,
        encoder="vit",
        predictor="transformer",
        projector={"hidden_size": 2048},
        background=IMAGENET_BACKGROUND,
        pixel_scale=IMAGENET_SCALE,
    )
    model = LeWM(config).eval()
    model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
    return model


def adopt(model: LeWM, tensors: dict[str, Tensor]) -> dict[str, float]:
    """Load the peer's weights and return the largest differences of latents, with 1 and with 3 known frames."""
    weights = {name.removeprefix("weights."): value for name, value in tensors.items() if name.startswith("weights.")}
    statistics_of_actions = {name: getattr(model, name) for name in ("action_mean", "action_std")}
    model.load_state_dict(convert(weights) | statistics_of_actions)
    differences = {}
    for known in (1, 3):
        latents, actions = model.encode({"pixels": tensors[f"pixels.{known}"]}), tensors[f"actions.{known}"]
        context = Context(latents, actions[:, 0, : known - 1])
        predicted = model.rollout(context, actions[:, :, known - 1 :]).latents
        expected = tensors[f"latents.{known}"]
        differences[f"encoder_{known}_frames"] = float((latents - expected[:, 0, :known]).abs().max())
        differences[f"rollout_{known}_frames"] = float((predicted - expected[:, :, known:]).abs().max())
        differences[f"latent_std_{known}_frames"] = float(expected[:, :, known:].std())
    return differences


def half_precision(model: LeWM) -> dict[str, float]:
    """Return how far bfloat16 is from float32: the latents' relative error and the rank correlation of 300 costs."""
    generator = torch.Generator().manual_seed(5)
    latents = model.encode({"pixels": _images(generator)[0]})
    context, actions = Context(latents, torch.zeros(1, 0, 10)), torch.randn(1, 300, 5, 10, generator=generator)
    goal = model.encode({"pixels": _images(generator)[1]})[:, 0]
    exact, rough = (_with_dtype(model, dtype).rollout(context, actions) for dtype in (None, torch.bfloat16))
    error = (rough.latents - exact.latents).norm(dim=-1) / exact.latents.norm(dim=-1)
    ranks = torch.stack(
        [GoalObjective(goal, reduce="last").cost(each, actions)[0].argsort().argsort() for each in (exact, rough)]
    )
    return {"relative_error": float(error.mean()), "cost_rank_correlation": float(torch.corrcoef(ranks.float())[0, 1])}


def decide(model: LeWM, planner: CEM, generator: torch.Generator) -> float:
    """Return the seconds of one decision."""
    start_image, goal_image = _images(generator)
    start = time.perf_counter()
    latents = model.encode({"pixels": torch.cat([start_image, goal_image])})
    context = Context(latents[:1], torch.zeros(1, 0, 10))
    plan = planner.plan(context, GoalObjective(latents[1:, 0], reduce="last"))
    seconds = time.perf_counter() - start
    if plan.stopped != "iterations":
        raise RuntimeError(f"the plan stopped for {plan.stopped!r}, so its time cannot be compared")
    return seconds


def measure(args: Args, model: LeWM, peer: Peer | None) -> dict[str, list[float]]:
    """Return the seconds of each decision, by who took it, in turns."""
    planner = CEM(model, horizon=5, samples=args.samples, iterations=args.iterations, elites=min(30, args.samples))
    generator = torch.Generator().manual_seed(2)
    seconds: dict[str, list[float]] = {"wmkit": [], "wmkit bfloat16": []} | ({"stable-worldmodel": []} if peer else {})
    for turn in range(args.rounds + 1):
        for name, times in seconds.items():
            dtype = torch.bfloat16 if name.endswith("bfloat16") else None
            if peer is not None and name == "stable-worldmodel":
                used = peer.ask(do="plan")["seconds"]
            else:
                used = decide(_with_dtype(model, dtype), planner, generator)
            if turn:
                times.append(used)
                print(f"{name:20} {used:7.3f} s", flush=True)
    return seconds


def describe() -> dict[str, Any]:
    """Return hardware, versions and commit."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=_HERE, capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "bfloat16": torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "wmkit": __version__,
        "commit": commit.stdout.strip() if commit.returncode == 0 else None,
    }


def main(args: Args) -> None:
    """Compare, time, print and write the result."""
    torch.set_num_threads(args.threads)
    model = build()
    result: dict[str, Any] = {"machine": describe(), "settings": {k: str(v) for k, v in asdict(args).items()}}
    result["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    if args.peer_python is None:
        seconds = measure(args, model, None)
    else:
        with Peer(args) as peer, tempfile.TemporaryDirectory() as folder:
            result["peer"] = peer.ask(do="describe")
            file = str(Path(folder) / "peer.safetensors")
            peer.ask(do="export", file=file)
            result["difference"] = adopt(model, load_file(file))
            print(json.dumps(result["difference"], indent=2))
            seconds = measure(args, model, peer)
    result["bfloat16"] = half_precision(model)
    result["seconds"] = {name: {"median": statistics.median(times), "all": times} for name, times in seconds.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, times in result["seconds"].items():
        print(f"{name:20} median {times['median']:7.3f} s a decision")


def _images(generator: torch.Generator) -> Tensor:
    """Draw two images (2, 1, 1, 224, 224, 3), uint8: an observation and a goal."""
    return torch.randint(0, 256, (2, 1, 1, 224, 224, 3), dtype=torch.uint8, generator=generator)


def _with_dtype(model: LeWM, dtype: torch.dtype | None) -> LeWM:
    """Set the type of the rollout's matrix products and return the model."""
    model.rollout_dtype = dtype
    return model


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
