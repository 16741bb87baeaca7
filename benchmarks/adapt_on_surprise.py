r"""What an adapted dynamics is worth from the alarm on: a walker whose ankle goes weak while it walks.

    wmkit calibrate runs/dmpc/medium/seed0_autoregressive/dynamics --data data/medium --false-alarms 0.01
    python benchmarks/adapt_on_surprise.py runs/dmpc/medium/seed0_autoregressive \
        --adapted runs/dmpc/medium-play/seed0/autoregressive_adapted30 \
        runs/dmpc/medium-play/seed0/autoregressive_adapted100

All arms plan for walking with the same proposal from the same first poses, and are measured by the rewards of the
`--steps` control steps after the change, which comes at the control step `--change`:

- "nominal": nothing changes
- "unadapted": the ankle goes weak, the dynamics stays
- "FOLDER": at the first alarm of an episode, true or false, its dynamics is exchanged for the one in FOLDER, which
  `wmkit adapt` made beforehand from episodes of a robot so changed
- "FOLDER, told": the same, at the very control step of the change, which is the most that a monitor can bring

What the exchange brings is thus what a robot gains that was adapted once (a matter of minutes) and is hurt alike again.
Intervals resample episodes, paired between arms. Finished arms are in the JSON file and are not run again.
"""

# pyright: reportMissingImports=false

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from dmpc_common import RESULTS, Cells, Planning, load_part, pose_seed, settings_of
from torch import Tensor

from wmkit.contracts import Context, Objective, Plan, Planner
from wmkit.control.controller import Controller
from wmkit.data.recording import load_task
from wmkit.evaluation.rewards import find_reward
from wmkit.evaluation.statistics import bootstrap, percentiles
from wmkit.monitor.report import Surprise
from wmkit.monitor.surprise import SurpriseMonitor
from wmkit.planners import RewardObjective


@dataclass(frozen=True)
class Args:
    """What to run."""

    run: tyro.conf.Positional[Path]
    """Run of the unchanged robot."""
    calibration: Path | None = None
    """Folder of the monitor's calibration; by default the run's dynamics."""
    adapted: tuple[Path, ...] = ()
    """Runs whose dynamics was adapted to the changed robot."""
    variation: str = '{"weak_ankle": 1.0}'
    """What changes: JSON of names and strengths."""
    change: int = 100
    """Control step at which it changes."""
    steps: int = 250
    """Control steps after it."""
    episodes: int = 20
    """Side by side."""
    seed: int = 0
    """Of first poses and plans."""
    told: bool = True
    """Run the arms that are told of the change."""
    planning: Planning = field(default_factory=Planning)
    """How plans are made."""
    out: Path = RESULTS / "adapt_on_surprise.json"
    """JSON file of the result."""


class Exchange:
    """A reaction that notes the rows whose dynamics is to be exchanged: at their first alarm, or not at all.

    Args:
        rows: B.
        acts: whether an alarm exchanges anything.

    Attributes:
        done: (B,) bool, rows with the other dynamics.
        alarms: (model step, row, kind) of each alarm that began, in their order.
    """

    def __init__(self, rows: int, acts: bool) -> None:
        self.done = np.zeros(rows, bool)
        self.alarms: list[tuple[int, int, str | None]] = []
        self._acts = acts

    def __call__(self, surprise: Surprise) -> None:
        """Take a row's surprise."""
        if surprise.began:
            self.alarms.append((surprise.step, surprise.row, surprise.kind))
        if surprise.alarm and self._acts:
            self.done[surprise.row] = True


class TwoModels(Controller):
    """A controller that plans for some rows through another planner.

    Args:
        planner: for most rows.
        other: for those that were exchanged.
        exchange: says which.
        objective: what to minimise, through either.
        settings: of `Controller`.
    """

    def __init__(
        self, planner: Planner, other: Planner, exchange: Exchange, objective: Objective, **settings: Any
    ) -> None:
        super().__init__(planner, objective, **settings)
        self._pair = (planner, other)
        self._exchange = exchange

    def plan_from(
        self,
        context: Context,
        *,
        warm_start: Tensor | None = None,
        horizon: int | None = None,
        rows: np.ndarray | None = None,
    ) -> Plan:
        """Plan as `Controller` does, the exchanged rows apart; the plan's other fields are those of the last part."""
        rows = np.arange(context.batch) if rows is None else rows
        actions, plan = torch.zeros(0), None
        for planner, chosen in zip(self._pair, (~self._exchange.done[rows], self._exchange.done[rows]), strict=True):
            index = torch.from_numpy(np.flatnonzero(chosen))
            if not len(index):
                continue
            self.planner = planner
            warm = None if warm_start is None else warm_start[index]
            plan = super().plan_from(context.select(index), warm_start=warm, horizon=horizon, rows=rows[chosen])
            actions = plan.actions.new_zeros((len(rows), *plan.actions.shape[1:])) if not len(actions) else actions
            actions[index] = plan.actions
        self.planner = self._pair[0]
        if plan is None:
            raise ValueError("there are no rows to plan for")
        return replace(plan, actions=actions)


def controller_of(args: Args, folder: Path | None, exchange: Exchange) -> Controller:
    """Return the controller of an arm; `folder` is the other run, None for none."""
    model, proposal = load_part(args.run / "dynamics"), load_part(args.run / "proposal")
    planner = args.planning.ranked(model, proposal, args.seed)
    other = planner if folder is None else args.planning.ranked(load_part(folder / "dynamics"), proposal, args.seed)
    reward = find_reward(load_task("walker"), "walk").function
    monitor = SurpriseMonitor.from_pretrained(args.calibration or args.run / "dynamics", model, task="walker")

    objective = RewardObjective(reward, "state", planner.model)  # pyright: ignore[reportArgumentType]
    settings: dict[str, Any] = {"execute": args.planning.execute, "monitor": monitor, "reaction": exchange}
    return TwoModels(planner, other, exchange, objective, **settings)


def arm(args: Args, folder: Path | None, changes: bool, told: bool) -> dict[str, Any]:
    """Run the episodes of one arm."""
    task, rows = load_task("walker"), args.episodes
    exchange = Exchange(rows, folder is not None and not told)
    controller = controller_of(args, folder, exchange)
    began, cpu = time.perf_counter(), time.process_time()
    env: Any = task.make_vector(num_envs=rows, obs_type="state", task=find_reward(task, "walk").function)
    earned = np.zeros((rows, args.change + args.steps))
    early = np.zeros(rows, bool)
    try:
        observation, _ = env.reset(seed=pose_seed(args.seed))
        for step in range(args.change + args.steps):
            if step == args.change:
                early = exchange.done.copy()
                exchange.done |= told
                if changes:
                    env.set_variation(json.loads(args.variation))
            observation, earned[:, step], _, _, _ = env.step(controller.act(observation))
    finally:
        env.close()
    return {
        "before": earned[:, : args.change].sum(axis=1).round(4).tolist(),
        "after": earned[:, args.change :].sum(axis=1).round(4).tolist(),
        "exchanged_early": int(early.sum()),
        "exchanged": int(exchange.done.sum()),
        **_detection(args, exchange, controller.model.spec.action_repeat),
        "decision": percentiles(controller.decisions[1:]),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def _detection(args: Args, exchange: Exchange, repeat: int) -> dict[str, Any]:
    """Return how many episodes had an alarm before and after the change, when, and of what kind."""
    change = args.change // repeat
    after = [alarm for alarm in exchange.alarms if alarm[0] > change]
    delays = [min((s for s, r, _ in after if r == row), default=None) for row in range(args.episodes)]
    return {
        "alarm_before": len({row for step, row, _ in exchange.alarms if step <= change}),
        "alarm_after": sum(delay is not None for delay in delays),
        "delays": [None if delay is None else (delay - change) * repeat for delay in delays],
        "kinds": [kind for _, _, kind in after],
    }


def table(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return and print the returns after the change, and the differences to "unadapted"."""
    rows: dict[str, Any] = {}
    for name, cell in cells.items():
        values = np.array(cell["after"])
        rows[name] = {"mean": float(values.mean()), "interval": list(bootstrap(values))}
        if name != "unadapted" and "unadapted" in cells:
            gain = values - np.array(cells["unadapted"]["after"])
            rows[name] |= {"gain": float(gain.mean()), "gain_interval": list(bootstrap(gain))}
        row = rows[name]
        low, high = row.get("gain_interval", (0.0, 0.0))
        gain = f", {row['gain']:+.1f} [{low:+.1f}, {high:+.1f}]" if "gain" in row else ""
        print(f"{name:<44}{row['mean']:7.1f} [{row['interval'][0]:.1f}, {row['interval'][1]:.1f}]{gain}")
    return rows


def main(args: Args) -> None:
    """Run the missing arms and print the table."""
    torch.set_num_threads(1)
    cells = Cells(
        args.out, settings_of(args, {"run", "calibration", "adapted", "told", "out"}) | {"run": args.run.name}
    )
    arms: dict[str, tuple[Path | None, bool, bool]]
    arms = {"nominal": (None, False, False), "unadapted": (None, True, False)}
    arms |= {folder.name: (folder, True, False) for folder in args.adapted}
    arms |= {f"{folder.name}, told": (folder, True, True) for folder in args.adapted if args.told}
    for name, (folder, changes, told) in arms.items():
        if cells.missing(name):
            cells.add(name, cell := arm(args, folder, changes, told))
            facts = ("alarm_before", "alarm_after", "exchanged_early", "exchanged", "cpu_seconds")
            print(f"{name:<44}{np.mean(cell['after']):7.1f} { {fact: cell[fact] for fact in facts} }", flush=True)
    cells.put("table", table(cells.read()))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
