"""What all tests share."""

import signal


def pytest_configure(config):
    """Take SIGINT as a program in a terminal does: jobs in the background inherit it ignored, and so do children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
