"""A picture of a MuJoCo scene does not depend on the thread that draws it."""

import threading

import numpy as np
import pytest

from wmkit import registry
from wmkit.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def opengl():
    try:
        registry.load("environments", "push-cube").make(obs_type="pixels").reset(seed=0)
    except UserError as error:
        pytest.skip(f"no OpenGL here: {error}")


@pytest.mark.parametrize("name", ["push-cube", "walker"])
def test_an_environment_goes_on_in_another_thread(name):
    env = registry.load("environments", name).make_vector(num_envs=2, obs_type="pixels", render_mode="rgb_array")
    seen = [env.reset(seed=0)[0]["pixels"]]
    pictures = [env.render()]

    def look():
        seen.append(env.observe()["pixels"])
        pictures.append(env.render())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    look()
    env.close()
    assert len(seen) == 3, "the thread failed"
    for other in (1, 2):
        np.testing.assert_array_equal(seen[other], seen[0])
        np.testing.assert_array_equal(pictures[other], pictures[0])


def test_threads_draw_scenes_of_their_own_side_by_side():
    task = registry.load("environments", "push-cube")
    envs = [task.make_vector(num_envs=1, obs_type="pixels") for _ in range(3)]
    alone = [env.reset(seed=seed)[0]["pixels"] for seed, env in enumerate(envs)]
    seen = {}

    def look(number):
        seen[number] = [envs[number].observe()["pixels"] for _ in range(20)]

    threads = [threading.Thread(target=look, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for env in envs:
        env.close()
    for number, pixels in enumerate(alone):
        for again in seen[number]:
            np.testing.assert_array_equal(again, pixels)
