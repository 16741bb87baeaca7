"""What `--proposal` may say, and what it gives."""

import pytest
import torch

from wmkit.contracts import Context
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig
from wmkit.errors import UserError
from wmkit.models import LeWM, LeWMConfig
from wmkit.planners import DiffusionProposal, GaussianProposal, InverseDynamicsProposal, MixtureProposal
from wmkit.planners.proposals.learned import ProposalConfig
from wmkit.scripts.assembly import controller_maker, resolve_planning
from wmkit.scripts.main import main
from wmkit.scripts.proposals import make_proposal, parse_proposal

SIZES = {"latent_size": 8, "block_size": 10}


def model_of(inverse=True):
    """Return a small model with inverse dynamics."""
    torch.manual_seed(0)
    options = {"channels": (8, 8, 8), "hidden": 16}
    head = {"width": 16, "depth": 1} if inverse else None
    model = LeWM(LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=1, encoder_options=options, inverse=head)).eval()
    model.set_action_statistics([0, 0], [0.5, 0.5])
    return model


def proposal_of(repeat=5, seconds=0.25, **sizes):
    """Return an untrained proposal for `model_of`, or for another model."""
    features = FeatureConfig(**(SIZES | sizes), horizon=3, goal=True, reach=3)
    network = {"width": 8, "depth": 1, "heads": 1, "mlp_size": 8}
    count = features.block_size // repeat
    bounds = ((-1.0,) * count, (1.0,) * count)
    proposal = DiffusionProposal(ProposalConfig(features, *bounds, repeat, seconds, network, DiffusionConfig()))
    proposal.features.fit(torch.randn(50, 4, features.latent_size), torch.randn(50, 3, features.block_size))
    return proposal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained proposal's folder."""
    folder = tmp_path_factory.mktemp("proposals") / "good"
    proposal_of().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gaussian", [("gaussian", 1.0)]),
        ("inverse:0.5+runs/a:1.5", [("inverse", 0.5), ("runs/a", 1.5)]),
        ("inverse + gaussian", [("inverse", 1.0), ("gaussian", 1.0)]),
        ("pretrained:some", [("pretrained:some", 1.0)]),
        ("pretrained:some:2+inverse", [("pretrained:some", 2.0), ("inverse", 1.0)]),
    ],
)
def test_names_and_weights(text, expected):
    assert parse_proposal(text) == expected


def test_a_folder_whose_name_reads_like_a_mixture_is_a_folder(tmp_path):
    odd = tmp_path / "a+b:2"
    odd.mkdir()
    assert parse_proposal(str(odd)) == [(str(odd), 1.0)]


@pytest.mark.parametrize("text", ["", "+inverse", "inverse:0", "inverse:-1+gaussian", "gaussian:nan", "inverse:inf"])
def test_mixtures_that_make_no_sense_are_one_line(text):
    with pytest.raises(UserError, match="--proposal") as error:
        parse_proposal(text)
    assert "\n" not in str(error.value)


def test_what_each_text_gives(folder):
    model = model_of()
    assert make_proposal("gaussian", model, {}) is None, "the planner's own noise"
    assert isinstance(make_proposal("inverse", model, {}), InverseDynamicsProposal)
    assert isinstance(make_proposal(str(folder), model, {}), DiffusionProposal)
    mixed = make_proposal(f"inverse:1+{folder}:2+gaussian:1", model, {"std": 0.3})
    assert isinstance(mixed, MixtureProposal)
    assert [type(each) for each in mixed.proposals] == [InverseDynamicsProposal, DiffusionProposal, GaussianProposal]
    assert mixed.weights == [0.25, 0.5, 0.25]
    assert mixed.proposals[2].std == 0.3


def test_a_run_gives_its_proposal(tmp_path):
    proposal_of().save_pretrained(tmp_path / "run" / "proposal")
    assert isinstance(make_proposal(str(tmp_path / "run"), model_of(), {}), DiffusionProposal)


def test_the_sampler_is_chosen_after_the_training(folder):
    saved = make_proposal(str(folder), model_of(), {})
    chosen = make_proposal(str(folder), model_of(), {"sampler": "flow-heun", "sampling_steps": 3})
    assert (saved.sampling.sampler, saved.sampling.steps) == ("ddim", 10)
    assert (chosen.sampling.sampler, chosen.sampling.steps) == ("flow-heun", 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sampler": "guess"}, "unknown sampler 'guess'; known: ddpm, ddim"),
        ({"sampling_steps": 1001}, "1001 sampling steps; take 1 to 1000"),
        ({"sampling_steps": 0}, "0 sampling steps"),
    ],
)
def test_samplers_that_do_not_fit_are_one_line(folder, given, words):
    with pytest.raises(UserError, match=words) as error:
        make_proposal(str(folder), model_of(), given)
    assert "\n" not in str(error.value)


def test_unknown_names_and_folders_of_another_kind(tmp_path):
    with pytest.raises(UserError, match=r"unknown --proposal 'invers'; give gaussian, inverse, the folder"):
        make_proposal("invers", model_of(), {})
    with pytest.raises(UserError, match="no-such"):
        make_proposal(str(tmp_path / "no-such"), model_of(), {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no model folder"):
        make_proposal(str(tmp_path / "empty"), model_of(), {})
    model_of().save_pretrained(tmp_path / "lewm")
    with pytest.raises(UserError, match="holds a lewm, not a proposal; known: diffusion-proposal"):
        make_proposal(f"inverse+{tmp_path / 'lewm'}", model_of(), {})


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"latent_size": 9}, "latent_size 9"),
        ({"block_size": 20}, "block_size 20"),
        ({"repeat": 2}, "action_repeat 2"),
        ({"seconds": 0.5}, "seconds_per_step 0.5"),
    ],
)
def test_a_proposal_of_another_model_is_refused(tmp_path, sizes, words):
    proposal_of(**sizes).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match=words) as error:
        make_proposal(str(tmp_path / "other"), model_of(), {})
    assert "\n" not in str(error.value)


def test_the_planner_gets_the_mixture_and_ranks_its_candidates(folder):
    model = model_of()
    given = {"planner": "sample-score-rank", "samples": 8, "horizon": 3, "proposal": f"inverse:0.5+{folder}:0.5"}
    controller = controller_maker(model, resolve_planning({}, given))(1)
    planner = controller.planner
    context = Context(torch.zeros(1, 1, 8), torch.zeros(1, 0, 10), goal=torch.ones(1, 8))
    plan = planner.plan(context, controller._objective(torch.ones(1, 8)), generator=torch.Generator().manual_seed(1))
    drawn = planner.proposal.propose(context, 8, 3, torch.Generator().manual_seed(1))
    costs = controller._objective(torch.ones(1, 8)).cost(model.rollout(context, drawn), drawn)
    assert torch.equal(plan.actions[0], drawn[0, costs[0].argmin()])


def test_one_sample_without_warm_start_is_the_inverse_dynamics_alone():
    model = model_of()
    given = {"planner": "sample-score-rank", "samples": 1, "warm_start": False, "proposal": "inverse", "horizon": 3}
    controller = controller_maker(model, resolve_planning({}, given))(1)
    context = Context(torch.zeros(1, 1, 8), torch.zeros(1, 0, 10), goal=torch.ones(1, 8))
    plan = controller.planner.plan(context, controller._objective(torch.ones(1, 8)))
    walk = InverseDynamicsProposal(model).propose(context, 1, 3, torch.Generator())
    assert torch.equal(plan.actions, walk[:, 0])


def test_what_cannot_work_is_found_before_an_environment_is_made(folder):
    def make(text, model, **more):
        controller_maker(model, resolve_planning({}, {"proposal": text, **more}))

    with pytest.raises(UserError, match="inverse"):
        make("inverse", model_of(inverse=False))
    with pytest.raises(UserError, match="inverse"):
        make("gaussian+inverse", model_of(inverse=False))
    with pytest.raises(UserError, match="neither model nor proposal"):
        make("inverse+gaussian", model_of(), sampling_steps=4, horizon=3)
    make(f"inverse+{folder}", model_of(), sampling_steps=4, horizon=3)
    with pytest.raises(UserError, match="plans 1 to 3 model steps, not 5"):
        make(str(folder), model_of(), horizon=5)


def test_the_command_answers_in_one_line(tmp_path, capsys):
    model_of().save_pretrained(tmp_path / "model")
    assert main(["eval", str(tmp_path / "model"), "--env", "two-room", "--proposal", "invers"]) != 0
    text = " ".join(capsys.readouterr().err.split())
    assert "unknown --proposal 'invers'" in text
    assert "Traceback" not in text
