"""A recipe of two small stages with dropout, batch norm, AdamW and Muon; as a program, trains it in a folder.

python toy.py FOLDER [SECONDS_PER_STEP]
"""

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from wmkit.training.loop import Trainer
from wmkit.training.optim import Muon, average, split_parameters, warmup_cosine


class ToyModel(nn.Module):
    """An encoder of 8 x 8 pixels and a predictor on its latents."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 8)
        )
        self.predictor = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.GELU(), nn.Linear(16, 8))
        self.to(memory_format=torch.channels_last)

    def save_pretrained(self, folder):
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "model.safetensors"
        )


class EncoderStage:
    """Trains the encoder with a head of its own that `begin` initialises; Muon and AdamW."""

    name, clip = "encoder", 1.0

    def __init__(self, model, steps, pause):
        self.steps, self.pause = steps, pause
        self.head = nn.Linear(8, 3)
        self.module = nn.ModuleList([model.encoder, self.head])

    def begin(self):
        nn.init.normal_(self.head.weight)

    def optimizers(self):
        matrices, others = split_parameters(self.module)
        return [Muon(matrices, lr=1e-3), torch.optim.AdamW(others, lr=1e-2)]

    def schedule(self, step):
        return warmup_cosine(step, self.steps, 5)

    def loss(self, step, generator):
        time.sleep(self.pause)
        pixels = torch.randn(16, 1, 8, 8, generator=generator)
        loss = (self.head(self.module[0](pixels)) - pixels.mean(dim=(1, 2))[:, :3]).square().mean()
        return loss, {"extra": loss.detach() * 2}

    def after_step(self, step):
        pass

    def validate(self, generator):
        pixels = torch.randn(64, 1, 8, 8, generator=generator)
        target = pixels.mean(dim=(1, 2))[:, :3]
        return {"score": float((self.head(self.module[0](pixels)) - target).square().mean())}


class PredictorStage:
    """Trains the predictor on cached latents, with an average of its weights; no clipping."""

    name, clip = "predictor", None

    def __init__(self, model, steps, pause):
        self.model, self.steps, self.pause = model, steps, pause
        self.module = nn.ModuleDict({"own": model.predictor, "average": average(model.predictor, 0.9)})

    def begin(self):
        with torch.no_grad():
            pixels = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
            self.latents = self.model.encoder(pixels)

    def optimizers(self):
        return [torch.optim.AdamW(self.module["own"].parameters(), lr=1e-2)]

    def schedule(self, step):
        return 1.0

    def loss(self, step, generator):
        time.sleep(self.pause)
        rows = torch.randint(len(self.latents), (16,), generator=generator)
        return (self.module["own"](self.latents[rows]) - self.latents[rows].flip(1)).square().mean(), {}

    def after_step(self, step):
        self.module["average"].update_parameters(self.module["own"])

    def validate(self, generator):
        return {"score": float((self.module["average"](self.latents) - self.latents.flip(1)).square().mean())}


class ToyRecipe:
    """Two stages on one model."""

    def __init__(self, steps=60, pause=0.0):
        torch.manual_seed(3)
        self.model = ToyModel()
        self.settings = {"steps": steps, "fingerprint": "abc"}
        self.stages = [EncoderStage(self.model, steps, pause), PredictorStage(self.model, steps, pause)]


def train(folder, recipe=None, seed=0, **options):
    recipe = recipe or ToyRecipe()
    options = {"log_every": 7, "validate_every": 20, "checkpoint_seconds": 0.05, "show": False} | options
    return Trainer(recipe, Path(folder), seed, recipe.settings, **options).run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(sys.argv[1], ToyRecipe(pause=float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
