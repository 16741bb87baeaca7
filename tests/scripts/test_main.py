"""The command line: fast to answer, one line for a mistake, the right exit codes, and no side effects of importing."""

import dataclasses
import errno
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import wmkit
from wmkit.errors import UserError
from wmkit.scripts import main as program

HEAVY = {"torch", "numpy", "gymnasium", "h5py", "pymunk", "tyro", "rich", "matplotlib", "scipy"}

PLACES = "pretrained:NAME, or owner/name on the Hugging Face hub"


def python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    command = [sys.executable, *arguments, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wmkit_command(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wmkit.scripts.main", *arguments]
    return subprocess.run(command, text=True, check=False, timeout=60, **({"capture_output": True} | options))


def seconds(*arguments: str) -> float:
    """Return the processor time of a fresh interpreter, the least of five, as other load only adds to it."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


def test_importing_is_fast():
    assert seconds("-c", "import wmkit") - seconds("-c", "pass") < 0.3


def test_help_is_fast():
    assert seconds("-m", "wmkit.scripts.main", "--help") < 1.0


@pytest.mark.parametrize("code", ["import wmkit", "from wmkit.scripts.main import main; main(['--help'])"])
def test_nothing_heavy_is_imported(code):
    imported = python(f"{code}\nimport sys\nprint('MODULES', *sys.modules)").split("MODULES")[1].split()
    assert not HEAVY & set(imported)


def test_importing_everything_changes_no_other_state():
    changed = python(
        """
        import locale, os, pkgutil, random, signal, sys, warnings, importlib
        import gymnasium, h5py, numpy, pymunk, torch, torch.nn.functional, tqdm
        watched = [os, random, signal, warnings, gymnasium, numpy, numpy.random, pymunk, torch, torch.nn,
                   torch.nn.functional, torch.Tensor, torch.nn.Module]
        def snapshot():
            facts = {(str(part), name): id(value) for part in watched for name, value in vars(part).items()}
            facts |= {("environment", name): value for name, value in os.environ.items()}
            facts["threads"] = torch.get_num_threads(), torch.get_num_interop_threads()
            facts["torch"] = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
            facts["torch random"] = torch.get_rng_state().tolist()
            facts["precision"] = torch.get_float32_matmul_precision()
            facts["numpy random"] = str(numpy.random.get_state())
            facts["warnings"] = list(warnings.filters)
            facts["handlers"] = signal.getsignal(signal.SIGINT), sys.excepthook, sys.displayhook
            facts["locale"] = locale.setlocale(locale.LC_ALL)
            facts["folder"] = os.getcwd()
            return facts
        before = snapshot()
        import wmkit
        for module in pkgutil.walk_packages(wmkit.__path__, "wmkit."):
            importlib.import_module(module.name)
        from wmkit import envs, models, planners, scripts
        for package in (envs, models, planners, scripts):
            for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                importlib.import_module(module.name)
        after = snapshot()
        gone = {name for name in before if name not in after or before[name] != after[name]}
        added = {name for name in after if name not in before and name[0] == "environment"}
        print(sorted(map(str, gone | added)))
        """
    )
    assert changed.strip() == "[]"


def test_help_lists_every_command():
    shown = wmkit_command("--help")
    assert shown.returncode == 0
    listed = [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ") and line[2].isalpha()]
    assert listed == list(program.COMMANDS)
    assert wmkit_command().stdout == shown.stdout


def test_version():
    assert wmkit_command("--version").stdout == f"wmkit {wmkit.__version__}\n"


@pytest.mark.parametrize("name", program.COMMANDS)
def test_every_command_is_complete(name, capsys):
    module = __import__(f"wmkit.scripts.{name}", fromlist=["run"])
    config = getattr(module, name.capitalize())
    assert dataclasses.is_dataclass(config)
    assert config.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
    assert list(inspect.signature(module.run).parameters) == ["config"]
    with pytest.raises(SystemExit) as stop:
        program.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: wmkit {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["zzz"], f"unknown command 'zzz'; known: {', '.join(program.COMMANDS)}"),
        (["--verison"], "unknown option '--verison'; did you mean '--version'?"),
        (["bench", "environments"], "bench: unknown command 'environments'; known: plan, train, env, data, control"),
        (["bench", "contrl"], "bench: unknown command 'contrl'; did you mean 'control'?"),
        (
            ["info", "/nowhere/model"],
            "no model folder /nowhere/model; give a folder, pretrained:NAME, or owner/name on the Hugging Face hub",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments, expected):
    done = wmkit_command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"wmkit: error: {expected}\n"


@pytest.mark.parametrize("option", ["--no-such-option", "--jsn"])
def test_an_unknown_option_is_refused(option):
    done = wmkit_command("info", option)
    assert done.returncode == 2
    assert option in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def fake(monkeypatch) -> Callable[[Callable], None]:
    """Return a function that installs a command `fake` with the given body."""

    @dataclasses.dataclass(frozen=True)
    class Fake:
        number: int = 0

    def install(body: Callable) -> None:
        module = types.ModuleType("wmkit.scripts.fake", "A command for tests.")
        module.__dict__.update(Fake=Fake, run=body)
        monkeypatch.setitem(sys.modules, "wmkit.scripts.fake", module)
        monkeypatch.setitem(program.COMMANDS, "fake", "for tests")

    return install


def raising(error: BaseException) -> Callable:
    def run(config: object) -> None:
        raise error

    return run


def test_options_reach_the_command(fake):
    seen = []
    fake(seen.append)
    assert program.main(["fake", "--number", "3"]) == 0
    assert [config.number for config in seen] == [3]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("too\n few episodes"), 2, "too few episodes"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "x.h5"), 2, "[Errno 28] No space left on device: 'x.h5'"),
        (ModuleNotFoundError("No module named 'pygame'", name="pygame"), 2, "the package 'pygame' is missing"),
    ],
)
def test_errors_that_a_user_can_mend(fake, capfd, monkeypatch, error, code, line):
    monkeypatch.setattr(program, "_silence", lambda: 141)
    fake(raising(error))
    assert program.main(["fake"]) == code
    shown = capfd.readouterr().err
    assert shown.startswith(f"wmkit: error: {line}")
    assert shown.count("\n") == 1
    with pytest.raises(type(error)):
        program.main(["fake", "--traceback"])


@pytest.mark.parametrize("error", [ValueError("a defect"), ModuleNotFoundError("lost", name="wmkit.lost")])
def test_a_defect_keeps_its_traceback(fake, error):
    fake(raising(error))
    with pytest.raises(type(error)):
        program.main(["fake"])


@pytest.mark.parametrize("arguments", [["--help"], ["bench"], ["info"]])
def test_a_reader_that_goes_away(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    done = wmkit_command(*arguments, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        done = wmkit_command("info", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith("wmkit: error: [Errno 28]")
    assert done.stderr.count("\n") == 1


def test_interrupting_a_real_run():
    command = [sys.executable, "-m", "wmkit.scripts.main", "bench", "env", "--seconds", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert (process.returncode, shown) == (130, "wmkit: error: interrupted\n")


def test_bench_measures_every_environment(capsys):
    assert program.main(["bench", "env", "--seconds", "0.01", "--json"]) == 0
    rates = json.loads(capsys.readouterr().out)["rates"]
    assert {case.split("/")[0] for case in rates} == {"two-room", "pusht", "walker", "push-cube"}
    assert all(rate > 0 for rate in rates.values())


def test_info_describes_this_installation(capsys):
    assert program.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["wmkit"] == wmkit.__version__
    assert {"two-room", "pusht"} <= set(facts["environments"])
    assert "model" not in facts


@pytest.fixture
def model(tmp_path) -> Path:
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        '{"config": {"latent_size": 32}, "metadata": {"data": {"fingerprint": "abc"}}}'
    )
    return tmp_path


def test_info_describes_a_model(model, capsys):
    assert program.main(["info", str(model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["model"]
    assert facts["parameters"] == 17
    assert facts["config"] == {"latent_size": 32}
    program.main(["info", str(model)])
    shown = capsys.readouterr().out
    assert facts["sha256"] in shown
    assert any(line.split() == ["fingerprint", "abc"] for line in shown.splitlines())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", "{", "not readable JSON"),
        ("config.json", "3", "not readable JSON"),
        ("config.json", '{"sha256": "0"}', "is not what config.json names"),
        ("model.safetensors", "short", "is damaged"),
    ],
)
def test_info_refuses_a_damaged_model(model, capsys, name, content, says):
    (model / name).write_text(content)
    assert program.main(["info", str(model)]) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1


def test_info_points_to_the_models_inside_a_run(model, capsys):
    assert program.main(["info", str(model.parent)]) == 2
    assert str(model) in capsys.readouterr().err
