"""MuJoCo behind the contract: exactness, bounds, divergence, threads."""

import copy
import gc
import threading

import numpy as np
import pytest
import torch

mujoco = pytest.importorskip("mujoco")

from wmkit.conformance import check_model  # noqa: E402
from wmkit.contracts import Context  # noqa: E402
from wmkit.models.simulator import SimulatorModel  # noqa: E402
from wmkit.mujoco_rollout import MujocoRollout  # noqa: E402

XML = """
<mujoco>
  <option timestep="0.002"/>
  <worldbody>
    <geom type="plane" size="5 5 .1"/>
    <body pos="0 0 .5">
      <freejoint/>
      <geom type="box" size=".1 .1 .1"/>
      <site name="middle"/>
      <body pos="0 0 .2">
        <joint name="hinge" axis="0 1 0"/>
        <geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="turn" joint="hinge" {ranges}/>
    <general name="slow" joint="hinge" dyntype="filter" dynprm=".05" ctrlrange="-2 1" ctrllimited="true"/>
  </actuator>
  <sensor><framepos objtype="site" objname="middle"/></sensor>
</mujoco>
"""
LIMITED = 'ctrlrange="-1 1" ctrllimited="true"'
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


def mj(ranges=LIMITED):
    return mujoco.MjModel.from_xml_string(XML.format(ranges=ranges))


def rest(model):
    data = mujoco.MjData(model)
    return np.concatenate([data.qpos, data.qvel, data.act])


def context_of(model, states):
    latents = model.encode({"state": np.asarray(states, np.float64)[:, None]})
    return Context(latents, latents.new_zeros(len(states), 0, model.spec.block_size))


def drawn(model, b, n, h):
    low, high = model.spec.bounds(dtype=torch.float64)
    unit = torch.rand(b, n, h, model.spec.block_size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return low + (high - low) * unit


def test_rollouts_equal_mj_step():
    """State with a free joint, an activation and sensors, three model steps of two controls of five timesteps."""
    physics = mj()
    model = SimulatorModel.from_mujoco(physics, control_seconds=0.01, action_repeat=2, keep_steps=True, threads=2)
    start = rest(physics)
    start[-1] = 0.3
    actions = drawn(model, 1, 3, 3)
    rollout = model.rollout(context_of(model, [start]), actions)
    assert model.spec.latent_size == physics.nq + physics.nv + physics.na == 8 + 7 + 1
    assert model.spec.seconds_per_step == pytest.approx(0.02)
    for candidate in range(3):
        data = mujoco.MjData(physics)
        data.act[:] = start[-1]
        seen, sensed = [], []
        for control in actions[0, candidate].reshape(6, 2).numpy():
            data.ctrl[:] = control
            for _ in range(5):
                mujoco.mj_step(physics, data)
            seen.append(np.concatenate([data.qpos, data.qvel, data.act]))
            sensed.append(data.sensordata.copy())
        np.testing.assert_array_equal(rollout.quantities["steps"][0, candidate].flatten(0, 1).numpy(), seen)
        np.testing.assert_array_equal(rollout.latents[0, candidate].numpy(), seen[1::2])
        np.testing.assert_array_equal(rollout.quantities["sensors"][0, candidate].numpy(), sensed[1::2])


@pytest.mark.parametrize("threads", [1, 2])
def test_any_model_keeps_the_contract(threads):
    model = SimulatorModel.from_mujoco(mj(), control_seconds=0.01, threads=threads)
    check_model(model, {"state": np.tile(rest(mj()), (3, 1, 1))})


def test_a_diverging_simulation_is_nan_from_there_on_and_says_nothing(tmp_path, monkeypatch, capfd):
    """MuJoCo itself starts such a simulation anew, with finite states; neighbours in the batch are left alone."""
    monkeypatch.chdir(tmp_path)
    physics = mj()
    model = SimulatorModel.from_mujoco(physics, control_seconds=0.004, reward=lambda s, a: torch.ones_like(a[..., 0]))
    fine, spinning, missing = rest(physics), rest(physics), rest(physics)
    spinning[physics.nq + 3 : physics.nq + 6] = 1e7
    missing[0] = np.nan
    latents = torch.from_numpy(np.stack([fine, spinning, missing, fine]))[:, None]
    actions = drawn(model, 4, 2, 3)
    rollout = model.rollout(Context(latents, torch.zeros(4, 0, 2)), actions)
    finite = torch.isfinite(rollout.latents).all(dim=-1).all(dim=1)
    assert finite.tolist() == [[True] * 3, [False] * 3, [False] * 3, [True] * 3]
    assert torch.equal(torch.isfinite(rollout.quantities["reward"]).all(dim=1), finite)
    alone = model.rollout(context_of(model, [fine]), actions[3:])
    assert torch.equal(rollout.latents[3:], alone.latents)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("autoreset", [True, False])
def test_divergence_midway_and_in_the_very_last_timestep_is_found(autoreset):
    """A motor of great strength drives the hinge to infinity at a control that can be chosen."""
    physics = mj(LIMITED + ' gear="1e12"')
    if not autoreset:
        physics.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    model = SimulatorModel.from_mujoco(physics, control_seconds=0.002)
    for broken in range(4):
        actions = torch.zeros(1, 1, 4, 2, dtype=torch.float64)
        actions[0, 0, broken, 0] = 1.0
        finite = torch.isfinite(model.rollout(context_of(model, [rest(physics)]), actions).latents).all(dim=-1)
        assert finite[0, 0].tolist() == [step < broken for step in range(4)]


def test_results_do_not_depend_on_the_batch_threads_or_earlier_calls():
    physics = mj()
    one = SimulatorModel.from_mujoco(physics, control_seconds=0.01, threads=1)
    two = SimulatorModel.from_mujoco(physics, control_seconds=0.01, threads=2)
    context, actions = context_of(one, np.tile(rest(physics), (2, 1))), drawn(one, 2, 8, 5)
    first = one.rollout(context, actions).latents
    kept = first.clone()
    assert torch.equal(first, two.rollout(context, actions).latents)
    assert torch.equal(first[1:, 3:5, :2], one.rollout(context.select(torch.tensor([1])), actions[1:, 3:5, :2]).latents)
    assert torch.equal(first, kept)


def test_calls_from_two_threads_do_not_mix():
    physics = mj()
    model = SimulatorModel.from_mujoco(physics, control_seconds=0.02, threads=2)
    context = context_of(model, [rest(physics)])
    plans = [drawn(model, 1, 16, 5), -0.5 * drawn(model, 1, 16, 5)]
    expected = [model.rollout(context, plan).latents for plan in plans]
    wrong = []

    def work(which):
        for _ in range(10):
            if not torch.equal(model.rollout(context, plans[which]).latents, expected[which]):
                wrong.append(which)

    workers = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_the_users_model_is_copied_and_ours_can_be_changed():
    physics = mj()
    model = SimulatorModel.from_mujoco(physics, control_seconds=0.01)
    assert isinstance(model.simulate, MujocoRollout)
    context, actions = context_of(model, [rest(physics)]), drawn(model, 1, 1, 3)
    before = model.rollout(context, actions).latents
    physics.opt.gravity[:] = 0.0
    assert torch.equal(before, model.rollout(context, actions).latents)
    model.simulate.model.opt.gravity[:] = 0.0
    assert not torch.allclose(before, model.rollout(context, actions).latents)


def test_copies_simulate_alike_and_deletion_closes_the_threads():
    model = SimulatorModel.from_mujoco(mj(), control_seconds=0.01, threads=2)
    context, actions = context_of(model, [rest(mj())]), drawn(model, 1, 2, 2)
    other = copy.deepcopy(model)
    assert torch.equal(model.rollout(context, actions).latents, other.rollout(context, actions).latents)
    pool = other.simulate._pool
    del other
    gc.collect()
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.rollout(mj(), mujoco.MjData(mj()), np.zeros((1, 17)))


def test_mistakes_are_named():
    physics = mj()
    for seconds in (0.003, 0.001, 0.0, float("nan")):
        with pytest.raises(ValueError, match=r"control_seconds is .*timestep, 0\.002"):
            SimulatorModel.from_mujoco(physics, control_seconds=seconds)
    with pytest.raises(ValueError, match="no control range in the MuJoCo model for actuator turn;"):
        SimulatorModel.from_mujoco(mj(""), control_seconds=0.01)
    given = SimulatorModel.from_mujoco(mj(""), control_seconds=0.01, action_low=(-3, -2), action_high=(3, 2))
    assert (given.spec.action_low, given.spec.action_high) == ((-3, -2), (3, 2))
    assert SimulatorModel.from_mujoco(physics, control_seconds=0.01).spec.action_low == (-1, -2)
    with pytest.raises(ValueError, match="both"):
        SimulatorModel.from_mujoco(physics, control_seconds=0.01, action_low=(-1, -1))
    with pytest.raises(ValueError, match="do not fit the 2 actuators"):
        SimulatorModel.from_mujoco(physics, control_seconds=0.01, action_low=(-1,), action_high=(1,))
    with pytest.raises(ValueError, match="no actuators"):
        SimulatorModel.from_mujoco(mujoco.MjModel.from_xml_string("<mujoco/>"), control_seconds=0.01)
    with pytest.raises(ValueError, match="threads"):
        SimulatorModel.from_mujoco(physics, control_seconds=0.01, threads=0)
    model = SimulatorModel.from_mujoco(physics, control_seconds=0.01)
    with pytest.raises(ValueError, match=r"expected \(B, 16\)"):
        model.simulate(np.zeros((1, 5)), np.zeros((1, 1, 1, 2)))
