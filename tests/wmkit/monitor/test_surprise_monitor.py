"""What the monitor says of a linear robot with known noise: its promise, what it detects, and what it calls it."""

import numpy as np
import pytest
import torch
from robots import MODEL, NOISE, alarms, episodes, raw_episodes, watch

from wmkit import SurpriseMonitor
from wmkit.monitor.calibration import calibrate

STEPS, AT = 25, 10


@pytest.fixture(scope="module")
def calibration():
    return calibrate(raw_episodes(250, STEPS), MODEL, per_step=0.01, per_episode=0.05, facts={"task": "linear"})


@pytest.fixture
def monitor(calibration):
    return SurpriseMonitor(MODEL, calibration)


def kinds(reports, step):
    return [one.kind for one in reports[step]]


def detected(reports, within):
    """Return the share of rows whose alarm begins within so many observations after the change."""
    return alarms(reports)[:, AT + 1 : AT + 1 + within].any(axis=1).mean()


def test_new_nominal_episodes_are_in_alarm_for_no_more_than_the_promised_share(calibration):
    reports = watch(SurpriseMonitor(MODEL, calibration), *episodes(400, STEPS, seed=1))
    shares = alarms(reports).mean(axis=1)
    assert shares.mean() <= 0.01 + 2 * shares.std() / np.sqrt(400)
    per_episode = watch(SurpriseMonitor(MODEL, calibration, per="episode"), *episodes(400, STEPS, seed=2))
    assert alarms(per_episode).any(axis=1).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_raw_noise_of_the_steps_is_what_was_put_in(calibration):
    assert calibration.nominal.one_step == pytest.approx(np.full(3, NOISE), rel=0.1)


def test_teleport_is_seen_at_once_called_state_and_over_soon(monitor):
    def jump(states, sent, step):
        return states + (step == AT) * 1.0, sent[:, step]

    reports = watch(monitor, *episodes(50, STEPS, seed=3, change=jump, at=AT))
    assert detected(reports, 1) == 1.0
    assert set(kinds(reports, AT + 1)) == {"state"}
    assert alarms(reports)[:, -5:].mean() < 0.05
    assert "at a stroke" in reports[AT + 1][0].text


def test_errors_that_usually_come_together_count_once():
    """Two numbers err alike: a jump of both is nothing new, as large a jump of one against the other is."""
    mixed = NOISE * np.array([[1.0, 1.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 1.0]])
    usual = calibrate(raw_episodes(250, STEPS, noise=mixed), MODEL, per_step=0.01, per_episode=0.05)

    def seen(way):
        def jump(states, sent, step):
            return states + (step == AT) * NOISE * np.array(way), sent[:, step]

        data = episodes(100, STEPS, seed=2, noise=mixed, change=jump, at=AT)
        return detected(watch(SurpriseMonitor(MODEL, usual), *data), 1)

    assert seen((1.0, 1.0, 0.0)) < 0.2
    assert seen((1.0, -1.0, 0.0)) == 1.0


@pytest.mark.parametrize("gain", [0.5, 0.25])
def test_weak_actuators_are_seen_called_dynamics_and_measured(monitor, gain):
    reports = watch(monitor, *episodes(50, STEPS, seed=4, change=lambda s, sent, t: (s, gain * sent[:, t]), at=AT))
    assert detected(reports, 3) == 1.0
    last = reports[-1]
    assert [one.kind for one in last].count("dynamics") >= 48
    found = np.median([one.evidence["gain estimate"] for one in last if "gain estimate" in one.evidence])
    assert found == pytest.approx(gain, abs=0.05)


def test_one_dead_actuator_is_named(monitor):
    def dead(states, sent, step):
        return states, sent[:, step] * np.array([1.0, 0.0])

    last = watch(monitor, *episodes(30, STEPS, seed=5, change=dead, at=AT))[-1]
    assert sum("actuator 1 gain 0" in one.evidence for one in last) >= 28


def test_late_actions_are_named(monitor):
    def late(states, sent, step):
        both = np.concatenate([sent[:, step - 1], sent[:, step]], axis=1)
        return states, both[:, 1:-1]

    last = watch(monitor, *episodes(30, STEPS, seed=6, change=late, at=AT))[-1]
    assert sum("delay 1" in one.evidence for one in last) >= 28


def test_small_errors_that_persist_raise_the_drift_and_nominal_ones_do_not(calibration):
    found = {}
    for factor in (1.0, 1.6):
        reports = watch(SurpriseMonitor(MODEL, calibration), *episodes(50, STEPS, seed=7, noise=factor * NOISE))
        found[factor] = np.array([one.signals["drift"] for one in reports[-1]])
    assert found[1.0].mean() < 0.3
    assert found[1.6].mean() > 3 * found[1.0].mean()


def test_a_batch_says_what_each_row_says_alone_whatever_starts_when(calibration):
    latents, blocks = episodes(4, STEPS, seed=8, change=lambda s, sent, t: (s, 0.5 * sent[:, t]), at=5)
    together = SurpriseMonitor(MODEL, calibration)
    apart = [SurpriseMonitor(MODEL, calibration) for _ in range(4)]
    for step in range(STEPS + 3):
        rows = np.array([row for row in range(4) if 0 <= step - row <= STEPS])
        if not rows.size:
            continue
        times = step - rows
        block = blocks[rows, (times - 1).clip(0)]
        found = together.update(latents[rows, times], block, rows=rows, batch=4)
        for one, row, time in zip(found, rows.tolist(), times.tolist(), strict=True):
            alone = apart[row].update(latents[row : row + 1, time], blocks[row : row + 1, max(0, time - 1)])[0]
            assert (one.row, one.step, one.alarm, one.kind) == (row, time, alone.alarm, alone.kind)
            assert one.score == pytest.approx(alone.score, abs=1e-5, nan_ok=True)


def test_reset_of_a_row_forgets_it_and_leaves_the_others(monitor):
    latents, blocks = episodes(2, STEPS, seed=9, change=lambda s, sent, t: (s, 0.0 * sent[:, t]), at=5)
    watch(monitor, latents, blocks)
    monitor.reset(np.array([True, False]))
    first, second = monitor.update(latents[:, 0], blocks[:, 0])
    assert (first.step, first.alarm) == (0, False)
    assert np.isnan(first.signals["one_step"])
    assert (second.step, second.alarm) == (STEPS + 1, True)


def test_no_alarm_rises_while_a_row_settles(calibration):
    monitor = SurpriseMonitor(MODEL, calibration)
    assert not monitor.update(torch.full((1, 3), torch.nan), None)[0].alarm


def test_a_latent_that_is_not_finite_is_the_sensor_and_the_next_ones_are_fine(monitor):
    latents, blocks = episodes(1, STEPS, seed=10)
    latents = latents.clone()
    latents[:, AT] = torch.nan
    reports = watch(monitor, latents, blocks)
    assert reports[AT][0].kind == "sensor"
    assert reports[AT][0].score == np.inf
    assert not alarms(reports)[:, AT + 3 :].any()


def test_shapes_that_do_not_fit_are_refused(monitor):
    with pytest.raises(ValueError, match="do not fit"):
        monitor.update(torch.zeros(2, 3), torch.zeros(2, 4), rows=np.array([0, 5]), batch=2)
    with pytest.raises(ValueError, match="do not fit"):
        monitor.update(torch.zeros(3), None)
