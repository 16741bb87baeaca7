"""Without ogbench the task can be looked at, and making the environment says what to install; no skip here."""

import subprocess
import sys

_WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ogbench":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "ogbench" else found(name, package)
from wmkit.errors import UserError
from wmkit.envs.ogbench.task import OGBENCH_CUBE
assert len(OGBENCH_CUBE.state) == 74 and OGBENCH_CUBE.rules == ("position",)
for make in (OGBENCH_CUBE.make, lambda: OGBENCH_CUBE.make_vector(2), OGBENCH_CUBE.expert):
    try:
        make()
    except UserError as error:
        assert str(error) == "OGBench's cube needs ogbench: pip install 'wmkit[ogbench]'", error
    else:
        raise AssertionError("made without ogbench")
"""


def test_what_to_install_is_said():
    subprocess.run([sys.executable, "-c", _WITHOUT], check=True, timeout=60)


def test_importing_the_task_loads_neither_ogbench_nor_mujoco():
    code = (
        "import sys, wmkit.envs.ogbench.task; "
        "assert not {m for m in sys.modules if m.split('.')[0] in ('ogbench', 'mujoco', 'dm_control', 'torch')}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
