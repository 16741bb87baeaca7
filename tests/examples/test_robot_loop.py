"""The plain-Python example runs and plans."""

import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot_loop.py"


def test_the_example_drives_its_cart_towards_the_goals(capsys):
    spec = importlib.util.spec_from_file_location("robot_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(seconds=1.0)
    goals = [line for line in capsys.readouterr().out.splitlines() if line.startswith("goal")]
    assert len(goals) == 2
    assert all("running" in line for line in goals)
    x = [float(line.split("cart at [")[1].split()[0]) for line in goals]
    assert x[0] > 0.2
    assert x[1] < x[0]
