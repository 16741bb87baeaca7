"""Metrics: nothing lost, nothing doubled, valid JSON; seeds that do not depend on order."""

import builtins
import json
import math

import pytest
import torch

from wmkit.errors import UserError
from wmkit.training.randomness import derive_seed, device_generator, isolated_random_state, seed_global
from wmkit.training.records import JsonLines, TensorBoard, Window, plain


def test_rows_after_the_checkpoint_are_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(path, 0)
    first.write({"stage": "a", "loss": 1.0}, 1)
    size = first.sync()
    first.write({"stage": "a", "loss": 2.0}, 2)
    first.close()
    again = JsonLines(path, size)
    again.write({"stage": "a", "loss": math.nan}, 2)
    again.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"stage": "a", "loss": 1.0}, {"stage": "a", "loss": None}]


def test_a_window_gives_means_once_and_survives_a_round_trip():
    window, other = Window(), Window()
    for i in range(3):
        window.add({"loss": torch.tensor(float(i)), **({"rare": torch.tensor(8.0)} if i == 1 else {})})
    other.load(window.tensors())
    assert window.drain() == other.drain() == {"loss": 1.0, "rare": 8.0}
    assert window.drain() == {}


def test_the_first_step_that_is_not_finite_is_named_with_its_terms():
    window = Window()
    for loss, norm, term in ((1.0, 1.0, 1.0), (1.0, math.inf, 1.0), (math.nan, 1.0, math.nan), (1.0, 1.0, math.nan)):
        window.add({"loss": torch.tensor(loss), "grad_norm": torch.tensor(norm), "term": torch.tensor(term)})
    assert window.first_non_finite() == (2, ["grad_norm"])


def test_a_term_that_is_only_logged_may_be_undefined():
    window = Window()
    window.add({"loss": torch.tensor(1.0), "term": torch.tensor(math.nan)})
    assert window.first_non_finite() is None


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if "tensorboard" in name:
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'wmkit\[train\]'"):
        TensorBoard(tmp_path, 0)


def test_plain_values_are_json(tmp_path):
    odd = {"path": tmp_path, "pair": (1, 2.5), "bad": [math.inf, None], 3: True}
    assert plain(odd) == {"path": str(tmp_path), "pair": [1, 2.5], "bad": [None, None], "3": True}


def test_seeds_differ_by_every_part_and_stay_the_same():
    seeds = {derive_seed(seed, stage, step) for seed in range(5) for stage in ("a", "b") for step in range(100)}
    assert len(seeds) == 1000
    assert derive_seed(0, "a", 1) != derive_seed(0, "a1")
    assert derive_seed(0, "encoder", 17) == 5201960612739373068


def test_the_global_state_comes_back():
    torch.manual_seed(1)
    expected = torch.randn(2)
    torch.manual_seed(1)
    with isolated_random_state():
        seed_global(5)
        inside = torch.rand(2)
        seed_global(5)
        assert torch.equal(torch.rand(2), inside)
    assert torch.equal(torch.randn(2), expected)


def test_a_generator_of_the_device_itself_is_kept():
    generator = torch.Generator()
    assert device_generator(generator, "cpu") is generator


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_for_the_gpu_follows_the_given_one():
    draws = [
        torch.rand(4, device="cuda", generator=device_generator(torch.Generator().manual_seed(3), "cuda"))
        for _ in range(2)
    ]
    assert torch.equal(*draws)
