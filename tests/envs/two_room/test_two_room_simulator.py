"""TwoRoom's simulator: exactly the environment, in any scene, for starts and candidates of any number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.envs.two_room import TwoRoomSimulator, TwoRoomVectorEnv


@given(seed=st.integers(0, 2**32 - 1), door=st.floats(0.2, 0.8))
@settings(max_examples=10, deadline=None)
def test_rollouts_equal_the_environment(seed, door):
    rng, scene = np.random.default_rng(seed), {"door.position": door, "agent.speed": 0.04}
    env = TwoRoomVectorEnv(3, obs_type="state", autoreset_mode="Disabled")
    _, info = env.reset(seed=seed, options={"variation": scene})
    starts, actions = info["state"], rng.uniform(-1.5, 1.5, (3, 2, 20, 2))
    found = TwoRoomSimulator(scene).rollout(starts, actions)
    assert found.shape == actions.shape
    for candidate in range(2):
        env.reset(seed=0, options={"state": starts, "variation": scene})
        for step in range(20):
            states = env.step(actions[:, candidate, step])[-1]["state"]
            np.testing.assert_array_equal(found[:, candidate, step], states)


def test_unknown_variations_are_refused():
    with pytest.raises(ValueError, match=r"known: door\.position"):
        TwoRoomSimulator({"door": 0.5})
