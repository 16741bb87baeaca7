"""Small LeWMs that build in milliseconds, and a published checkpoint to change."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from wmkit.models.lewm import LeWM, LeWMConfig

_SMALL = {
    "image_size": 16,
    "latent_size": 12,
    "action_repeat": 2,
    "action_low": (-1.0, -2.0),
    "action_high": (1.0, 2.0),
    "seconds_per_step": 0.2,
    "encoder": "vit",
    "encoder_options": {"patch_size": 8, "depth": 2, "heads": 3},
    "predictor": "transformer",
    "predictor_options": {"depth": 3, "heads": 4, "head_size": 8, "mlp_size": 32},
    "projector": {"hidden_size": 24},
}


@pytest.fixture
def small() -> dict:
    """Return the options of a small LeWM."""
    return dict(_SMALL)


@pytest.fixture
def build():
    """Return a function that builds a LeWM in training mode, nothing in it left at 0 or 1."""

    def function(seed: int = 0, **changes) -> LeWM:
        torch.manual_seed(seed)
        model = LeWM(LeWMConfig(**(_SMALL | changes)))
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand_like(buffer))
        model.set_action_statistics([0.1, -0.3], [0.5, 0.9])
        return model

    return function


@pytest.fixture
def model(build) -> LeWM:
    """Return a small LeWM in training mode."""
    return build()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a copy of a published checkpoint that may be damaged."""
    golden = Path(__file__).parent / "golden_official" / "transformers5"
    return Path(shutil.copytree(golden, tmp_path / "checkpoint"))


@pytest.fixture
def rewrite(folder):
    """Return a function that changes the copy's weights, and one that changes its configuration."""

    def weights(change) -> None:
        state = torch.load(folder / "weights.pt", weights_only=True)
        torch.save(change(state) or state, folder / "weights.pt")

    def config(change) -> None:
        document = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(change(document) or document))

    return weights, config
