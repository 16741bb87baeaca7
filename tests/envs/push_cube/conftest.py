"""What the tests of PushCube share: scenes that it draws itself."""

import numpy as np
import pytest

from wmkit.envs.push_cube import PushCubeVectorEnv


@pytest.fixture(scope="session")
def drawn():
    """The info after a reset of 100 scenes: states, goals (100, 25) and more; not to be changed."""
    env = PushCubeVectorEnv(100, obs_type="state")
    info = env.reset(seed=0)[1]
    env.close()
    return info


@pytest.fixture
def far(drawn):
    """States (100, 25) with the cube out of the hand's way; a copy."""
    states = np.array(drawn["state"])
    states[:, 6:8] = 0.9
    return states
