"""The project itself: what the wheel installs, who may import whom, what is pinned, and how large files may grow."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import wmkit

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ("envs", "models", "planners")
FOLDERS = ("wmkit", *PLUGINS, "scripts")
SOURCES = sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
CHECKED = SOURCES + sorted(path.relative_to(ROOT) for path in (ROOT / "benchmarks").rglob("*.py"))
FORBIDDEN = {
    "torchvision": "it has no CPU wheel to match a CPU torch",
    "timm": "it needs torchvision",
    "pickle": "a checkpoint is data",
    "gym_pusht": "it needs pymunk<7",
}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """Return the names in a wheel built from a copy of the sources, without network."""
    source, out = tmp_path_factory.mktemp("source") / "wmkit", tmp_path_factory.mktemp("wheel")
    source.mkdir()
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", out]
    done = subprocess.run([*command, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        return set(archive.namelist())


def test_the_wheel_adds_one_name(wheel):
    assert {name.split("/")[0] for name in wheel} == {"wmkit", f"wmkit-{wmkit.__version__}.dist-info"}


def test_the_wheel_holds_every_source_file(wheel):
    expected = {path.as_posix() if path.parts[0] == "wmkit" else f"wmkit/{path.as_posix()}" for path in SOURCES}
    assert expected - wheel == set()
    assert "wmkit/py.typed" in wheel


def test_the_wheel_holds_the_pretrained_models(wheel):
    pretrained = ROOT / "models" / "pretrained"
    files = {path.relative_to(ROOT).as_posix() for path in pretrained.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {f"wmkit/{name}" for name in files} - wheel == set()


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="wmkit")
    assert command.load().__module__ == "wmkit.scripts.main"


def imports(file: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (dots, dotted name) of every import of a file, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, ".".join(filter(None, (node.module, alias.name)))) for alias in node.names)


def breaches(file: Path, source: str) -> list[str]:
    """Return how a file of one of the folders breaks the import rules."""
    folder, depth = file.parts[0], len(file.parts) - 1
    found = []
    for dots, name in imports(file, ast.parse(source)):
        parts = name.split(".")
        if dots == 0 and parts[0] in FORBIDDEN:
            found.append(f"{file}: import of {parts[0]}: {FORBIDDEN[parts[0]]}")
        elif dots == 0 and parts[0] == "wmkit" and len(parts) > 1 and parts[1] in FOLDERS[1:]:
            found.append(f"{file}: absolute import of {name}")
        elif dots == 0 and parts[0] in FOLDERS[1:]:
            found.append(f"{file}: import of {name}, a name that only a checkout has")
        elif dots == 0 and parts[0] == "wmkit" and folder == "wmkit":
            found.append(f"{file}: the core imports itself absolutely: {name}")
        elif dots > depth and not (folder == "scripts" and dots == depth + 1 and parts[0] in PLUGINS):
            found.append(f"{file}: relative import of {'.' * dots}{name} leaves the folder")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=str)
def test_import_rules(file):
    assert breaches(file, (ROOT / file).read_text()) == []


@pytest.mark.parametrize(
    ("file", "source", "allowed"),
    [
        ("planners/cem.py", "from wmkit.contracts import Plan", True),
        ("planners/cem.py", "from .base import SamplingPlanner", True),
        ("planners/cem.py", "from wmkit.planners.base import SamplingPlanner", False),
        ("planners/cem.py", "from wmkit.models import LeWM", False),
        ("planners/cem.py", "from wmkit import models", False),
        ("planners/cem.py", "from ..models import LeWM", False),
        ("planners/cem.py", "def f():\n    from ..models import LeWM", False),
        ("envs/pusht/env.py", "from ..perturbations import Delay", True),
        ("envs/pusht/env.py", "from ...models import LeWM", False),
        ("envs/pusht/env.py", "import gymnasium as gym", True),
        ("models/lewm/model.py", "import torchvision.transforms", False),
        ("wmkit/data/windows.py", "from ..errors import UserError", True),
        ("wmkit/control/controller.py", "from wmkit.planners import CEM", False),
        ("wmkit/control/controller.py", "import planners", False),
        ("wmkit/control/controller.py", "import pickle", False),
        ("scripts/train.py", "from ..planners import CEM", True),
        ("scripts/train.py", "from wmkit.planners import CEM", False),
        ("scripts/train.py", "from wmkit.training.loop import train", True),
        ("scripts/train.py", "from ..training.loop import train", False),
    ],
)
def test_the_import_rules_see_a_breach(file, source, allowed):
    assert (breaches(Path(file), source) == []) is allowed


@pytest.mark.parametrize("file", SOURCES, ids=str)
def test_torch_load_never_unpickles(file):
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert any(key.arg == "weights_only" and ast.unparse(key.value) == "True" for key in node.keywords)


@pytest.mark.parametrize("file", CHECKED, ids=str)
def test_files_and_functions_stay_small(file):
    text = (ROOT / file).read_text()
    assert len(text.splitlines()) <= 400
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    long = [node.name for node in functions if _code_lines(node) > 60]
    assert long == []


def _code_lines(function: ast.FunctionDef) -> int:
    """Return a function's lines without its docstring."""
    assert function.end_lineno is not None
    text = function.body[0] if ast.get_docstring(function) else None
    docstring = (text.end_lineno or text.lineno) - text.lineno + 1 if text else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_every_direct_dependency_is_pinned():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            (only,) = pin.specifier
            assert only.operator == "==", line
            pins[pin.name.lower().replace("_", "-")] = only.version
    table = project()["project"]
    wanted = table["dependencies"] + [one for extra in table["optional-dependencies"].values() for one in extra]
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        assert name in pins, f"{name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} excludes the pinned {pins[name]}"


def test_clashing_packages_are_no_dependencies():
    names = (ROOT / "constraints.txt").read_text().lower()
    for package in ("torchvision", "timm", "gym-pusht", "pygame-ce", "opencv-python"):
        assert f"{package}==" not in names
