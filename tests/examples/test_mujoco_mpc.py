"""Planning through a MuJoCo model swings its pole up."""

import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "mujoco_mpc.py"


def test_the_pole_is_swung_up_and_held(capsys):
    spec = importlib.util.spec_from_file_location("mujoco_mpc", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(seconds=5.0) > 0.9
    assert "at the median" in capsys.readouterr().out
