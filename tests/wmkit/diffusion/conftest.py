"""A run that is trained once for all tests here."""

import cart_task
import pytest
import torch


@pytest.fixture(scope="session")
def cart_run(tmp_path_factory):
    """Folders of a run and of its data."""
    torch.set_num_threads(1)
    return cart_task.make_run(tmp_path_factory.mktemp("cart"))
