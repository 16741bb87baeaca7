"""Drive a robot at a fixed rate with plans made beside the loop: plain Python, no Gymnasium, no files.

    python examples/robot_loop.py

The "robot" is a cart that integrates velocity commands and whose camera is 100 ms late. Only three things would change
for a real one: `Robot`, the model (`LeWM.from_pretrained(...)`), and what is safe to send without a plan.
"""

# ruff: noqa: T201

import time
from collections import deque

import numpy as np
import torch

from wmkit import Controller, RealTimeController
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, ActionCost, GoalObjective

RATE_HZ = 20.0
SENSOR_DELAY = 0.1


class Robot:
    """A cart in the plane: position += velocity command / rate, seen `SENSOR_DELAY` seconds late."""

    def __init__(self) -> None:
        self.position = np.zeros(2, np.float32)
        self._seen: deque[tuple[float, np.ndarray]] = deque()

    def read(self) -> tuple[dict[str, np.ndarray], float] | None:
        """Return the newest observation that has arrived and when it was taken; None where there is none yet."""
        now = time.monotonic()
        self._seen.append((now, self.position.copy()))
        arrived = [each for each in self._seen if each[0] <= now - SENSOR_DELAY]
        if not arrived:
            return None
        while self._seen[0][0] < arrived[-1][0]:
            self._seen.popleft()
        taken, position = arrived[-1]
        return {"state": position}, taken

    def send(self, velocity: np.ndarray) -> None:
        """Execute a command (2,), metres a second, for one period."""
        self.position = self.position + velocity / RATE_HZ


def make_controller() -> Controller:
    """Return a planner over a model of the cart; a model step is two commands."""
    model = LinearModel(torch.eye(2), torch.eye(2) / RATE_HZ, action_repeat=2, history=1, bound=1.0)
    planner = CEM(model, horizon=4, samples=64, iterations=4, elites=8)
    return Controller(planner, lambda goal: GoalObjective(goal) + 1e-4 * ActionCost())


def main(seconds: float = 3.0) -> None:
    """Drive to two goals, for some seconds each, then print what happened."""
    robot = Robot()
    control = RealTimeController(make_controller(), rate_hz=RATE_HZ, safe_action="zero", max_age=0.5)
    goals = np.array([[0.8, 0.3], [-0.2, 0.5]], np.float32)
    control.set_goal({"state": goals[0]})
    with control:
        for goal in goals:
            control.set_goal({"state": goal})
            control.run(robot.read, robot.send, seconds)
            print(f"goal {goal}, cart at {robot.position.round(2)}, {control.status().state}")
    counters = control.counters()
    print(
        f"{counters.ticks} ticks, {counters.plans} plans, missed {counters.miss_rate:.2%}, refused {counters.refused}"
    )
    print(f"planning p50 {counters.plan_p50 * 1e3:.1f} ms, p99 {counters.plan_p99 * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
