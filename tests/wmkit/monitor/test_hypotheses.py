"""Each hypothesis carries out what its name says."""

import pytest
import torch

from wmkit.contracts import ModelSpec
from wmkit.monitor.hypotheses import GAINS, Hypotheses


def spec(low, high, repeat):
    return ModelSpec({}, low, high, repeat, 1, 2, 0.1)


BOTH = Hypotheses(spec((-1.0, -1.0), (1.0, 1.0), 2))
SENT = torch.tensor([[0.8, -0.2, -0.6, 0.4]])
BEFORE = torch.tensor([[0.1, 0.2, 0.3, 0.4]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gain 0", [0, 0, 0, 0]),
        ("gain 0.5", [0.4, -0.1, -0.3, 0.2]),
        ("gain 1.5", [1.0, -0.3, -0.9, 0.6]),
        ("actuator 0 gain 0", [0, -0.2, 0, 0.4]),
        ("actuator 1 gain 0.5", [0.8, -0.1, -0.6, 0.2]),
        ("actuator 0 limit 0.5", [0.5, -0.2, -0.5, 0.4]),
        ("delay 1", [0.3, 0.4, 0.8, -0.2]),
        ("delay 2", [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_carries_out_what_its_name_says(name, expected):
    found = BOTH.actions(SENT, BEFORE)[0, BOTH.names.index(name)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_before_the_first_actions_there_was_rest():
    found = BOTH.actions(SENT, None)[0, BOTH.names.index("delay 1")]
    torch.testing.assert_close(found, torch.tensor([0, 0, 0.8, -0.2]))


def test_rest_is_the_action_zero_within_the_bounds():
    one = Hypotheses(spec((2.0,), (6.0,), 1))
    block = torch.tensor([[4.0]])
    found = dict(zip(one.names, one.actions(block, None)[0, :, 0].tolist(), strict=True))
    assert found["gain 0"] == found["delay 1"] == 2.0
    assert found["gain 0.5"] == 3.0


def test_the_gains_of_all_actuators_come_first_and_names_differ():
    assert all(name.startswith("gain ") for name in BOTH.names[:GAINS])
    assert not any(name.startswith("gain ") for name in BOTH.names[GAINS:])
    assert len(set(BOTH.names)) == len(BOTH.names) == BOTH.actions(SENT, BEFORE).shape[1]
