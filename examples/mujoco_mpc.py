"""Plan through a MuJoCo model of your own: swing a pole up and balance it.

    python examples/mujoco_mpc.py

Any `mujoco.MjModel` with actuators will do, and any function of its states as reward. Nothing is learned; the same
planner and controller drive a learned model when there is one.
"""

# ruff: noqa: T201

import mujoco
import numpy as np
import torch
from torch import Tensor

from wmkit import Controller
from wmkit.models import SimulatorModel
from wmkit.planners import MPPI, ActionCost, RewardObjective

CONTROL_SECONDS = 0.04
CARTPOLE = """
<mujoco>
  <option timestep="0.01" integrator="implicitfast"/>
  <worldbody>
    <body name="cart" pos="0 0 1">
      <joint name="slider" type="slide" axis="1 0 0" limited="true" range="-1.8 1.8" damping="0.1"/>
      <geom type="box" size="0.2 0.15 0.1" mass="1" contype="0"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0" damping="0.01"/>
        <geom type="capsule" fromto="0 0 0 0 0 1" size="0.045" mass="0.1" contype="0"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slider" gear="10" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


def upright(states: Tensor, actions: Tensor) -> Tensor:
    """Return the reward of states (..., 4), position and angle, then their velocities: upright, slow, in the middle."""
    position, angle, speed, spin = states.unbind(dim=-1)
    return torch.cos(angle) - 0.1 * position.square() - 0.01 * speed.square() - 0.01 * spin.square()


def main(seconds: float = 8.0) -> float:
    """Control the cart for some seconds; return how upright the pole was in the last of them, from -1 to 1."""
    physics = mujoco.MjModel.from_xml_string(CARTPOLE)  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_num_threads(1)  # the simulator has threads of its own
    model = SimulatorModel.from_mujoco(physics, control_seconds=CONTROL_SECONDS)
    planner = MPPI(model, horizon=25, samples=64, std=0.6, noise_knots=5)
    controller = Controller(planner, RewardObjective(upright, "state") + 0.01 * ActionCost())

    data = mujoco.MjData(physics)  # pyright: ignore[reportAttributeAccessIssue]
    data.qpos[1] = np.pi
    heights = []
    for step in range(round(seconds / CONTROL_SECONDS)):
        data.ctrl[:] = controller.act({"state": np.concatenate([data.qpos, data.qvel])})
        for _ in range(round(CONTROL_SECONDS / physics.opt.timestep)):
            mujoco.mj_step(physics, data)  # pyright: ignore[reportAttributeAccessIssue]
        heights.append(np.cos(data.qpos[1]))
        if (step + 1) % round(1 / CONTROL_SECONDS) == 0:
            print(f"{(step + 1) * CONTROL_SECONDS:4.1f} s: height {heights[-1]:+.2f}, cart at {data.qpos[0]:+.2f} m")
    median, slow = (1e3 * controller.latency(quantile) for quantile in (0.5, 0.99))
    print(f"a decision took {median:.1f} ms at the median, {slow:.1f} at p99")
    return float(np.mean(heights[-round(1 / CONTROL_SECONDS) :]))


if __name__ == "__main__":
    main()
