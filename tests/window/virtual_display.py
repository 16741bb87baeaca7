"""A display for tests on machines that have none."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest


@contextlib.contextmanager
def virtual_display():
    """Yield the name of a virtual display, e.g. ":1"; skip the test where Xvfb is not installed.

    What pygame has open is closed before the display goes: Xlib would end the whole program.
    """
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield f":{int(pipe.readline())}"
    finally:
        if "pygame" in sys.modules:
            sys.modules["pygame"].display.quit()
        process.terminate()
        process.wait(timeout=10)
