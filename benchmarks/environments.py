"""Frames a second of wmkit's PushT beside gym-pusht's, on this machine.

    python benchmarks/environments.py --gym-pusht-python PYTHON

Each contestant runs in its own Python, on one thread, strictly one after another; the round is repeated, so that a slow
moment of the machine falls on both. The table and `results/gym_pusht.json` give the medians over the rounds and their
ratios. `README.md` here says how to make gym-pusht's environment; `wmkit bench env --peer stable-worldmodel` does the
same with stable-worldmodel.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from wmkit.provenance import provenance

_HERE = Path(__file__).resolve().parent

EQUALS = {f"pusht/pixels/{size}/batch 128": f"pusht/pixels/{size}" for size in (64, 96, 224)}
"""Our batched cases -> the case of the other beside them: it has no batched form."""


@dataclass(frozen=True)
class Environments:
    """Options of this benchmark."""

    gym_pusht_python: Path | None = None
    """Python with gym-pusht installed; without it, that column is missing."""
    seconds: float = 1.0
    """Seconds a case is measured for in each round."""
    rounds: int = 5
    """Rounds; the median over them is reported."""
    out: Path = _HERE / "results" / "gym_pusht.json"
    """Where the numbers go."""


def main(config: Environments) -> None:
    """Run the rounds, print the table, write the JSON."""
    contestants = _contestants(config)
    rounds = []
    for number in range(config.rounds):
        print(f"round {number + 1} of {config.rounds}", file=sys.stderr)
        rounds.append({name: _measure(command) for name, command in contestants.items()})
    medians = {name: _medians([one[name] for one in rounds]) for name in contestants}
    result = {
        "provenance": provenance(),
        "unit": "frames per second",
        "seconds": config.seconds,
        "medians": medians,
        "ratios": {name: _ratios(medians["wmkit"], medians[name]) for name in contestants if name != "wmkit"},
        "rounds": rounds,
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(result, indent=2) + "\n")
    print(_table(medians))


def _contestants(config: Environments) -> dict[str, list[str]]:
    """Return name -> command that prints {"rates": {case: rate}} as its last line."""
    seconds = str(config.seconds)
    ours = [sys.executable, "-m", "wmkit.scripts.main", "bench", "env", "--cases", "pusht", "--json"]
    ours += ["--seconds", seconds]
    peers = {"gym-pusht": (config.gym_pusht_python, "gym_pusht_environments.py")}
    folder = _HERE / "peers"
    given = {name: [str(python), str(folder / file), seconds] for name, (python, file) in peers.items() if python}
    return {"wmkit": ours, **given}


def _measure(command: list[str]) -> dict[str, float]:
    """Run one contestant on one thread, without a display, and read its rates."""
    settings = os.environ | {"OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy"}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])["rates"]


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {case: statistics.median(one[case] for one in rounds) for case in rounds[0]}


def _ratios(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Return our case -> our rate over theirs, where they have that case or the one that stands beside it."""
    beside = {case: EQUALS.get(case, case) for case in ours}
    return {case: round(rate / theirs[beside[case]], 2) for case, rate in ours.items() if beside[case] in theirs}


def _table(medians: dict[str, dict[str, float]]) -> str:
    """Lay out the medians and ratios in Markdown."""
    peers = [name for name in medians if name != "wmkit"]
    head = "| frames per second | wmkit | " + "".join(f"{name} | ratio | " for name in peers)
    lines = [head.rstrip(), "| --- " + "| ---: " * (1 + 2 * len(peers)) + "|"]
    ratios = {name: _ratios(medians["wmkit"], medians[name]) for name in peers}
    for case, rate in medians["wmkit"].items():
        cells = [case, f"{rate:,.0f}"]
        for name in peers:
            theirs = medians[name].get(EQUALS.get(case, case))
            cells += ["-", "-"] if theirs is None else [f"{theirs:,.0f}", f"{ratios[name][case]:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Environments, description=__doc__))
