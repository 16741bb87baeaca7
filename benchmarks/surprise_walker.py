"""How soon a weak ankle is noticed on the walker, by which model.

    wmkit collect walker --task walk --quality medium --episodes 400 --max-steps 80 --seed 555 --out data/walker-nominal
    python benchmarks/surprise_walker.py data/walker-nominal --runs runs/dmpc/medium

The `medium` expert acts for two seconds, from dm-control's random poses; the right ankle becomes weak after about
three quarters of a second, and the expert does not know. The same episodes are watched through several models, each
with a monitor calibrated on the nominal data: one autoregressive dynamics, an ensemble of those of all seeds, and the
true simulator, which knows the unchanged robot, with states that are measured with some noise. Strength 0.5 halves the
largest torque, strength 1 leaves none. Traces are kept in `--traces` and are not played again.
"""

# pyright: reportMissingImports=false

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from wmkit import SurpriseMonitor
from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import load_task
from wmkit.envs.perturbations import PerturbedVectorEnv
from wmkit.evaluation.statistics import wilson
from wmkit.evaluation.violation_episodes import NoisyExpert, ResetStarts, draw_moments
from wmkit.models import AutoregressiveDynamics, Ensemble, SimulatorModel
from wmkit.monitor.calibration import calibrate
from wmkit.monitor.signals import Signals
from wmkit.monitor.traces import recorded
from wmkit.provenance import provenance

_HERE = Path(__file__).resolve().parent
_REPEAT = 2


@dataclass(frozen=True)
class Args:
    """What to run."""

    data: tyro.conf.Positional[Path]
    """Folder of nominal episodes of the same expert."""
    runs: Path
    """Folder with seedS/autoregressive."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds; the first is the single model."""
    strengths: tuple[float, ...] = (0.5, 1.0)
    """Of the weak ankle."""
    episodes: int = 100
    """Of each condition."""
    steps: int = 80
    """Control steps of an episode."""
    seed: int = 777
    """Of the first poses, the expert and the moments."""
    noise: float = 0.01
    """Standard deviation of what the true simulator's model measures, in the states' units."""
    traces: Path = Path("runs/surprise_walker.npz")
    """Where the played episodes are kept."""
    out: Path = _HERE / "results" / "surprise_walker.json"
    """JSON file of the result."""


def play(args: Args, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return observed states (E, S + 1, 18) and the actions that were asked for (E, S, 6)."""
    task = load_task("walker")
    env = PerturbedVectorEnv(task.make_vector(num_envs=args.episodes, obs_type="state"), task, seed=args.seed)
    starts = ResetStarts(args.episodes, args.steps, args.seed)
    expert = NoisyExpert(task, "state", args.seed, 0.0, ("walk", 0.5))
    moments = draw_moments(starts.budgets, 0.3, 0.4, args.seed)
    seen, start = starts.begin(env, np.arange(args.episodes))
    expert.reset(start)
    states, actions, true = [seen["state"]], [], start.states
    for step in range(args.steps):
        actions.append(expert.act(seen, true))
        if strength and (moments == step).any():
            env.switch("weak-ankle", strength, moments == step)
        seen, _, _, _, info = env.step(actions[-1])
        states.append(seen["state"])
        true = info["state"]
    env.close()
    return np.stack(states, axis=1), np.stack(actions, axis=1)


def traces(args: Args) -> dict[str, Any]:
    """Return the played episodes of all conditions, strength -> states and actions; played if need be."""
    found = dict(np.load(args.traces)) if args.traces.exists() else {}
    for strength in (0.0, *args.strengths):
        if f"{strength}/states" not in found:
            found[f"{strength}/states"], found[f"{strength}/actions"] = play(args, strength)
            args.traces.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(args.traces, **found)
            print(f"played strength {strength}", flush=True)
    return found


class _Measured:
    """A model whose states are measured with noise."""

    def __init__(self, model: Any, noise: float) -> None:
        self._model, self._noise, self._random = model, noise, np.random.default_rng(0)
        self.spec = model.spec
        self.rollout = model.rollout

    def encode(self, observations: Any) -> torch.Tensor:
        states = np.asarray(observations["state"])
        return self._model.encode({"state": states + self._noise * self._random.standard_normal(states.shape)})


def watched(model: Any, monitor: SurpriseMonitor, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Return the alarms (E, M) at the starts of model steps."""
    monitor.reset()
    seen, blocks = states[:, ::_REPEAT], actions.reshape(len(actions), -1, 6 * _REPEAT)
    found = []
    for step in range(seen.shape[1]):
        latents = model.encode({"state": seen[:, step : step + 1]})[:, 0]
        block = torch.as_tensor(blocks[:, step - 1]).to(latents) if step else None
        found.append([one.alarm for one in monitor.update(latents, block)])
    return np.array(found).T


def judged(alarms: np.ndarray, moments: np.ndarray, seconds_per_step: float) -> dict[str, Any]:
    """Return how many first alarms (E, M) came within half a second and within one."""
    times = np.arange(alarms.shape[1]) * _REPEAT
    after = times[None] > moments[:, None]
    clean = ~(alarms & ~after).any(axis=1)
    first = np.where((alarms & after).any(axis=1), times[(alarms & after).argmax(axis=1)] - moments, np.inf)[clean]
    found: dict[str, Any] = {"of": int(clean.sum())}
    for name, limit in (("half a second", 0.5), ("one second", 1.0)):
        count = int((first * seconds_per_step <= limit).sum())
        found[name] = {"count": count, "share": count / clean.sum(), "wilson": list(wilson(count, int(clean.sum())))}
    return found


def main(args: Args) -> None:
    """Play what is missing, watch it through each model, print and write."""
    torch.set_num_threads(1)
    task, played = load_task("walker"), traces(args)
    moments = draw_moments(np.full(args.episodes, args.steps), 0.3, 0.4, args.seed)
    members = [AutoregressiveDynamics.from_pretrained(args.runs / f"seed{s}" / "autoregressive") for s in args.seeds]
    simulator = SimulatorModel.from_task("walker", {}, action_repeat=_REPEAT)
    models = {
        "autoregressive": (members[0], 3),
        "ensemble": (Ensemble(members), 3),
        "true simulator": (_Measured(simulator, args.noise), 0),
    }
    store, result = EpisodeStore.open(args.data), {}
    for name, (model, k) in models.items():
        episodes = recorded(Signals(model, k=k), store, range(len(store.lengths)))
        monitor = SurpriseMonitor(model, calibrate(episodes, model, k=k, facts={"task": "walker"}))
        alarms = {
            s: watched(model, monitor, played[f"{s}/states"], played[f"{s}/actions"]) for s in (0.0, *args.strengths)
        }
        nominal = alarms[0.0]
        result[name] = {
            "nominal": {"steps": nominal.size, "alarms_on": int(nominal.sum()), "share": float(nominal.mean())},
            "placebo": judged(nominal, moments, task.seconds_per_step),
            **{f"strength {s}": judged(alarms[s], moments, task.seconds_per_step) for s in args.strengths},
        }
        print(name, json.dumps(result[name]), flush=True)
    config = {"episodes": args.episodes, "steps": args.steps, "seed": args.seed, "noise": args.noise}
    config |= {"data": store.fingerprint, "seeds": list(args.seeds)}
    args.out.write_text(json.dumps({"result": result, "config": config, "provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
