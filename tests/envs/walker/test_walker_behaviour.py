"""What episodes are told by, on episodes made by hand."""

import numpy as np
import pytest

from wmkit import registry
from wmkit.envs.walker import STATISTICS

TASK = registry.load("environments", "walker")


def _episodes(**columns):
    """Return states (2, 4, 18): one episode with the given columns, and one at rest."""
    states = np.zeros((2, 4, 18))
    for column, values in columns.items():
        states[0, :, {"height": 0, "way": 1, "pitch": 2, "speed": 10}[column]] = values
    return states


@pytest.mark.parametrize(
    ("name", "columns", "expected", "rest"),
    [
        ("speed", {"speed": [0, 1, 2, 3]}, 1.5, 0.0),
        ("torso height", {"height": [0, 0.1, 0.2, 0.1]}, 1.4, 1.3),
        ("torso pitch", {"pitch": [-0.5, -0.7, -0.6 - 2 * np.pi, -0.6]}, -0.6, 0.0),
        ("in the air", {"height": [0, 0.1, 0.2, 0.0]}, 50.0, 0.0),
        ("highest jump", {"height": [0, 0.1, 0.2, 0.0]}, 0.2, 0.0),
    ],
)
def test_statistics(name, columns, expected, rest):
    found = STATISTICS[name].function(_episodes(**columns))
    assert found == pytest.approx([expected, rest], abs=1e-9)
    moved = _episodes(**columns, way=50.0)
    assert STATISTICS[name].function(moved) == pytest.approx(found)


def test_feet_in_the_air_of_a_fallen_walker_are_no_jump():
    states = np.zeros((1, 3, 18))
    states[..., [0, 3, 6]] = -0.5, np.pi, np.pi
    assert STATISTICS["in the air"].function(states).tolist() == [0.0]
    assert STATISTICS["highest jump"].function(states).tolist() == [0.0]


def test_every_reward_has_a_statistic_that_shows_it():
    shown = {name for statistic in TASK.statistics.values() for name in statistic.rewards}
    own = {name for name in TASK.rewards if "test" not in name}
    assert own == shown
