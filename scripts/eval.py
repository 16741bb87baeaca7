"""Plan with a trained model on held-out starts and goals, beside the floors.

    wmkit eval pretrained:pusht-tiny --env pusht
    wmkit eval runs/pusht --env pusht --data data/pusht --protocol long50 --episodes 200
    wmkit eval runs/other --env pusht --manifest first/manifest.json --compare first
    wmkit eval pretrained:pusht-tiny --env pusht --planner sample-score-rank --proposal inverse:0.5+runs/proposal:0.5

    wmkit eval runs/walker --env walker --reward jump
    wmkit eval runs/walker --env walker --reward target-speed=0.5 --variation weak_ankle=0.5 --episodes 10 --steps 500
    wmkit eval runs/walker --env walker --reward my_rewards.py:my_function

The planner's settings come from the model's folder; each can be overridden. The results are result.json, manifest.json
and rollouts.gif. Success counts at any step within the budget; "settled" is half the tolerance over its last 5 steps.
Where an environment has rewards and no goals, what counts is the return of the reward named with --reward, which need
not be the one that was trained for.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from wmkit.errors import UserError

from .assembly import check_task, controller_maker, device_of, load_model, resolve_planning, with_defaults

if TYPE_CHECKING:
    from rich.console import Console

    from wmkit.contracts import WorldModel
    from wmkit.evaluation import Manifest
    from wmkit.evaluation.agents import Agent
    from wmkit.evaluation.report import Row
    from wmkit.evaluation.runner import Outcomes
    from wmkit.evaluation.suite import Pairs
    from wmkit.tasks import Task

__all__ = ["Eval", "Measured", "measure", "run", "show"]


_PAIRS = 100
"""Pairs, where the options say nothing."""

_RETURNS_OPTIONS = ("reward", "variation", "dynamics_sampler", "dynamics_sampling_steps", "value_weight")
"""Options that need an environment without goals."""


@dataclass(frozen=True)
class Eval:
    """Options of `wmkit eval`."""

    model: tyro.conf.Positional[str]
    """Folder of a run or model, pretrained:NAME, or owner/name on the Hugging Face hub."""
    env: str
    """Environment, e.g. two-room or pusht."""
    protocol: Literal["short", "long50", "long75", "full", "cross", "papers"] = "short"
    """Goal 25, 50 or 75 steps ahead, the environment's own task, an episode's start and end in different rooms, or as
    short with the pairs that are solved at the start, as in the papers' tables."""
    episodes: int | None = None
    """Pairs, by default 100; where there are no goals episodes, by default 20."""
    reward: str | None = None
    """Without goals: what to maximise, a reward of the environment, NAME=NUMBER where it takes one, or FILE.py:FUNCTION
    for your own; by default the environment's first."""
    steps: int = 250
    """Without goals: environment steps of an episode."""
    variation: tuple[str, ...] = ()
    """Without goals: what is changed about the environment, each NAME or NAME=STRENGTH, e.g. weak_ankle=0.5."""
    device: str = "auto"
    """Where to plan: auto (a GPU where there is one), cpu, cuda or cuda:1."""
    data: Path | None = None
    """Data set whose held-out episodes give the pairs; also measures the probes."""
    manifest: Path | None = None
    """File of pairs drawn before, so that two agents meet the same ones."""
    rule: str | None = None
    """Success rule; by default the protocol's."""
    seed: int = 0
    """Seed of the draw of pairs, of the planner and of the floors."""
    planner: str | None = None
    """Registered planner, e.g. cem, icem or mppi; like all that follows, by default what the model's folder says."""
    horizon: int | None = None
    """Model steps of a plan."""
    samples: int | None = None
    """Candidates of one iteration."""
    iterations: int | None = None
    """Refinements of the candidates."""
    elites: int | None = None
    """Candidates that the next iteration is drawn around."""
    std: float | None = None
    """First spread of the candidates, as a fraction of half the action range."""
    min_std: float | None = None
    """Smallest spread."""
    temperature: float | None = None
    """How evenly MPPI weighs its candidates, as a fraction of the standard deviation of their costs."""
    noise_exponent: float | None = None
    """Colour of the noise over a plan: 0 for white, 1 for pink, 2 for red, which is smooth."""
    decay: float | None = None
    """Factor by which each iteration has fewer candidates than the one before."""
    certainty: float | None = None
    """Stop searching once the first action moves by less than this fraction of its range."""
    max_rate: float | None = None
    """Largest change of an action, environment units per second."""
    hold: int | Literal["block"] | None = None
    """Environment steps that one action is held for; block for a whole model step."""
    knots: int | None = None
    """Knots of a spline that is searched over, in place of actions held."""
    spline: Literal["zero", "linear", "cubic"] | None = None
    """How the spline goes from knot to knot: holding each, in straight lines, or smoothly."""
    objective: Literal["last", "mean", "sum"] | None = None
    """Distance to the goal at the horizon's last step, or over all of them."""
    action_cost: float | None = None
    """Weight of the mean squared action in the objective."""
    execute: int | None = None
    """Model steps executed before planning anew."""
    min_horizon: int | None = None
    """Shortest horizon once it shrinks."""
    renew: int | None = None
    """Model steps that a goal is given where no recording says how many, and again whenever they have run out, 0 for
    none."""
    shrink: bool | None = None
    """Whether the horizon shrinks towards the step at which the recording reached the goal."""
    proposal: str | None = None
    """Where the search starts: gaussian (at rest, or the last plan), inverse (the model's inverse dynamics), the folder
    of a trained proposal, or a mixture such as inverse:0.5+FOLDER:0.5."""
    proposal_share: float | None = None
    """Share of the first candidates that the proposal draws."""
    sampler: str | None = None
    """How diffusion models are sampled: ddpm, ddim, dpm-solver++, flow-euler or flow-heun; by default as they say."""
    sampling_steps: int | None = None
    """Steps of that sampler."""
    rescore: int | None = None
    """Cheapest candidates that are rolled out once more at the end, step by step in full precision; by default none."""
    rollout_path: Literal["auto", "reference", "fast", "fused"] | None = None
    """How rollouts are computed; by default fused kernels on a GPU, on a CPU reusing what candidates share."""
    rollout_dtype: Literal["float32", "bfloat16"] | None = None
    """Of the rollouts' matrix products; by default that of the weights."""
    dynamics_sampler: str | None = None
    """Without goals: the sampler of the dynamics, where it is to differ from the proposal's."""
    dynamics_sampling_steps: int | None = None
    """Without goals: its steps."""
    value_weight: float | None = None
    """Without goals: weight of what the run's learned value says of the time after the plan; by default 1 for the
    reward that it was trained on, and 0, which leaves it out, for all others."""
    warm_start: bool | None = None
    """Whether a plan starts from the rest of the last one."""
    floors: bool = True
    """Run the random and the hold-still agent on the same pairs."""
    bounds: bool = False
    """Run what knows more than a model: the recorded actions, the expert, and planning through the simulator."""
    batch: int = 100
    """Pairs side by side."""
    timed: int = 3
    """Episodes whose decisions are timed one at a time; without goals so many times 10 decisions; 0 for none."""
    gif: bool = True
    """Write successes and failures side by side as a GIF."""
    compare: Path | None = None
    """Folder or file of an earlier result on the same manifest: pairs that only one of the two solved."""
    out: Path | None = None
    """Folder for the results; by default eval/ENV-PROTOCOL in the model's folder, or runs/eval for models that ship."""


@dataclass(frozen=True)
class Measured:
    """What `measure` found.

    Attributes:
        task: the environment.
        model: what was evaluated.
        planning: resolved settings of the planner.
        pairs: the pairs and where they are from.
        rule: success rule.
        rows: of the table, the model's first.
        outcomes: of the model.
        moved: (P,) bool, pairs that need the block to move; None without a block.
        probes: R2 by name; empty without a data set.
        out: folder with result.json, manifest.json and rollouts.gif.
    """

    task: "Task"
    model: Any
    planning: dict[str, Any]
    pairs: "Pairs"
    rule: str
    rows: "list[Row]"
    outcomes: "Outcomes"
    moved: Any
    probes: dict[str, float]
    out: Path


def run(config: Eval) -> None:
    """Evaluate, print the table and write the results.

    Raises:
        UserError: see `measure`.
    """
    from rich.console import Console

    from wmkit.data.recording import load_task

    if not load_task(config.env).has_goals:
        from . import eval_returns

        return eval_returns.run(config)
    config = _for_goals(config)
    console, measured = Console(), measure(config)
    show(measured, console)
    if config.compare is not None:
        console.print(_comparison(measured.out / "result.json", config.compare), highlight=False)
    console.print(f"written to {measured.out}", highlight=False)


def show(measured: Measured, console: "Console") -> None:
    """Print the table and where its pairs are from."""
    from wmkit.evaluation import report

    manifest = measured.pairs.manifest
    title = f"{manifest.environment}, {manifest.protocol}, rule {measured.rule}, {len(manifest.pairs)} pairs"
    console.print(report.table(title, measured.rows))
    lines = [f"{measured.pairs.label}; {manifest.remark}; manifest {manifest.sha256[:12]}"]
    lines += report.group_lines(measured.rows)
    if measured.probes:
        probes = ", ".join(f"{name} {r2:.2f}" for name, r2 in measured.probes.items())
        lines.append(f"linear probes, R2 on held-out frames: {probes}")
    for line in lines:
        console.print(line, highlight=False)


def measure(config: Eval) -> Measured:
    """Evaluate a model and write result.json, manifest.json and rollouts.gif.

    Raises:
        UserError: the model, the environment or the pairs do not fit together; the text says what to do.
    """
    from wmkit.data.recording import load_task
    from wmkit.evaluation import needs_motion, suite

    config = _for_goals(config)
    _check(config)
    task = load_task(config.env)
    model, folder = load_model(config.model, device_of(config.device))
    check_task(model, config.model, task)
    metadata = getattr(model, "metadata", {})
    planning = resolve_planning(metadata, vars(config))
    planning = with_defaults(planning, controller_maker(model, planning, config.seed)(1).planner)
    pairs = suite.obtain(
        task,
        config.protocol,
        config.episodes or _PAIRS,
        seed=config.seed,
        rule=config.rule,
        data=config.data,
        path=config.manifest,
        folder=folder,
        training=metadata.get("data"),
    )
    rule = config.rule or pairs.manifest.rule
    moved = needs_motion(task, pairs.manifest.starts, pairs.manifest.goals)
    out = config.out or _default_out(config, folder, task.name)
    probes = suite.probe(model, task, pairs.store) if pairs.store is not None else {}
    outcomes, rows = _rows(config, task, model, planning, pairs.manifest, rule, moved, out)
    measured = Measured(task, model, planning, pairs, rule, rows, outcomes, moved, probes, out)
    _save(config, measured)
    return measured


def _for_goals(config: Eval) -> Eval:
    """Return the options with the default number of pairs; raises UserError for those that need a task of rewards."""
    given = [name for name in _RETURNS_OPTIONS if getattr(config, name) not in (None, ())]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"{options}: for environments without goals, and {config.env} has goals")
    return config if config.episodes is not None else replace(config, episodes=_PAIRS)


def _check(config: Eval) -> None:
    """Raise UserError for options out of range."""
    for name, least in (("episodes", 1), ("batch", 1), ("timed", 0)):
        if getattr(config, name) < least:
            raise UserError(f"--{name} must be {least} or more, not {getattr(config, name)}")


def _rows(
    config: Eval,
    task: "Task",
    model: "WorldModel",
    planning: Mapping[str, Any],
    manifest: "Manifest",
    rule: str,
    moved: Any,
    out: Path,
) -> "tuple[Outcomes, list[Row]]":
    """Run all agents, the model first; write the model's GIF."""
    from wmkit.evaluation import ModelAgent, decision_times, movie, report, suite

    maker = controller_maker(model, planning, config.seed)
    agent = ModelAgent(maker, Path(config.model).name, shrink=planning["shrink"])
    size = model.spec.observations["pixels"].shape[0]
    mine = _evaluate(config, task, manifest, agent, rule, size)
    times: list[float] = []
    if config.timed:
        times = decision_times(
            task, manifest, agent, image_size=size, episodes=config.timed, decided=lambda: agent.controller.plan
        )
    rows = [report.make_row(agent.name, "model", mine, moved=moved, times=times)]
    if config.gif:
        movie.save_gif(out / "rollouts.gif", task, manifest, mine)
    others = [("floor", other) for other in suite.floors(task, config.seed)] if config.floors else []
    if config.bounds:
        others += [("bound", other) for other in suite.bounds(task, manifest, config.seed, rule=rule)]
    for kind, other in others:
        outcomes = _evaluate(config, task, manifest, other, rule, size)
        rows.append(report.make_row(other.name, kind, outcomes, moved=moved))
    return mine, rows


def _evaluate(config: Eval, task: "Task", manifest: "Manifest", agent: "Agent", rule: str, size: int) -> "Outcomes":
    """Run one agent with a progress bar."""
    from tqdm import tqdm

    from wmkit.evaluation import evaluate

    with tqdm(desc=agent.name, unit="step", leave=False, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return evaluate(task, manifest, agent, rule=rule, image_size=size, batch=config.batch, progress=progress)


def _save(config: Eval, measured: Measured) -> None:
    """Write result.json and manifest.json."""
    from wmkit.evaluation import report, save_manifest

    save_manifest(measured.pairs.manifest, measured.out / "manifest.json")
    report.save_result(
        measured.out / "result.json",
        measured.pairs.manifest,
        measured.rows,
        rule=measured.rule,
        config=asdict(config),
        planning=measured.planning,
        probes=measured.probes,
        pairs_from=measured.pairs.label,
        model=dict(getattr(measured.model, "metadata", {})),
    )


def _comparison(mine: Path, other: Path) -> str:
    """Return one line on the pairs that only one of two models solved."""
    from wmkit.evaluation.report import compare_files

    other = other / "result.json" if other.is_dir() else other
    found = compare_files(mine, other)
    (a, n), (b, _) = found["first"], found["second"]
    return (
        f"against {other}: {a} and {b} of {n}; only this one {found['only_first']}, only the other "
        f"{found['only_second']}, exact McNemar p = {found['p_value']:.3g}"
    )


def _default_out(config: Eval, folder: Path, task: str) -> Path:
    """Return where results go."""
    name = f"{task}-{config.protocol}"
    if Path(config.model).is_dir():
        return folder / "eval" / name
    return Path("runs") / "eval" / config.model.replace(":", "-").replace("/", "-") / name
