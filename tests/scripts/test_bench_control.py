"""`wmkit bench control` from the command line, for a few seconds."""

import json
import os
import subprocess
import time

import pytest

from wmkit.scripts import main as program
from wmkit.scripts.bench_control import burning


def test_control_measures_and_prints_json(capsys):
    words = ["bench", "control", "--seconds", "4", "--rate", "10", "--delay-ms", "150", "--load", "--json"]
    assert program.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    control = found["control"]
    assert control["unsafe_actions"] == 0
    assert 5 <= control["counters"]["ticks"] <= 42
    assert control["counters"]["plans"] > 0
    assert sum(row[2] for row in control["histogram"]) >= control["counters"]["plans"]
    assert found["settings"]["delay_ms"] == 150
    assert found["provenance"]["python"]


def test_control_prints_a_table(capsys):
    assert program.main(["bench", "control", "--seconds", "1.5"]) == 0
    out = capsys.readouterr().out
    for word in ("unsafe actions   0", "missed", "planning         p50", "tick jitter", "refused          none"):
        assert word in out


@pytest.mark.parametrize(("option", "value"), [("--rate", "0"), ("--delay-ms", "-1"), ("--replan-every", "0")])
def test_options_out_of_range_are_named(capsys, option, value):
    assert program.main(["bench", "control", option, value]) == 2
    assert f"{option} must be" in capsys.readouterr().err


def test_burning_processes_end_with_the_block():
    with burning():
        time.sleep(0.3)
        children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True)
        assert "-S -c" in children.stdout
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True)
    assert "-S -c" not in children.stdout
