"""`wmkit eval` for environments without goals: the return of any reward, trained for or not; no command of its own."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit.errors import UserError

from .assembly import controller_maker, device_of, resolve_planning, with_defaults
from .parts import Parts, load_run

if TYPE_CHECKING:
    from wmkit.contracts import Objective
    from wmkit.evaluation.agents import Agent
    from wmkit.evaluation.returns import Returns
    from wmkit.evaluation.rewards import NamedReward
    from wmkit.tasks import Task

    from .eval import Eval

__all__ = ["MeasuredReturns", "cost_of", "measure", "planning_of", "run"]

_EPISODES = 20
_WARM_UP = 2
_DEFAULTS = {"planner": "sample-score-rank", "samples": 64, "execute": 1}
"""Planner settings where neither the dynamics' metadata nor the command line says otherwise."""
_GOAL_OPTIONS = ("manifest", "rule", "compare", "objective", "shrink")


@dataclass(frozen=True)
class MeasuredReturns:
    """What `measure` found.

    Attributes:
        task: the environment.
        reward: what was maximised.
        planning: resolved settings of the planner.
        rows: of the table, the model's first.
        notes: lines on what a reader should know of how this was measured.
        out: folder with result.json and episodes.gif.
    """

    task: "Task"
    reward: "NamedReward"
    planning: dict[str, Any]
    rows: "list[Returns]"
    notes: list[str]
    out: Path


def run(config: "Eval") -> None:
    """Evaluate, print the table and write the results.

    Raises:
        UserError: see `measure`.
    """
    from rich.console import Console

    from wmkit.evaluation import returns_report

    console, measured = Console(), measure(config)
    model = measured.rows[0]
    changed = f", {' '.join(config.variation)}" if config.variation else ""
    title = f"{measured.task.name}{changed}, reward {measured.reward.name}, {model.steps} steps"
    console.print(returns_report.returns_table(title, measured.rows))
    lines = returns_report.statistics_lines(measured.task, measured.reward, measured.rows)
    for line in [*lines, *measured.notes, f"written to {measured.out}"]:
        console.print(line, highlight=False, markup=False)


def measure(config: "Eval") -> MeasuredReturns:
    """Evaluate a run on a reward and write result.json and episodes.gif.

    Raises:
        UserError: the run, the environment and the reward do not fit together; the text says what to do.
    """
    from wmkit.data.recording import load_task
    from wmkit.evaluation.returns_report import save_returns
    from wmkit.evaluation.rewards import find_reward

    task = load_task(config.env)
    _check(config, task)
    reward = find_reward(task, config.reward)
    variation = _variation(config.variation)
    parts = load_run(config.model, device_of(config.device))
    _check_task(parts, task)
    planning = planning_of(config, parts)
    cost, notes = cost_of(config, parts, reward)
    maker = _maker(config, parts, planning, cost)
    planning = with_defaults(planning, maker(1).planner)
    rows = _rows(config, task, reward, maker, variation)
    out = config.out or _default_out(config, parts.folder, task.name, reward.name)
    if config.gif:
        notes += _gif(out / "episodes.gif", task, rows[0])
    save_returns(
        out / "result.json",
        rows,
        environment=task.name,
        variation=variation,
        seed=config.seed,
        units={name: one.unit for name, one in task.statistics.items()},
        shows=list(reward.statistics),
        notes=notes,
        config=asdict(config),
        planning=planning,
        model=dict(parts.metadata),
    )
    return MeasuredReturns(task, reward, planning, rows, notes, out)


def _check(config: "Eval", task: "Task") -> None:
    """Raise UserError for options out of range, or for those that need goals."""
    given = [f"--{name}" for name in _GOAL_OPTIONS if getattr(config, name) is not None]
    if given or config.bounds:
        options = ", ".join(given or ["--bounds"])
        raise UserError(f"{options}: for environments with goals; {task.name} has rewards ({', '.join(task.rewards)})")
    least = {"episodes": 1, "steps": 1, "batch": 1, "timed": 0}
    for name, lowest in least.items():
        value = getattr(config, name)
        if value is not None and value < lowest:
            raise UserError(f"--{name} must be {lowest} or more, not {value}")


def _variation(texts: tuple[str, ...]) -> dict[str, float]:
    """Return name -> strength of texts NAME or NAME=STRENGTH; a name alone has the strength 0.5."""
    found: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            found[name] = float(number) if equals else 0.5
        except ValueError:
            raise UserError(f"--variation {text}: {number!r} is no number; give NAME=STRENGTH") from None
    return found


def _check_task(parts: Parts, task: "Task") -> None:
    """Raise UserError where the run was trained on another environment."""
    trained = parts.metadata.get("task", task.name)
    if trained != task.name:
        raise UserError(f"{parts.folder} was trained on {trained}; give --env {trained}")
    if parts.dynamics.spec.action_size != len(task.action_low):
        raise UserError(f"{parts.folder} has actions of {parts.dynamics.spec.action_size} numbers, not {task.name}'s")


def planning_of(config: "Eval", parts: Parts) -> dict[str, Any]:
    """Return the planner's settings: the command line's, the dynamics' own, and D-MPC's defaults."""
    own = _DEFAULTS | dict(parts.metadata.get("planning") or {})
    if config.proposal is None and parts.proposal_folder is not None:
        own["proposal"] = str(parts.proposal_folder)
    features = getattr(getattr(parts.dynamics, "config", None), "features", None)
    own.setdefault("horizon", getattr(features, "horizon", 16))
    planning = resolve_planning({"planning": own}, vars(config))
    return planning | {"execute": min(planning["execute"], planning["horizon"])}


def cost_of(config: "Eval", parts: Parts, reward: "NamedReward") -> "tuple[Objective, list[str]]":
    """Return what is minimised: the reward over the plan and, where the run has one for it, the value after that."""
    from ..planners import ActionCost, RewardObjective

    decoder = parts.dynamics if hasattr(parts.dynamics, "decode") else None
    value, weight, notes = parts.value, _value_weight(config, parts, reward), []
    discount = value.config.discount if weight else 1.0
    function = _of_last_action(reward.function, parts.dynamics.spec.action_size)
    cost: Any = RewardObjective(function, "state", decoder, discount=discount)
    if weight:
        cost = cost + value.objective(weight)
        notes.append(f"after a plan's end the run's value of {reward.name!r} counts, weight {weight:g}")
    elif value is not None:
        notes.append(f"the run's value, of {value.config.reward!r}, is left out; plans are ranked by their reward")
    return (cost + config.action_cost * ActionCost() if config.action_cost else cost), notes


def _of_last_action(function: "Callable[..., Any]", size: int) -> "Callable[..., Any]":
    """Return a reward of states and blocks (..., A) that sees each block's last action (..., action_size).

    It is the action that led to the state at the block's end, as in an environment and in recorded data.
    """

    @wraps(function, updated=())
    def reward(states: Any, blocks: Any) -> Any:
        return function(states, blocks[..., -size:])

    return reward


def _value_weight(config: "Eval", parts: Parts, reward: "NamedReward") -> float:
    """Return the weight of the run's value; raises UserError where one is asked for that does not fit."""
    weight, found = config.value_weight, None if parts.value is None else parts.value.config.reward
    if weight is not None and not 0 <= weight < float("inf"):
        raise UserError(f"--value-weight {weight:g}: give 0 to leave the value out, or more")
    if weight and found is None:
        raise UserError(f"--value-weight {weight:g}: {parts.folder} has no value/; leave the option out")
    if weight and found != reward.name:
        raise UserError(
            f"--value-weight {weight:g}: the run's value is of {found!r}, not {reward.name!r}; leave it out"
        )
    return float(found == reward.name) if weight is None else weight


def _maker(config: "Eval", parts: Parts, planning: Mapping[str, Any], cost: "Objective") -> "Callable[[int], Any]":
    """Return what makes a controller for B environments."""
    from .proposals import set_sampling

    own = {"sampler": config.dynamics_sampler, "sampling_steps": config.dynamics_sampling_steps}
    asked = any(value is not None for value in own.values())
    if asked and getattr(parts.dynamics, "sampling", None) is None:
        options = "--dynamics-sampler and --dynamics-sampling-steps"
        raise UserError(f"{options} are for diffusion dynamics, and {parts.folder}'s are not; leave them out")
    maker = controller_maker(parts.dynamics, planning, config.seed, cost)
    set_sampling(parts.dynamics, own, "dynamics-")
    return maker


def _rows(
    config: "Eval", task: "Task", reward: "NamedReward", maker: "Callable[[int], Any]", variation: Mapping[str, float]
) -> "list[Returns]":
    """Run all agents, the model first, and time single decisions of it."""
    from wmkit.evaluation.returns import ControllerAgent, data_returns

    agent = ControllerAgent(maker, Path(config.model).name)
    mine = _evaluate(config, task, reward, agent, variation, "model")
    if config.timed:
        mine = mine.timed(_times(config, task, reward, agent, variation))
    rows = [mine]
    if config.floors:
        from wmkit.evaluation import suite

        rows += [
            _evaluate(config, task, reward, floor, variation, "floor") for floor in suite.floors(task, config.seed)
        ]
    if config.data is not None:
        from wmkit.data.episodes import EpisodeStore

        rows.append(data_returns(task, EpisodeStore.open(config.data), reward, config.steps))
    return rows


def _times(
    config: "Eval", task: "Task", reward: "NamedReward", agent: Any, variation: Mapping[str, float]
) -> list[float]:
    """Return seconds of decisions in one environment alone, the first ones left out."""
    from wmkit.evaluation.returns import evaluate_returns

    controller = agent.controller(1)
    block = controller.execute * controller.model.spec.action_repeat
    steps = block * (10 * config.timed + _WARM_UP)
    evaluate_returns(task, agent, reward, episodes=1, steps=steps, seed=config.seed, variation=variation)
    return agent.decisions[_WARM_UP:]


def _evaluate(
    config: "Eval", task: "Task", reward: "NamedReward", agent: "Agent", variation: Mapping[str, float], kind: str
) -> "Returns":
    """Run one agent with a progress bar."""
    from tqdm import tqdm

    from wmkit.evaluation.returns import evaluate_returns

    with tqdm(desc=agent.name, unit="step", leave=False, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return evaluate_returns(
            task,
            agent,
            reward,
            episodes=config.episodes or _EPISODES,
            steps=config.steps,
            seed=config.seed,
            variation=variation,
            batch=config.batch,
            kind=kind,
            progress=progress,
        )


def _gif(path: Path, task: "Task", shown: "Returns") -> list[str]:
    """Write the GIF; return a line where the environment cannot draw here."""
    from wmkit.evaluation.returns_report import save_returns_gif

    try:
        save_returns_gif(path, task, shown)
    except UserError as error:
        return [f"no GIF: {error}"]
    return []


def _default_out(config: "Eval", folder: Path, task: str, reward: str) -> Path:
    """Return where results go."""
    plain = "".join(letter if letter.isalnum() or letter in "-.=" else "-" for letter in Path(reward).name)
    name = "-".join([task, plain, *config.variation])
    return folder / "eval" / name if Path(config.model).is_dir() else Path("runs") / "eval" / name
