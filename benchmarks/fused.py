"""Time whole decisions on a GPU: eager, torch.compile, CUDA graph and fused kernels, beside the floor.

    python benchmarks/fused.py --out benchmarks/results/fused_h200.json
    python benchmarks/fused.py --device cpu --rehearse                     # tiny shapes, kernels interpreted

First the card's two ceilings are measured, a large matrix product and a large copy. Then, for each network and dtype,
the fused kernels are compared with the reference, and a replayed decision with an eager one from the same random state.
Then each way plans: CEM, 30 iterations, 30 elites, horizon 5, encoding left out. The floor of a decision is the larger
of its operations by the rate of the matrix product and its bytes by the rate of the copy. The file is written after
each case, so a run that is cut short keeps what it had; what takes longer than `--case-seconds` gets fewer decisions.
"""

# pyright: reportMissingImports=false

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

if "--rehearse" in sys.argv and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from wmkit.contracts import Context
from wmkit.models.lewm import LeWM, LeWMConfig
from wmkit.models.parity import parity
from wmkit.planners import CEM, GoalObjective
from wmkit.provenance import provenance

_HERE = Path(__file__).resolve().parent
Way = Literal["eager", "compile", "graph", "fused", "fused graph"]
_DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Args:
    """What to time.

    Attributes:
        device: "cuda" or "cpu".
        rehearse: tiny shapes, to try the script.
        networks: which of "lewm", "mlp", "gru".
        candidates: N.
        batches: B.
        ways: how to plan.
        dtypes: of the matrix products.
        iterations: of CEM.
        decisions: timed for one case, at most.
        case_seconds: that one case may take.
        out: JSON file of the result.
    """

    device: str = "cuda"
    rehearse: bool = False
    networks: tuple[str, ...] = ("lewm", "mlp", "gru")
    candidates: tuple[int, ...] = (300, 64, 1024)
    batches: tuple[int, ...] = (1, 8, 64)
    ways: tuple[Way, ...] = ("fused graph", "graph", "eager", "compile", "fused")
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    iterations: int = 30
    decisions: int = 200
    case_seconds: float = 4.0
    out: Path | None = None


@dataclass
class Result:
    """What is written."""

    settings: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=provenance)
    ceilings: dict[str, float] = field(default_factory=dict)
    parity: list[dict[str, Any]] = field(default_factory=list)
    replay: list[dict[str, Any]] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)


def build(name: str, device: str, tiny: bool) -> LeWM:
    """Return a network of paper size ("lewm"), or of the small model's size, with random weights."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "lewm": {"latent_size": 192, "history": 3, "predictor": "transformer", "projector": {"hidden_size": 2048}},
        "mlp": {"latent_size": 32, "history": 2, "predictor": "mlp", "predictor_options": {"width": 512, "depth": 2}},
        "gru": {"latent_size": 32, "history": 2, "predictor": "gru", "predictor_options": {"width": 512}},
    }[name]
    if tiny:
        small = {"depth": 2, "heads": 2, "head_size": 8, "mlp_size": 32}
        sizes |= {"latent_size": 16, "predictor_options": small if name == "lewm" else {"width": 32}}
        sizes |= {"projector": {"hidden_size": 32}} if name == "lewm" else {}
    config = LeWMConfig(
        image_size=16, action_repeat=5, action_low=(-1.0, -1.0), action_high=(1.0, 1.0), seconds_per_step=0.5,
        encoder="conv", **sizes,
    )  # fmt: skip
    model = LeWM(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
    return model.to(device)


def ceilings(device: str, tiny: bool) -> dict[str, float]:
    """Return FLOP/s of large matrix products and bytes/s of a large copy."""
    size = 256 if tiny else 8192
    rates = {}
    torch.backends.cuda.matmul.allow_tf32 = True  # the kernels' float32 products take three passes of it
    for name, dtype, passes in (("float32", torch.float32, 3), ("bfloat16", torch.bfloat16, 1)):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        rates[f"flops_{name}"] = 2 * size**3 / _median(lambda a=a, b=b: a @ b, device, 10) / passes
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.randn((1 << 20) if tiny else (1 << 30), device=device)
    target = torch.empty_like(source)
    rates["bytes"] = 2 * source.nbytes / _median(lambda: target.copy_(source), device, 10)
    return rates


def case(model: LeWM, batch: int) -> tuple[Context, torch.Tensor]:
    """Return B contexts of one known frame, and their goals."""
    device, size = model.action_mean.device, model.spec.latent_size
    latents, goal = (torch.randn(batch, size, device=device) for _ in range(2))
    return Context(latents[:, None], torch.zeros(batch, 0, 10, device=device)), goal


def compare(model: LeWM, name: str, dtype: str, count: int) -> dict[str, Any]:
    """Return how far the fused rollout is from the reference."""
    context, _ = case(model, 2)
    actions = torch.rand(2, count, 5, 10, device=context.latents.device) * 2 - 1
    with torch.inference_mode():
        fused = _rollout(model, "fused", dtype)
        torch.backends.cudnn.allow_tf32 = False
        found = parity(fused, model._imagine, context.latents, context.actions, actions)
    return {"network": name, "dtype": dtype, "candidates": count} | asdict(found)


def replayed(model: LeWM, name: str, way: Way, args: Args, count: int) -> dict[str, Any]:
    """Return whether replayed decisions equal eager ones from the same random state, over three decisions."""
    plans = []
    for graph in (False, True):
        planner = _planner(model, args, count, graph)
        with _way(model, "fused graph" if way == "fused graph" else "graph", args.dtypes[0]):
            torch.manual_seed(3)
            problems = [case(model, 1) for _ in range(3)]
            plans.append([planner.plan(context, GoalObjective(goal)).actions for context, goal in problems])
    worst = max(float((a - b).abs().max()) for a, b in zip(*plans, strict=True))
    return {"network": name, "way": way, "candidates": count, "largest_difference": worst}


def measure(model: LeWM, way: Way, dtype: str, batch: int, count: int, args: Args) -> dict[str, Any]:
    """Return p50 and p99 of one decision, milliseconds; no p99 of fewer than a hundred."""
    planner = _planner(model, args, count, "graph" in way)
    context, goal = case(model, batch)
    objective = GoalObjective(goal)
    with _way(model, way, dtype), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        seconds: list[float] = []
        began = time.perf_counter()
        for turn in range(args.decisions + 3):
            used = _timed(lambda: planner.plan(context, objective), args.device)
            late = time.perf_counter() - began > args.case_seconds
            seconds += [used] if turn >= 3 or (late and turn) else []
            if late and seconds:
                break
    times = sorted(1e3 * used for used in seconds)
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))] if len(times) >= 100 else None
    texts = sorted({str(each.message).splitlines()[0][:200] for each in said})
    return {"p50_ms": statistics.median(times), "p99_ms": p99, "decisions": len(times), "warnings": texts}


def floor(model: LeWM, dtype: str, batch: int, count: int, iterations: int, rates: dict[str, float]) -> float:
    """Return the milliseconds that operations or bytes of a decision take at the card's ceilings."""
    cost = _cost(model, dtype, batch, count)
    seconds = max(cost.flops / rates[f"flops_{dtype}"], cost.bytes / rates["bytes"])
    return 1e3 * iterations * seconds


def main(args: Args) -> None:
    """Run everything, printing and writing as it goes."""
    if args.rehearse:
        args = Args(**(asdict(args) | {"candidates": (8,), "batches": (1, 2), "iterations": 2, "decisions": 3}))
    result = Result({key: value for key, value in asdict(args).items() if key != "out"})
    result.ceilings = ceilings(args.device, args.rehearse)
    for name in args.networks:
        run(name, args, result)


def run(name: str, args: Args, result: Result) -> None:
    """Add all rows of one network to the result."""
    model = build(name, args.device, args.rehearse)
    for dtype in args.dtypes:
        result.parity.append(_tried(compare, model, name, dtype, args.candidates[0]))
        print("parity", result.parity[-1], flush=True)
    for way in ("graph", "fused graph"):
        result.replay.append(_tried(replayed, model, name, way, args, args.candidates[0]))
        print("replay", result.replay[-1], flush=True)
    for settings in _settings(args):
        found = _tried(measure, model, *settings, args)
        row = dict(zip(("way", "dtype", "batch", "candidates"), settings, strict=True))
        low = floor(model, *settings[1:], args.iterations, result.ceilings)
        result.cases.append({"network": name} | row | found | {"floor_ms": low})
        print(*result.cases[-1].values(), flush=True)
        if args.out is not None:
            args.out.write_text(json.dumps(asdict(result), indent=1))


def _settings(args: Args) -> Iterator[tuple[Way, str, int, int]]:
    """Yield the cases, the smallest batches first; what takes minutes to compile, for the first shape alone."""
    for batch in args.batches:
        for count in args.candidates:
            for dtype in args.dtypes:
                for way in args.ways:
                    if way != "compile" or (batch, count) == (args.batches[0], args.candidates[0]):
                        yield way, dtype, batch, count


def _planner(model: LeWM, args: Args, count: int, graph: bool) -> CEM:
    return CEM(model, horizon=5, samples=count, iterations=args.iterations, elites=min(30, count), graph=graph)


def _rollout(model: LeWM, path: Literal["fast", "fused"], dtype: str) -> Callable[..., torch.Tensor]:
    """Return the callable that a path rolls out with."""
    model.rollout_path, model.rollout_dtype = path, _DTYPES[dtype]
    context, _ = case(model, 1)
    model.rollout(context, torch.zeros(1, 2, 2, 10, device=context.latents.device))
    kept = model.rollout_paths._kept[path, model.rollout_dtype].imagine
    if kept is None:
        raise RuntimeError(f"there is no {path} rollout")
    return kept


@contextmanager
def _way(model: LeWM, way: Way, dtype: str) -> Iterator[None]:
    """Let the model roll out in a way; "compile" puts a compiled rollout in the place of the fast one."""
    path = "fused" if way.startswith("fused") else "fast"
    plain = _rollout(model, path, dtype)
    key = path, model.rollout_dtype
    if way == "compile":
        torch._dynamo.reset()
        model.rollout_paths._kept[key].imagine = torch.compile(plain.__call__, dynamic=False)
    try:
        yield
    finally:
        model.rollout_paths._kept[key].imagine = plain


def _cost(model: LeWM, dtype: str, batch: int, count: int) -> Any:
    """Return operations and bytes of one rollout."""
    import importlib

    module = {"transformer": "transformer", "mlp": "mlp", "gru": "recurrent"}[model.config.predictor]
    cost_of = importlib.import_module(f"wmkit.models.fused.{module}").cost_of
    kind = _DTYPES[dtype] or torch.float32
    shapes = {"batch": batch, "candidates": count, "horizon": 5, "known": 1}
    return cost_of(model.predictor, model.prediction_projector, dtype=kind, **shapes)


def _tried(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what a function gives, or its error in one line, so that one failure costs one row."""
    try:
        return function(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _timed(function: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _median(function: Callable[[], Any], device: str, rounds: int) -> float:
    return statistics.median([_timed(function, device) for _ in range(rounds + 2)][2:])


if __name__ == "__main__":
    main(tyro.cli(Args))
