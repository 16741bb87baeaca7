"""The transformer: who sees whom, what a cache changes, and that all it is given matters."""

import pytest
import torch

from wmkit.diffusion.network import Block, SequenceDenoiser, level_embedding

_SIZES = {"target_size": 3, "context_size": 5, "horizon": 8, "condition_size": 2, "patch": 2}


def _stir(module, seed=0):
    """Return the module with nothing left at 0."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def _network(**changes):
    torch.manual_seed(0)
    return _stir(SequenceDenoiser(**(_SIZES | {"width": 16, "depth": 2, "heads": 2, "mlp_size": 32} | changes)))


def _inputs(m=4, h=8):
    generator = torch.Generator().manual_seed(1)
    shapes = ((m, h, 3), (m,), (m, 5), (m, h, 2))
    return [torch.rand(shape, generator=generator) for shape in shapes]


def test_a_new_network_predicts_0_and_learns():
    torch.manual_seed(0)
    network, inputs = SequenceDenoiser(**_SIZES), _inputs()
    assert torch.equal(network(*inputs), torch.zeros(4, 8, 3))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (network(*inputs) - torch.sin(9 * inputs[0])).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.02


@pytest.mark.parametrize("changed", range(4))
def test_everything_given_matters(changed):
    network, inputs = _network(), _inputs()
    before = network(*inputs)
    inputs[changed] = inputs[changed] + 0.3
    assert (network(*inputs) - before).abs().amax(dim=(1, 2)).min() > 1e-3


@torch.no_grad()
def test_all_steps_see_all_others_and_rows_see_none():
    network, inputs = _network(), _inputs()
    before = network(*inputs)
    for step in (0, 7):
        changed = [x.clone() for x in inputs]
        changed[0][1, step] += 1.0
        difference = (network(*changed) - before).abs().amax(dim=-1)
        assert difference[1].min() > 1e-4
        assert difference[[0, 2, 3]].max() < 1e-5
    parts = [network(*(x[i : i + 1] for x in inputs)) for i in range(4)]
    torch.testing.assert_close(torch.cat(parts), before, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_order_of_steps_matters():
    network, inputs = _network(), _inputs()
    turned = [inputs[0].flip(1), inputs[1], inputs[2], inputs[3].flip(1)]
    assert (network(*turned).flip(1) - network(*inputs)).abs().max() > 1e-2


def test_shorter_sequences_and_no_conditions():
    assert _network()(*_inputs(h=4)).shape == (4, 4, 3)
    assert _network(condition_size=0)(*_inputs()[:3]).shape == (4, 8, 3)


@pytest.mark.parametrize("change", [{"patch": 3}, {"heads": 3}])
def test_sizes_that_do_not_divide_are_refused(change):
    with pytest.raises(ValueError, match="must be a multiple"):
        _network(**change)


def test_levels_are_told_apart():
    levels = torch.arange(1001) / 1000
    embedded = level_embedding(levels)
    assert embedded.shape == (1001, 64)
    assert embedded.abs().max() <= 1
    assert torch.cdist(embedded, embedded).fill_diagonal_(9).min() > 0.3


@torch.no_grad()
def test_causal_blocks_do_not_look_ahead():
    block, generator = _stir(Block(16, 2, 32)), torch.Generator().manual_seed(2)
    tokens, modulation = torch.randn(3, 6, 16, generator=generator), torch.randn(3, 1, 96, generator=generator)
    before = block(tokens, modulation, causal=True)[0]
    tokens[:, 4, 0] += 1.0
    difference = (block(tokens, modulation, causal=True)[0] - before).abs().amax(dim=(0, 2))
    assert difference[:4].max() == 0
    assert difference[4:].min() > 1e-3
    free = block(tokens, modulation)[0]
    tokens[:, 4, 0] -= 1.0
    assert (block(tokens, modulation)[0] - free).abs().amax(dim=(0, 2))[:4].min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("first", [1, 4])
def test_a_cache_changes_nothing(first):
    block, generator = _stir(Block(16, 2, 32)), torch.Generator().manual_seed(2)
    tokens, modulation = torch.randn(3, 6, 16, generator=generator), torch.randn(3, 6, 96, generator=generator)
    whole, kept = block(tokens, modulation, causal=True)
    part, past = block(tokens[:, :first], modulation[:, :first], causal=True)
    found = [part]
    for i in range(first, 6):
        part, past = block(tokens[:, i : i + 1], modulation[:, i : i + 1], causal=True, past=past)
        found.append(part)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(past[0], kept[0], atol=1e-5, rtol=1e-5)


def test_dropout_is_of_training_alone():
    network, inputs = _network(dropout=0.5), _inputs()
    assert torch.equal(network(*inputs), network(*inputs))
    network.train()
    assert not torch.equal(network(*inputs), network(*inputs))
