"""Environments of wmkit, under the Gymnasium namespace ``wmkit``.

Gymnasium 1.0 and later load no plugins, so an environment is known once this module has been imported. Either of
these does it, and the import costs nothing beyond Gymnasium itself, because every entry point is a string:

    import gymnasium, wmkit.envs
    env = gymnasium.make("wmkit/TwoRoom-v0")

    env = gymnasium.make("wmkit.envs:wmkit/TwoRoom-v0")
"""

import gymnasium

__all__ = ["ENVIRONMENTS", "register_environments"]

ENVIRONMENTS: dict[str, tuple[str, str, int]] = {
    "wmkit/TwoRoom-v0": ("wmkit.envs.two_room:TwoRoomEnv", "wmkit.envs.two_room:TwoRoomVectorEnv", 200),
    "wmkit/PushT-v0": ("wmkit.envs.pusht:PushTEnv", "wmkit.envs.pusht:PushTVectorEnv", 300),
    "wmkit/PushCube-v0": ("wmkit.envs.push_cube:PushCubeEnv", "wmkit.envs.push_cube:PushCubeVectorEnv", 150),
    "wmkit/OGBenchCube-v0": ("wmkit.envs.ogbench:OGBenchCubeEnv", "wmkit.envs.ogbench:OGBenchCubeVectorEnv", 200),
    "wmkit/Walker-v0": ("wmkit.envs.walker:WalkerEnv", "wmkit.envs.walker:WalkerVectorEnv", 1000),
}
"""Id -> (entry point, vector entry point, time limit of an episode in environment steps)."""


def register_environments() -> None:
    """Registers every environment of wmkit with Gymnasium; a second call changes nothing.

    Runs when this module is imported. It is also the target of the ``gymnasium.envs`` entry point, for Gymnasium
    versions that read it.
    """
    for env_id, (entry_point, vector_entry_point, max_episode_steps) in ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point=entry_point,
                vector_entry_point=vector_entry_point,
                max_episode_steps=max_episode_steps,
            )


register_environments()
