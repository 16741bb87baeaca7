r"""What planning anew on a surprise is worth: PushT, where the block is moved by an unseen hand in mid-episode.

    wmkit calibrate pretrained:pusht-tiny --data data/pusht-nominal --false-alarms 0.01
    python benchmarks/replan_on_surprise.py pretrained:pusht-tiny

The pairs are those of the protocol short, from held-out episodes. In each, between the environment steps 5 and 20, the
block (and it alone) is moved and turned; the goal stays, and so does the pusher. A pair counts as solved if the success
rule holds at any of the `--budget` environment steps after that, by default twice the protocol's; what happened before
does not count. Pairs, times and draws are the same for all arms. "expert" reads the simulator's state and says what
share of the goals can be reached after the move; "hold" stays where it is.

The arms execute a plan of five model steps to its end ("open loop") or plan anew at each model step ("every step"):

- "plain": as the model plans in the protocol: the horizon ends where the recording reached its goal, and is one model
  step after that;
- "alone": the same, but a fresh start, with the whole horizon, where the monitor raises an alarm;
- "restart": where the horizon has ended, it begins anew, whole, so that every five model steps there is a fresh start;
- "surprise": both of these.

With `--undisturbed` the same arms run without the move, which shows what false alarms cost. Finished arms are in the
JSON file and are not run again.
"""

# pyright: reportMissingImports=false

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import tyro
from dmpc_common import RESULTS, Cells, settings_of
from recorded import Recorded

from wmkit.control.controller import Controller
from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import load_task
from wmkit.data.splits import load_splits
from wmkit.envs.perturbations import PerturbedVectorEnv
from wmkit.evaluation import suite
from wmkit.evaluation.held_out import read_recordings
from wmkit.evaluation.manifest import Manifest
from wmkit.evaluation.protocols import PROTOCOLS, draw_manifest
from wmkit.evaluation.runner import reset_to
from wmkit.evaluation.statistics import bootstrap, compare, percentiles, wilson
from wmkit.monitor.report import Response, Surprise
from wmkit.monitor.surprise import SurpriseMonitor
from wmkit.planners import CEM, GoalObjective, Hold, InverseDynamicsProposal
from wmkit.scripts.assembly import load_model, resolve_planning
from wmkit.tasks import Task

_KINDS = ("plain", "alone", "restart", "surprise")
_AGAINST = (("alone", "plain"), ("surprise", "plain"), ("surprise", "restart"))
_PACES = ("open loop", "every step")


@dataclass(frozen=True)
class Args:
    """What to run."""

    model: tyro.conf.Positional[str] = "pretrained:pusht-tiny"
    """Folder of a model, or pretrained:NAME."""
    calibration: str | None = None
    """Folder of the monitor's calibration; by default the model's."""
    data: Path | None = None
    """Data set whose episodes give the pairs; by default the manifest in the model's folder."""
    split: Literal["heldout", "validation"] = "heldout"
    """Of the data set; "validation" is for trying out."""
    episodes: int = 200
    """Pairs."""
    strength: float = 0.5
    """Of the move; 1 is anywhere."""
    budget: int = 100
    """Environment steps after the move."""
    between: tuple[int, int] = (5, 20)
    """First and last environment step at which the move may come."""
    per: Literal["step", "episode"] = "step"
    """What the calibrated rate of false alarms is of."""
    seed: int = 0
    """Of pairs, moves and plans."""
    batch: int = 100
    """Pairs side by side."""
    undisturbed: bool = False
    """Run the arms without the move, too."""
    out: Path = RESULTS / "replan_on_surprise.json"
    """JSON file of the result."""


class Actor(Protocol):
    """Something that acts in B environments side by side."""

    def act(self, observation: Mapping[str, np.ndarray], states: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return actions (B, action_size); `moved` (B,) says where the block was moved just now."""
        ...


class Fresh:
    """A reaction that plans anew, with the whole horizon, where a horizon has ended.

    Args:
        horizon: model steps; None leaves its end to the controller.
        surprised: whether an alarm that begins does the same.

    Attributes:
        began: (row, model step) of each alarm that began, in their order.
    """

    def __init__(self, horizon: int | None, surprised: bool) -> None:
        self._horizon, self._surprised = horizon, surprised
        self._start: dict[int, int] = {}
        self.began: list[tuple[int, int]] = []

    def __call__(self, surprise: Surprise) -> Response | None:
        """Say whether a row makes a fresh start."""
        row, step = surprise.row, surprise.step
        if surprise.began:
            self.began.append((row, step))
        passed = step - self._start.setdefault(row, step)
        ended = self._horizon is not None and passed >= self._horizon
        if not (ended or (surprise.began and self._surprised)):
            return None
        self._start[row] = step
        return Response(replan=True)


class Planned:
    """A model behind a controller, with a monitor where its arm has one."""

    def __init__(
        self, args: Args, model: Any, pace: str, kind: str, goals: Mapping[str, np.ndarray], steps: int
    ) -> None:
        planning = resolve_planning(model.metadata, {})
        own = {name: planning[name] for name in ("horizon", "samples", "iterations", "elites", "std", "min_std")}
        proposal = InverseDynamicsProposal(model) if planning["proposal"] == "inverse" else None
        hold = model.spec.action_repeat if planning["hold"] == "block" else planning["hold"]
        self.planner = Recorded(CEM(model, **own, parametrisation=Hold(hold), proposal=proposal, seed=args.seed))
        horizon = planning["horizon"]
        self.fresh = Fresh(None if kind == "alone" else horizon, kind != "restart")
        monitored: dict[str, Any] = {}
        if kind != "plain":
            monitor = SurpriseMonitor.from_pretrained(args.calibration or args.model, model, task="pusht", per=args.per)
            monitored = {"monitor": monitor, "reaction": self.fresh}
        self.controller = Controller(
            self.planner,
            lambda goal: GoalObjective(goal, reduce=planning["objective"]),
            execute=horizon if pace == "open loop" else 1,
            min_horizon=planning["min_horizon"],
            warm_start=planning["warm_start"],
            **monitored,
        )
        self.controller.set_goal(dict(goals), steps=steps)

    def act(self, observation: Mapping[str, np.ndarray], states: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return the controller's actions (B, action_size)."""
        return self.controller.act(observation)


class Expert:
    """The task's expert, which sees the state and starts anew where the block was moved; or nothing that moves."""

    def __init__(self, args: Args, task: Task, goals: np.ndarray, scenes: list[Any], acts: bool) -> None:
        self._experts = [task.expert(args.seed + row) for row in range(len(goals))] if acts else []
        self._goals, self._scenes = goals, scenes
        self._rest = np.zeros((len(goals), len(task.action_low)))
        self._begun = False

    def act(self, observation: Mapping[str, np.ndarray], states: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return the experts' actions (B, action_size)."""
        for row, expert in enumerate(self._experts):
            if moved[row] or not self._begun:
                expert.reset(states[row], self._goals[row], self._scenes[row])
        self._begun = True
        return np.stack([e.act(s) for e, s in zip(self._experts, states, strict=True)]) if self._experts else self._rest


def manifest_of(args: Args, task: Task, model: Any, folder: Path) -> Manifest:
    """Return the pairs."""
    if args.split == "heldout":
        training = (model.metadata or {}).get("data") or {}
        return suite.obtain(
            task, "short", args.episodes, seed=args.seed, data=args.data, folder=folder, training=training
        ).manifest
    if args.data is None:
        raise SystemExit("--split validation needs --data")
    store = EpisodeStore.open(args.data)
    recordings = read_recordings(store, load_splits(store), args.split)
    return draw_manifest(task, PROTOCOLS["short"], args.episodes, args.seed, recordings=recordings, split=args.split)


def moves(args: Args) -> np.ndarray:
    """Return the environment step (P,) of each pair's move."""
    return np.random.default_rng([args.seed, 0x7E1E]).integers(args.between[0], args.between[1] + 1, args.episodes)


def episodes_of(
    args: Args, task: Task, model: Any, manifest: Manifest, rows: np.ndarray, pace: str, kind: str, moved: bool
) -> dict[str, Any]:
    """Run the pairs `rows` in one arm; return lists of one entry a pair, and seconds of each decision."""
    size = int(model.spec.observations["pixels"].shape[0])
    planned = kind in _KINDS
    inner = task.make_vector(num_envs=len(rows), obs_type="pixels" if planned else "state", image_size=size)
    env: Any = PerturbedVectorEnv(inner, task, seed=args.seed)
    pairs, goals, times = [manifest.pairs[row] for row in rows], manifest.goals[rows], moves(args)[rows]
    first, far = np.full(len(rows), -1), np.zeros(len(rows))
    try:
        observation, info = reset_to(env, pairs, manifest.starts[rows], goals, args.seed + int(rows[0]))
        distance = pairs[0].goal_row - pairs[0].start_row
        actor: Actor = (
            Planned(args, model, pace, kind, {"pixels": np.array(info["goal_pixels"])}, distance)
            if planned
            else Expert(args, task, goals, [pair.variation for pair in pairs], kind == "expert")
        )
        for step in range(int(times.max()) + args.budget):
            due = times == step
            if moved and due.any():
                before = np.array(info["state"])
                env.switch("teleport", args.strength, mask=due)
                observation, info = env.observe(), env.info()
                far = np.where(due, np.linalg.norm((info["state"] - before)[:, 2:4], axis=1), far)
            actions = actor.act(observation, np.array(info["state"]), due & moved)
            observation, _, _, _, info = env.step(actions)
            counts = (first < 0) & (step >= times) & (step < times + args.budget)
            solved = counts & task.success(np.array(info["state"]), goals, manifest.rule, False)
            first[solved] = (step + 1 - times)[solved]
    finally:
        env.close()
    found = {"first": first.tolist(), "moved_px": far.round(1).tolist(), "plans": [], "decisions": [], "alarms": []}
    if isinstance(actor, Planned):
        found["plans"] = [sum(len(plan.actions) for plan in actor.planner.plans)]
        found["decisions"] = actor.controller.decisions[1:]
        found["alarms"] = _alarms(actor.fresh.began, times, model.spec.action_repeat)
    return found


def _alarms(began: list[tuple[int, int]], times: np.ndarray, repeat: int) -> list[list[int]]:
    """Return for each pair how many alarms began before the move, and model steps from it to the first after, or -1."""
    found = []
    for number, time in enumerate(times.tolist()):
        seen = -(-time // repeat)
        steps = [step for row, step in began if row == number]
        after = [step - seen for step in steps if step >= seen]
        found.append([sum(step < seen for step in steps), after[0] if after else -1])
    return found


def arm(args: Args, task: Task, model: Any, manifest: Manifest, pace: str, kind: str, moved: bool) -> dict[str, Any]:
    """Run one arm; return its row of the table."""
    chunks = [
        episodes_of(args, task, model, manifest, rows, pace, kind, moved)
        for rows in np.array_split(np.arange(args.episodes), -(-args.episodes // args.batch))
    ]
    joined = {name: [each for chunk in chunks for each in chunk[name]] for name in chunks[0]}
    solved, alarms = [first > 0 for first in joined["first"]], np.array(joined.pop("alarms")).reshape(-1, 2)
    hits, by = sum(solved), (25, 50, 75, 100, 150)
    decisions = joined.pop("decisions")
    row = {"success": hits / args.episodes, "interval": list(wilson(hits, args.episodes)), "first": joined["first"]}
    row["success_by"] = {str(n): float(np.mean([0 < f <= n for f in joined["first"]])) for n in by if n <= args.budget}
    if moved:
        row["moved_px"] = joined["moved_px"]
    if kind in _KINDS:
        row |= {"plans": sum(joined["plans"]) / args.episodes, "decision": percentiles(decisions)}
    if kind in _KINDS[1:]:
        row["alarms_before"] = int(alarms[:, 0].sum())
        row["detected"] = float((alarms[:, 1] >= 0).mean())
        row["detected_at_once"] = float(np.isin(alarms[:, 1], (0, 1)).mean())
    return row


def comparisons(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return McNemar's test and the difference with its interval, of arms of the same pace."""
    found = {}
    for name in cells:
        pace, _, kind = name.rpartition(", ")
        for other in (f"{pace}, {against}" for one, against in _AGAINST if one == kind):
            if other in cells:
                first, second = (np.array(cells[each]["first"]) > 0 for each in (name, other))
                gain = first.astype(float) - second
                numbers = {"mean": float(gain.mean()), "interval": list(bootstrap(gain))}
                found[f"{name} - {other}"] = numbers | asdict(compare(first.tolist(), second.tolist()))
    return found


def main(args: Args) -> None:
    """Run the missing arms and print the table."""
    torch.set_num_threads(1)
    task = load_task("pusht")
    model, folder = load_model(args.model)
    manifest = manifest_of(args, task, model, folder)
    settings = settings_of(args, {"model", "calibration", "data", "out", "undisturbed", "batch"})
    cells = Cells(args.out, settings | {"model": folder.name, "manifest": manifest.sha256})
    arms = [("", "expert"), ("", "hold"), *((pace, kind) for pace in _PACES for kind in _KINDS)]
    for moved in (True, False) if args.undisturbed else (True,):
        for pace, kind in arms:
            name = ", ".join(part for part in ("" if moved else "undisturbed", pace, kind) if part)
            if cells.missing(name):
                cells.add(name, row := arm(args, task, model, manifest, pace, kind, moved))
                more = {
                    key: row[key] for key in ("plans", "alarms_before", "detected", "detected_at_once") if key in row
                }
                print(f"{name:<36}{row['success']:7.1%} {more}", flush=True)
    cells.put("comparisons", found := comparisons(cells.read()))
    for name, row in found.items():
        low, high = row["interval"]
        print(f"{name:<60}{row['mean']:+7.1%} [{low:+.1%}, {high:+.1%}] p {row['p_value']:.2g}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
