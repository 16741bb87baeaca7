"""Time one planning decision, which is start and goal encoded and a plan made; and a plan of one iteration alone.

For example:

    wmkit bench plan
    wmkit bench plan pretrained:pusht-tiny --rounds 50
    wmkit bench plan pretrained:pusht-tiny --deadline-ms 20
    wmkit bench plan --peer stable-worldmodel --peer-python PEER/bin/python --out plan.json
    wmkit bench plan --device cuda --paths fused fused-eager fast fast-eager reference-eager --samples 1024

Without RUN the model is the paper's LeWM with random weights. With a peer, both plan with CEM through the same weights,
and cost the same candidates, alike to 1e-4 in float32, or nothing is timed; they take turns, after a warm-up. Leave the
machine alone while it measures.
"""

import contextlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from wmkit.errors import UserError
from wmkit.provenance import provenance

from .bench_report import (
    check_machine,
    check_positive,
    check_unused,
    finish,
    given,
    progress,
    ratios_to,
    seconds_of,
    timing_table,
    torches,
    use_threads,
)
from .bench_tune import TuneOptions, tune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wmkit.timing import Peer, Timed

    from .plan_sides import OurSide, PeerSide

__all__ = ["PlanBench", "planning_of", "run"]

Dtype = Literal["float32", "bfloat16"]
_PATHS = ("auto", "reference", "fast", "fused")
_ALIKE = 1e-4
"""Largest relative difference of the costs in float32 from the peer's."""


@dataclass(frozen=True)
class PlanBench:
    """What `wmkit bench plan` is asked for."""

    model: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """A model's folder, pretrained:NAME, or a checkpoint of LeWM's authors, its folder or file; without it, the paper's
    LeWM with random weights."""
    action_repeat: int | None = None
    """Environment steps per model step, of a checkpoint of LeWM's authors, which does not say; by default 5."""
    deadline_ms: float | None = None
    """Instead of timing what is given, find what makes this deadline."""
    peer: str | None = None
    """Another package to measure beside, e.g. stable-worldmodel."""
    peer_python: Path | None = None
    """Its Python; by default WMKIT_PEER_PYTHON names it."""
    peer_dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    """Dtypes of the peer's matrix products, bfloat16 by autocast; all times are compared with the first one, and those
    of another one's dtype with that too."""
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    """Dtypes of the rollouts' matrix products; the reference path has the weights' alone."""
    paths: tuple[str, ...] = ("auto",)
    """How rollouts are computed: auto, reference, fast or fused; with "-eager" behind it, no CUDA graph is used."""
    samples: int | None = None
    """Candidates of an iteration; by default the model's own setting, for the paper's LeWM 300."""
    iterations: int | None = None
    """Refinements of a decision, with a deadline the most; by default the model's own setting, for the paper's LeWM 30,
    with a deadline at least 30."""
    horizon: int | None = None
    """Model steps; by default the model's own setting, for the paper's LeWM 5."""
    elites: int | None = None
    """Candidates that CEM refits to; by default the model's own setting, for the paper's LeWM 30."""
    batch: int = 1
    """Robots planned for at once."""
    parts: tuple[Literal["decision", "plan", "iteration"], ...] = ("decision", "iteration")
    """What is timed: a decision, its plan without the encoding, a plan of one iteration."""
    rounds: int = 5
    """Turns that are timed; one more before them is not."""
    threads: int | None = None
    """CPU threads of each contestant, by default torch's choice; with a deadline the only number that is tried, by
    default one, half and all of the cores."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where both plan."""
    out: Path | None = None
    """Write the result to this JSON file."""
    json: bool = False
    """Print the result as one JSON object instead of a table."""
    tuning: tyro.conf.OmitArgPrefixes[TuneOptions] = field(default_factory=TuneOptions)
    """With a deadline."""


def run(config: PlanBench) -> None:
    """Measure and print, or find what makes a deadline.

    Raises:
        UserError: options out of range or that the model does not have; no peer, or one that fails.
    """
    _check(config)
    if config.deadline_ms is not None:
        tune(config)
        return
    result = _measure(config)
    finish(result, config.out, config.json, _table(result))


def planning_of(config: PlanBench, model: Any) -> dict[str, Any]:
    """Return the planner's settings: those given, else the model's own, else the paper's.

    Raises:
        UserError: the model's planner does not take a setting that was given, or more elites than candidates were.
    """
    from ..models.lewm.presets import LEWM
    from .assembly import resolve_planning

    metadata = dict(getattr(model, "metadata", None) or {})
    metadata.setdefault("planning", LEWM.planning)
    planning = resolve_planning(metadata, asdict(config))
    for name in ("execute", "min_horizon"):
        planning[name] = min(planning[name], planning["horizon"])
    if config.elites is not None and config.elites > planning["samples"]:
        raise UserError(f"--elites must be at most the candidates, {planning['samples']}, not {config.elites}")
    if planning["elites"] is not None:
        planning["elites"] = min(planning["elites"], planning["samples"])
    return planning


def _check(config: PlanBench) -> None:
    """Raise UserError for an option out of its range, or one that would do nothing."""
    check_positive(config, "samples", "iterations", "horizon", "elites", "batch", "rounds", "deadline_ms")
    check_positive(config, "action_repeat")
    for name in ("dtypes", "paths", "peer_dtypes", "parts"):
        if not getattr(config, name):
            raise UserError(f"--{name.replace('_', '-')} needs at least one")
    for path in config.paths:
        if path.removesuffix("-eager") not in _PATHS:
            raise UserError(f"unknown path {path!r}; known: {', '.join(_PATHS)}, each also with -eager")
    _check_used(config)
    check_machine(config)


def _check_used(config: PlanBench) -> None:
    """Raise UserError for an option that would do nothing beside the others."""
    if config.model is None:
        check_unused(config, ("action_repeat",), "only with a checkpoint of LeWM's authors")
    if config.deadline_ms is not None:
        names = ("peer", "peer_python", "peer_dtypes", "parts", "rounds")
        check_unused(config, names, "not with --deadline-ms, which times whole decisions of wmkit alone")
        if any(path.endswith("-eager") for path in config.paths):
            raise UserError("--paths: not with -eager and --deadline-ms, which tunes planning as it is used")
        return
    check_unused(config.tuning, given(config.tuning), "only with --deadline-ms")
    if config.peer is None:
        check_unused(config, ("peer_python", "peer_dtypes"), "only with --peer")
    if "float32" not in config.dtypes and any(path.startswith("reference") for path in config.paths):
        raise UserError("--paths reference is in the weights' precision: give --dtypes float32 too, or another path")


def _measure(config: PlanBench) -> dict[str, Any]:
    """Return the result, as JSON holds it."""
    from wmkit.timing import take_turns

    with _sides(config) as (ours, peer, facts):
        for way in _ways(config):
            ours.check(way)
        agreement = _agreement(config, ours, peer)
        contestants = {part: _contestants(config, part, ours, peer) for part in dict.fromkeys(config.parts)}
        timed = {part: take_turns(who, config.rounds, after=progress(part)) for part, who in contestants.items()}
        baseline = next(iter(contestants[config.parts[0]]))
    return {
        "provenance": provenance(),
        "model": facts["model"],
        "peer": facts["peer"],
        "settings": _settings(config) | {name: ours.planning[name] for name in _NAMED} | {"threads": facts["threads"]},
        "rollouts": ours.rollouts,
        "iterations": ours.iterations,
        "agreement": agreement,
        "seconds": seconds_of(timed),
        "compared_with": baseline,
        "ratios": {part: ratios_to(baseline, runs) for part, runs in timed.items()},
        "ratios_of_dtype": {part: _of_dtype(config, baseline, runs) for part, runs in timed.items()},
    }


def _of_dtype(config: PlanBench, baseline: str, runs: "dict[str, Timed]") -> dict[str, dict[str, Any]]:
    """Return the peer's contestants that are not the baseline -> wmkit's of the same dtype -> ratio."""
    found = {}
    for dtype in config.peer_dtypes if config.peer is not None else ():
        theirs = f"{config.peer} {dtype}"
        same = {name: each for name, each in runs.items() if name == theirs or name.startswith(f"wmkit {dtype} ")}
        if theirs != baseline and len(same) > 1:
            found[theirs] = ratios_to(theirs, same)
    return found


_NAMED = ("planner", "samples", "iterations", "horizon", "elites", "objective", "proposal")


@contextlib.contextmanager
def _sides(config: PlanBench) -> "Iterator[tuple[OurSide, PeerSide | None, dict[str, Any]]]":
    """Make both sides, and say what they are; the peer ends with the block."""
    from .peers import open_peer
    from .plan_scene import check_shared, make_scene, paper_model, read_model, share_model
    from .plan_sides import OurSide, PeerSide

    with use_threads(config.threads) as threads, contextlib.ExitStack() as stack:
        peer: Peer | None = None
        said: dict[str, Any] | None = None
        if config.peer is not None:
            check_shared(config.peer, config.model)
            peer = stack.enter_context(open_peer(config.peer, "plan", config.peer_python))
            model, said = share_model(peer, config.model, config.device, threads, config.action_repeat)
        else:
            model = paper_model() if config.model is None else read_model(config.model, config.action_repeat)
        model.to(config.device)
        planning = planning_of(config, model)
        scene = make_scene(model, config.batch, planning["samples"], planning["horizon"], config.device)
        ours = OurSide(model, scene, planning, config.device)
        facts = {"threads": threads, "peer": said, "model": _describe(config, model)}
        yield ours, None if peer is None else PeerSide(peer, ours), facts


def _describe(config: PlanBench, model: Any) -> dict[str, Any]:
    """Return what is planned through."""
    name = "LeWM at paper size, random weights" if config.model is None else config.model
    if config.model is not None and Path(config.model).exists():
        name = Path(config.model).resolve().name
    parameters = sum(parameter.numel() for parameter in model.parameters()) if hasattr(model, "parameters") else None
    return {"name": name, "kind": type(model).__name__, "parameters": parameters}


def _settings(config: PlanBench) -> dict[str, Any]:
    """Return the options, without where files lie."""
    left_out = ("model", "peer_python", "deadline_ms", "out", "json", "tuning")
    return {name: value for name, value in asdict(config).items() if name not in left_out}


def _contestants(
    config: PlanBench, part: str, ours: "OurSide", peer: "PeerSide | None"
) -> "dict[str, Callable[[], float]]":
    """Return name -> what does one part of planning; what all is compared with comes first."""
    theirs = {f"{config.peer} {dtype}": getattr(peer, part)(dtype) for dtype in config.peer_dtypes if peer is not None}
    return theirs | {str(way): getattr(ours, part)(way) for way in _ways(config)}


def _ways(config: PlanBench) -> list[Any]:
    """Return how wmkit rolls out, one after another; the reference path has the weights' dtype alone."""
    from .plan_sides import Way

    pairs = [(dtype, path) for dtype in config.dtypes for path in config.paths]
    fitting = (("float32" if path.startswith("reference") else dtype, path) for dtype, path in pairs)
    return [Way.parse(dtype, path) for dtype, path in dict.fromkeys(fitting)]


def _agreement(config: PlanBench, ours: "OurSide", peer: "PeerSide | None") -> dict[str, Any]:
    """Return name -> how its costs compare with the exact ones: the peer's in float32, else the reference path's.

    Raises:
        UserError: costs in float32 are not the peer's: it is not the same planning that would be timed.
    """
    from .plan_sides import agreement

    elites, kinds = max(1, min(ours.planning["elites"] or 30, ours.planning["samples"] // 2)), ours.scene.kinds
    found: dict[str, Any] = {}
    if peer is None:
        exact = ours.exact_costs()
    else:
        theirs = peer.costs("float32")
        exact = theirs["costs"]
        found["encoder"] = {"largest_difference": ours.latent_difference(theirs["start"], theirs["goal"])}
        for dtype in config.peer_dtypes:
            if dtype != "float32":
                found[f"{config.peer} {dtype}"] = agreement(peer.costs(dtype)["costs"], exact, kinds, elites)
    if exact is not None:
        found |= {str(way): agreement(ours.costs(way), exact, kinds, elites) for way in _ways(config)}
    reference = ours.exact_costs() if peer is not None else None
    if reference is not None and exact is not None:
        alike = {"wmkit's reference": agreement(reference, exact, kinds, elites)}
        _check_alike(alike | {str(way): found[str(way)] for way in _ways(config) if way.dtype == "float32"})
    return found


def _check_alike(found: dict[str, dict[str, float]]) -> None:
    """Raise UserError for costs in float32 that differ from the peer's."""
    for name, each in found.items():
        if not each["cost_difference"] <= _ALIKE:
            differ = f"the costs of the same candidates differ by {each['cost_difference']:.2g} of the peer's"
            raise UserError(f"{name}: {differ}, more than {_ALIKE:g}, so nothing is timed")


def _table(result: dict[str, Any]) -> str:
    """Return the result as text."""
    model, settings = result["model"], result["settings"]
    size = f", {model['parameters'] / 1e6:.3g} M parameters" if model["parameters"] else ""
    elites = f", {settings['elites']} elites" if settings["elites"] else ""
    lines = [
        f"{model['name']} ({model['kind']}{size}) on {settings['device']}, threads {settings['threads']}",
        f"{settings['planner']}: {settings['samples']} candidates, {settings['iterations']} iterations{elites}, "
        f"horizon {settings['horizon']}, {settings['batch']} at once; {settings['rounds']} turns",
        torches(result, settings["peer"]),
    ]
    if result["rollouts"]:
        lines.append("rollouts: " + ", ".join(f"{name} by {kind}" for name, kind in result["rollouts"].items()))
    for part, runs in result["seconds"].items():
        ratios, others = result["ratios"][part], result["ratios_of_dtype"][part]
        lines += ["", *timing_table(f"one {part}", runs, ratios, result["compared_with"], others)]
    if result["agreement"]:
        lines += ["", f"{'the same candidates':<36}{'largest difference':>20}  elites in common"]
    for name, found in result["agreement"].items():
        if "cost_difference" in found:
            shares = {key.removeprefix("elites_"): share for key, share in found.items() if key.startswith("elites_")}
            shown = ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())
            lines.append(f"{name:<36}{found['cost_difference']:>20.2g}  {shown}")
        else:
            lines.append(f"{name:<36}{found['largest_difference']:>20.2g}")
    return "\n".join(lines)
