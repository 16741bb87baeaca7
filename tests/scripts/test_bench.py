"""`wmkit bench`: its list, its parts, its peers, and the loop that answers in another Python."""

import dataclasses
import importlib
import inspect
import json
import os
import subprocess
import sys
import types

import pytest

from wmkit.errors import UserError
from wmkit.scripts import bench, bench_report, main, peers
from wmkit.timing import Timed


@pytest.mark.parametrize("name", bench.COMMANDS)
def test_every_part_is_complete(name, capsys):
    module = importlib.import_module(f"wmkit.scripts.bench_{name}")
    config = getattr(module, f"{name.capitalize()}Bench")
    assert dataclasses.is_dataclass(config)
    assert config.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
    assert list(inspect.signature(module.run).parameters) == ["config"]
    with pytest.raises(SystemExit) as stop:
        main.main(["bench", name, "--help"])
    assert stop.value.code == 0
    assert f"usage: wmkit bench {name}" in capsys.readouterr().out


def test_alone_it_lists_its_parts_without_loading_them():
    code = "import sys; from wmkit.scripts.main import main; main(['bench']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *listed, torch = done.stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(bench.COMMANDS)
    assert torch == "False"


def test_a_peer_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match="unknown peer 'other'; known: stable-worldmodel"):
        peers.open_peer("other", "plan", None)


def test_a_peer_without_a_python_names_how_to_make_one(monkeypatch):
    monkeypatch.delenv("WMKIT_PEER_PYTHON", raising=False)
    with pytest.raises(UserError, match=r"--peer-python or set WMKIT_PEER_PYTHON.*pip install stable-worldmodel"):
        peers.open_peer("stable-worldmodel", "plan", None)


@pytest.mark.parametrize(
    ("name", "do", "options"),
    [
        ("plan", "build", {"device": "cpu", "threads": 1, "checkpoint": None}),
        ("env", "describe", {}),
        ("data", "describe", {"folder": "", "threads": 1, "device": "cpu"}),
    ],
)
def test_a_python_without_the_peer_names_how_to_install_it(name, do, options, monkeypatch):
    monkeypatch.setenv("WMKIT_PEER_PYTHON", sys.executable)
    with (
        peers.open_peer("stable-worldmodel", name, None) as peer,
        pytest.raises(UserError, match=r"No module named 'stable_worldmodel'.*pip install stable-worldmodel"),
    ):
        peer.ask(do, **options)


def test_a_program_answers_on_its_own_output_alone(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        f"import os, sys\nsys.path.insert(0, {str(peers.PROGRAMS)!r})\n"
        "from serving import serve\n"
        "def add(a, b):\n"
        "    print('printed')\n"
        "    os.write(1, b'written')\n"
        "    return {'sum': a + b}\n"
        "serve({'add': add})\n"
    )
    requests = [{"do": "add", "a": 1, "b": 2}, {"do": "add", "a": 1}, {"do": "other"}, {"do": "add", "a": "x", "b": 1}]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([sys.executable, program], input=lines, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0] == {"sum": 3}
    assert "missing 1 required positional argument: 'b'" in answers[1]["error"]
    assert answers[2] == {"error": "unknown request 'other'; known: add"}
    assert answers[3]["error"].startswith("TypeError: can only concatenate str")
    assert "written" in done.stderr


def test_a_result_is_written_and_printed(tmp_path, capsys):
    out = tmp_path / "folder" / "result.json"
    bench_report.finish({"a": 1}, out, False, "a table")
    bench_report.finish({"a": 2}, None, True, "a table")
    bench_report.finish({"a": 3}, None, False, "")
    assert json.loads(out.read_text()) == {"a": 1}
    assert capsys.readouterr().out == 'a table\n{"a": 2}\n'


def test_a_file_is_tested_before_and_left_as_it_was(tmp_path):
    there, absent = tmp_path / "there.json", tmp_path / "new" / "absent.json"
    there.write_text("old")
    bench_report.check_machine(types.SimpleNamespace(out=there))
    bench_report.check_machine(types.SimpleNamespace(out=absent))
    assert there.read_text() == "old"
    assert absent.parent.is_dir()
    assert not absent.exists()
    for path in (tmp_path, there / "below.json"):
        with pytest.raises(UserError, match="cannot be written"):
            bench_report.check_machine(types.SimpleNamespace(out=path))


@pytest.mark.parametrize("name", ["plan", "train", "env", "data", "tune"])
def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(name, tmp_path, capsys):
    words = ["plan", "--deadline-ms", "9"] if name == "tune" else [name]
    assert main.main(["bench", *words, "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.err == f"wmkit: error: --out: {tmp_path} cannot be written: Is a directory\n"
    assert shown.out == ""


def test_a_result_is_shown_where_its_file_cannot_be_written(tmp_path, capsys):
    with pytest.raises(UserError, match="cannot be written"):
        bench_report.finish({"a": 1}, tmp_path, False, "a table")
    assert capsys.readouterr().out == "a table\n"


@pytest.mark.parametrize("name", ["plan", "train", "data", "tune"])
@pytest.mark.parametrize("threads", [0, 100_000])
def test_threads_that_the_machine_has_not_are_refused(name, threads, capsys):
    words = ["plan", "--deadline-ms", "9"] if name == "tune" else [name]
    assert main.main(["bench", *words, "--threads", str(threads)]) == 2
    assert f"--threads must be from 1 to {os.cpu_count()}" in capsys.readouterr().err


@pytest.mark.parametrize(("runs", "title", "shown"), [(99, "slowest", "99000.000 ms"), (100, "p99", "99000.000 ms")])
def test_a_p99_is_told_from_a_hundred_runs_on(runs, title, shown):
    timed = Timed(tuple(float(number) for number in range(1, runs + 1))).to_json()
    head, line = bench_report.timing_table("one plan", {"a": timed}, {}, "b")
    assert head.split()[3] == title
    assert shown in line
    assert ("p99" in timed) == (runs == 100)


def test_threads_are_as_before_afterwards():
    import torch

    before = torch.get_num_threads()
    with bench_report.use_threads(before + 1) as used:
        assert used == torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
