"""A batch drawn ahead is the one that the step would have drawn itself."""

import threading

import pytest
import torch

from wmkit.data.prefetch import Prefetcher

CPU = torch.device("cpu")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def draw(source):
    return {"numbers": torch.rand(3, generator=source)}


def test_a_batch_drawn_ahead_leaves_the_generator_as_the_step_would():
    ahead, alone = generator(5), generator(5)
    prefetcher = Prefetcher(draw, CPU)
    prefetcher.start(1, ahead)
    batch = prefetcher.take(1, ahead)
    assert torch.equal(batch["numbers"], draw(alone)["numbers"])
    assert torch.equal(torch.rand(2, generator=ahead), torch.rand(2, generator=alone))


def test_a_step_that_was_not_begun_is_drawn_when_asked_for():
    prefetcher = Prefetcher(draw, CPU)
    prefetcher.start(1, generator(1))
    assert torch.equal(prefetcher.take(0, generator(0))["numbers"], draw(generator(0))["numbers"])
    other = generator(7)
    assert torch.equal(prefetcher.take(1, other)["numbers"], draw(generator(7))["numbers"])


def test_the_next_batch_is_drawn_while_this_one_is_used():
    drawn, go_on = threading.Event(), threading.Event()

    def slow(source):
        go_on.wait(10)
        drawn.set()
        return draw(source)

    prefetcher, source = Prefetcher(slow, CPU), generator(1)
    prefetcher.start(1, source)
    assert not drawn.is_set()
    go_on.set()
    prefetcher.take(1, source)
    assert drawn.is_set()
    assert not prefetcher._begun


def test_an_error_in_drawing_reaches_the_step():
    def broken(source):
        raise ValueError("no window fits")

    prefetcher, source = Prefetcher(broken, CPU), generator(1)
    prefetcher.start(1, source)
    with pytest.raises(ValueError, match="no window fits"):
        prefetcher.take(1, source)
