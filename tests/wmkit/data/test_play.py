"""Play data: a trained proposal acts, with noise, on whatever robot is asked for."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from wmkit.data.collect import collect
from wmkit.data.play import ProposalPolicy, proposal_folder
from wmkit.data.recording import Settings
from wmkit.data.validate import validate
from wmkit.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "diffusion"))
import cart_task


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose proposal was trained on a cart that is pushed to one side."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("play")
    store = cart_task.record(folder / "data")
    part = cart_task.trained(cart_task.build("diffusion-proposal", features=cart_task.features(history=2)), store)
    part.save_pretrained(folder / "run" / "proposal")
    return folder / "run"


def _settings(run, **changes):
    given = {"policy": "proposal", "proposal": str(run), "noise": 0.1, "env": {"gain": 0.3}}
    return Settings("cart_task:CART", **(given | changes))


def test_the_proposal_acts_on_the_changed_robot(run, tmp_path):
    store = collect(_settings(run), tmp_path, 6).store
    assert validate(tmp_path) == []
    weights = (run / "proposal" / "model.safetensors").read_bytes()
    assert (store.metadata.policy, store.metadata.proposal) == ("proposal", hashlib.sha256(weights).hexdigest())
    for position in range(6):
        episode = store.episode(position).columns
        np.testing.assert_allclose(np.diff(episode["state"], axis=0), 0.03 * episode["action"], atol=1e-6)
        assert 0.4 < abs(episode["action"][:, 0].mean()) < 0.95
        assert abs(episode["action"][:, 1].mean()) < 0.2


def test_the_same_seed_gives_the_same_data_and_noise_scatters(run, tmp_path):
    first, again = (collect(_settings(run), tmp_path / name, 3).store.fingerprint for name in "ab")
    assert first == again
    quiet = collect(_settings(run, noise=0.0), tmp_path / "quiet", 3).store.read("action", range(3))
    loud = collect(_settings(run, noise=0.4), tmp_path / "loud", 3).store.read("action", range(3))
    assert loud[:, 1].std() > 2 * quiet[:, 1].std()
    assert np.abs(loud).max() <= 1


def test_another_proposal_makes_other_data(run, tmp_path):
    collect(_settings(run), tmp_path / "data", 3)
    other = cart_task.build("diffusion-proposal")
    cart_task.trained(other, cart_task.record(tmp_path / "more", episodes=4), steps=1)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="holds other data: proposal is"):
        collect(_settings(tmp_path / "other"), tmp_path / "data", 4)


def test_a_quarter_of_each_plan_is_executed(run):
    policy = ProposalPolicy(proposal_folder(str(run)), cart_task.CART, np.zeros(2))
    asked = []
    propose = policy._proposal.propose

    def count(context, *more):
        asked.append(context)
        return propose(context, *more)

    policy._proposal.propose = count
    policy.reset(0)
    actions = [policy.act(np.array([0.1 * step, 0.0])) for step in range(3)]
    assert [context.latents.shape[1] for context in asked] == [1, 2, 2]
    np.testing.assert_allclose(asked[2].latents[0, :, 0], [0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(asked[2].actions[0, 0], actions[1])


def test_what_cannot_play_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="go together"):
        Settings("cart_task:CART", policy="proposal")
    with pytest.raises(UserError, match="go together"):
        Settings("cart_task:CART", proposal=str(run))
    with pytest.raises(UserError, match="no model folder"):
        collect(_settings("/nowhere/run"), tmp_path / "data", 3)
    with pytest.raises(UserError, match="does not act on the states of walker: numbers of the state is 2, not 18"):
        collect(Settings("walker", policy="proposal", proposal=str(run)), tmp_path / "data", 3)
    cart_task.build("diffusion-proposal", seconds_per_step=0.2).save_pretrained(tmp_path / "slow")
    with pytest.raises(UserError, match=r"at the rate of cart: its step lasts 0\.2 s, not 0\.1 s"):
        collect(_settings(tmp_path / "slow"), tmp_path / "data", 3)
    goal = cart_task.build("diffusion-proposal", features=cart_task.features(goal=True))
    goal.save_pretrained(tmp_path / "goal")
    with pytest.raises(UserError, match="needs a goal"):
        collect(_settings(tmp_path / "goal"), tmp_path / "data", 3)
