"""Measure rates on this machine; without a name, list what can be measured.

For example:

    wmkit bench
    wmkit bench plan
    wmkit bench plan pretrained:pusht-tiny --deadline-ms 20
    wmkit bench plan --peer stable-worldmodel --peer-python PEER/bin/python --out plan.json
    wmkit bench env --seconds 2 --json
    wmkit bench control --load
    wmkit bench control runs/quickstart/model --env two-room --manifest MANIFEST --rate 20 --delay-ms 150

`wmkit bench NAME --help` shows a benchmark's options. A peer, another package that is measured in turns with wmkit,
lives in a Python of its own, which --peer-python or the environment variable WMKIT_PEER_PYTHON names.
"""

from dataclasses import dataclass

__all__ = ["COMMANDS", "Bench", "run"]

COMMANDS = {
    "plan": "one planning decision, by dtype and path, beside a peer on the same weights; or what makes a deadline",
    "train": "frames a second of training, beside a peer on the same batch",
    "env": "frames a second of the environments, one core",
    "data": "clips a second from recorded episodes, beside a peer on the same frames",
    "control": "deadlines, delays and success of a model that drives an environment in wall-clock time",
}
"""Benchmark -> summary; NAME is the module `wmkit.scripts.bench_NAME` with a dataclass `NameBench` and `run`."""


@dataclass(frozen=True)
class Bench:
    """What `wmkit bench` alone is asked for: nothing."""


def run(config: Bench) -> None:
    """List what can be measured."""
    print("\n".join(f"{name:<10}{text}" for name, text in COMMANDS.items()))
