"""Each objective against its closed form."""

import pytest
import torch

from wmkit.contracts import Objective, Rollout
from wmkit.planners import ActionCost, DecodedObjective, GoalObjective, RewardObjective, UncertaintyPenalty

LATENTS = torch.tensor([[[[0.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 0.0]]], [[[2.0, 0.0], [0.0, 0.0]]] * 2])
ACTIONS = torch.tensor([[[[1.0], [2.0]], [[0.0], [3.0]]], [[[0.5], [0.5]]] * 2])
GOAL = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
ROLLOUT = Rollout(LATENTS, uncertainty=LATENTS[..., 0], quantities={"speed": LATENTS[..., 1:]})


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [("last", [[25, 1], [4, 4]]), ("sum", [[25, 3], [4, 4]]), ("mean", [[12.5, 1.5], [2, 2]])],
)
def test_goal_distance(reduce, expected):
    assert GoalObjective(GOAL, reduce).cost(ROLLOUT, ACTIONS).tolist() == expected


def test_action_cost():
    assert ActionCost("sum").cost(ROLLOUT, ACTIONS).tolist() == [[5, 9], [0.5, 0.5]]
    assert ActionCost("last").cost(ROLLOUT, ACTIONS).tolist() == [[4, 9], [0.25, 0.25]]


def test_uncertainty_penalty():
    assert UncertaintyPenalty("sum").cost(ROLLOUT, ACTIONS).tolist() == [[3, 2], [2, 2]]
    with pytest.raises(ValueError, match="gives no uncertainty"):
        UncertaintyPenalty().cost(Rollout(LATENTS), ACTIONS)


def test_reward_of_a_carried_quantity():
    reward = RewardObjective(lambda speed, actions: speed[..., 0] + actions[..., 0], "speed")
    assert reward.cost(ROLLOUT, ACTIONS).tolist() == [[-7, -4], [-1, -1]]


def test_decoded_quantity_against_targets():
    class Decoder:
        def decode(self, latents, name):
            assert name == "double"
            return 2 * latents

    cost = DecodedObjective(
        lambda values, actions, targets: (values - targets).square().sum(-1), "double", Decoder(), GOAL, "last"
    )
    assert cost.cost(ROLLOUT, ACTIONS).tolist() == [[100, 4], [4, 4]]
    row = cost.select(torch.tensor([1]))
    assert row.cost(Rollout(LATENTS[1:]), ACTIONS[1:]).tolist() == [[4, 4]]


def test_unknown_quantities_and_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="carries no 'height', only speed"):
        DecodedObjective(lambda v, a: v, "height").cost(ROLLOUT, ACTIONS)
    with pytest.raises(ValueError, match=r"'speed' gave shape \(2, 2, 2, 1\); expected \(B, N, H\) = \(2, 2, 2\)"):
        DecodedObjective(lambda v, a: v, "speed").cost(ROLLOUT, ACTIONS)


@pytest.mark.parametrize("objective", [DecodedObjective, RewardObjective])
def test_a_function_that_fails_is_named_in_one_line(objective):
    def two_lines(speed, actions):
        raise KeyError("torque\nof the knee")

    with pytest.raises(ValueError, match="the function 'two_lines' of 'speed' fails with KeyError: ") as caught:
        objective(two_lines, "speed").cost(ROLLOUT, ACTIONS)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_objectives_add_scale_and_select():
    both = GoalObjective(GOAL) + 0.5 * ActionCost("sum") * 2.0
    assert isinstance(both, Objective)
    assert both.cost(ROLLOUT, ACTIONS).tolist() == [[30, 10], [4.5, 4.5]]
    row = both.select(torch.tensor([False, True]))
    assert row.cost(Rollout(LATENTS[1:]), ACTIONS[1:]).tolist() == [[4.5, 4.5]]


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="reduce is 'max'"):
        GoalObjective(GOAL, "max")
    with pytest.raises(ValueError, match=r"goal has shape \(2,\)"):
        GoalObjective(GOAL[0])


def test_a_discount_weighs_later_steps_less():
    for reduce in ("sum", "last"):
        reward = RewardObjective(
            lambda speed, actions: speed[..., 0] + actions[..., 0], "speed", reduce=reduce, discount=0.5
        )
        parts = ROLLOUT.quantities["speed"][..., 0] + ACTIONS[..., 0]
        by_hand = parts[..., 0] + 0.5 * parts[..., 1] if reduce == "sum" else parts[..., 1]
        assert torch.equal(reward.cost(ROLLOUT, ACTIONS), -by_hand)
        assert torch.equal(reward.select(torch.tensor([1])).cost(_row(1), ACTIONS[1:]), -by_hand[1:])
    with pytest.raises(ValueError, match=r"discount is 1\.5"):
        RewardObjective(lambda s, a: s, "speed", discount=1.5)


def _row(first):
    return Rollout(LATENTS[first:], quantities={"speed": LATENTS[first:, ..., 1:]})


def _poor(speed, actions):
    """NaN for every step of the first row, +1 elsewhere."""
    values = torch.ones_like(speed[..., 0])
    values[0] = float("nan")
    return values


def test_a_reward_that_is_never_finite_is_named():
    with pytest.raises(ValueError, match="the function '_poor' of 'speed' gave nan for every candidate"):
        RewardObjective(_poor, "speed").cost(ROLLOUT, ACTIONS)


def test_a_reward_that_is_finite_for_some_candidate_of_each_row_is_the_planners_affair():
    def one_bad(speed, actions):
        values = torch.ones_like(speed[..., 0])
        values[:, 0, 1] = float("nan")
        return values

    cost = RewardObjective(one_bad, "speed").cost(ROLLOUT, ACTIONS)
    assert cost[:, 0].isnan().all()
    assert cost[:, 1].tolist() == [-2, -2]


def test_states_that_diverged_are_the_models_affair():
    lost = Rollout(LATENTS, quantities={"speed": torch.full_like(LATENTS[..., 1:], float("nan"))})
    reward = RewardObjective(lambda speed, actions: speed[..., 0], "speed")
    assert reward.cost(lost, ACTIONS).isnan().all()


def test_a_reward_may_give_arrays_and_must_give_numbers():
    arrays = RewardObjective(lambda speed, actions: speed[..., 0].numpy(), "speed")
    tensors = RewardObjective(lambda speed, actions: speed[..., 0], "speed")
    assert torch.equal(arrays.cost(ROLLOUT, ACTIONS), tensors.cost(ROLLOUT, ACTIONS))
    with pytest.raises(ValueError, match="gave a str; it must give numbers"):
        RewardObjective(lambda speed, actions: "much", "speed").cost(ROLLOUT, ACTIONS)
    with pytest.raises(ValueError, match=r"gave shape \(\); expected \(B, N, H\) = \(2, 2, 2\)"):
        RewardObjective(lambda speed, actions: 1.0, "speed").cost(ROLLOUT, ACTIONS)
