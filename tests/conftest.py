"""What all tests share: without a GPU, Triton runs its kernels in Python."""

import os
import signal

import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

settings.register_profile("ci", derandomize=True)


def pytest_configure(config):
    """Take SIGINT as a program in a terminal does: jobs in the background inherit it ignored, and so do children.

    In CI the examples of hypothesis are the same in every run.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("CI"):
        settings.load_profile("ci")
