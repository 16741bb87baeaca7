"""The loop hands a stage the next step's generator early, and the result stays the same."""

import torch
from toy import PredictorStage, ToyRecipe, train

from wmkit.data.prefetch import Prefetcher


class AheadStage(PredictorStage):
    """Draws its rows through a prefetcher."""

    def __init__(self, *args):
        super().__init__(*args)
        self.begun = []
        self.ahead = Prefetcher(self.draw, torch.device("cpu"))

    def draw(self, generator):
        return {"rows": torch.randint(len(self.latents), (16,), generator=generator)}

    def prefetch(self, step, generator):
        self.begun.append(step)
        self.ahead.start(step, generator)

    def loss(self, step, generator):
        assert step == 0 or step in self.ahead._begun
        rows = self.ahead.take(step, generator)["rows"]
        return (self.module["own"](self.latents[rows]) - self.latents[rows].flip(1)).square().mean(), {}


def test_a_stage_that_draws_ahead_ends_with_the_same_weights(tmp_path):
    plain, ahead = ToyRecipe(steps=12), ToyRecipe(steps=12)
    ahead.stages[1] = AheadStage(ahead.model, 12, 0.0)
    for name, recipe in (("plain", plain), ("ahead", ahead)):
        train(tmp_path / name, recipe)
    assert ahead.stages[1].begun == list(range(1, 12))
    first, second = (recipe.model.state_dict() for recipe in (plain, ahead))
    assert all(torch.equal(first[name], second[name]) for name in first)
