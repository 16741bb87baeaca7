"""Record gym-pusht's own trajectories, frames left out, for `test_physics.py` to compare with.

Needs an environment of its own, since gym-pusht wants an older pymunk than wmkit:

    python -m venv /tmp/gym-pusht && /tmp/gym-pusht/bin/pip install gym-pusht==0.1.8
    /tmp/gym-pusht/bin/python tests/envs/pusht/record_reference.py

It writes `reference.npz` beside itself: `start` (E, 5), `action` (E, 60, 2), `state` (E, 60, 5) with the block's angle
not wrapped, `agent_velocity` (E, 60, 2) and `coverage` (E, 60). Episodes are picked so that the block moves much; most
actions hunt the block, the others are random, and the last few episodes start near the goal, where coverage is high.
"""

from pathlib import Path

import gym_pusht  # noqa: F401
import gymnasium
import numpy as np

EPISODES, STEPS = 24, 60


def record(env, rng, near_goal):
    """One episode as a dict of arrays, or None if gym-pusht starts it in contact."""
    center = (256, 256, np.pi / 4) if near_goal else (*rng.uniform(150, 360, 2), rng.uniform(-3, 3))
    block = np.array(center) + rng.normal(0, [10, 10, 0.1])
    agent = rng.uniform(40, 470, 2)
    _, info = env.reset(options={"reset_to_state": [*agent, *block]})
    if np.abs(info["block_pose"][2] - block[2]) > 1e-9 or np.linalg.norm(agent - info["block_pose"][:2]) < 160:
        return None
    start = np.concatenate((info["pos_agent"], info["block_pose"]))
    rows = {"action": [], "state": [], "agent_velocity": [], "coverage": []}
    for step in range(STEPS):
        if step % 4 == 0:
            hunt = rng.random() < 0.7
            target = info["block_pose"][:2] + rng.normal(0, 50, 2) if hunt else rng.uniform(30, 480, 2)
        action = np.clip(target + rng.normal(0, 10, 2), 20, 490)
        *_, info = env.step(action)
        rows["action"].append(action)
        rows["state"].append(np.concatenate((info["pos_agent"], info["block_pose"])))
        rows["agent_velocity"].append(info["vel_agent"])
        rows["coverage"].append(info["coverage"])
    return {"start": start, **{key: np.array(value) for key, value in rows.items()}}


def main():
    """Record the episodes and save them."""
    rng = np.random.default_rng(0)
    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="state", max_episode_steps=10_000, disable_env_checker=True)
    episodes = []
    while len(episodes) < EPISODES:
        episode = record(env.unwrapped, rng, near_goal=len(episodes) >= EPISODES - 6)
        if episode and np.ptp(episode["state"][:, 2], axis=0) > 30:
            episodes.append(episode)
    stacked = {key: np.stack([e[key] for e in episodes]) for key in episodes[0]}
    np.savez_compressed(Path(__file__).with_name("reference.npz"), **stacked)


if __name__ == "__main__":
    main()
