"""Provenance tells the truth about versions, hardware and commit, without importing anything heavy."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy
import pytest
import torch

from wmkit import provenance as module
from wmkit.provenance import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_versions_are_those_that_run():
    facts = provenance()
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["packages"]["numpy"] == numpy.__version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))


def test_it_survives_json_and_is_dated_now():
    facts = json.loads(json.dumps(provenance()))
    assert abs((datetime.now(UTC) - datetime.fromisoformat(facts["date"])).total_seconds()) < 60


def test_hardware_is_plausible():
    facts = provenance()
    assert 1 <= facts["cores"] <= (os.cpu_count() or 1)
    assert facts["memory_gib"] is None or facts["memory_gib"] > 0.5
    assert facts["cpu"]


def test_cores_respect_affinity():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no CPU affinity on this system")
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from wmkit.provenance import provenance; print(provenance()['cores'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_absent_packages_are_left_out():
    assert module._versions(["numpy", "no-such-package"]) == {"numpy": numpy.__version__}


def test_the_commit_is_marked_when_files_changed(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert module._commit(tmp_path) == commit
    (tmp_path / "file").write_text("two")
    assert module._commit(tmp_path) == f"{commit}-dirty"


def test_a_folder_inside_another_repository_has_no_commit(tmp_path):
    git(tmp_path, "init", "-q")
    inner = tmp_path / "site-packages"
    inner.mkdir()
    assert module._commit(inner) is None


@pytest.mark.parametrize("command", [("no-such-program",), (sys.executable, "-c", "raise SystemExit(1)")])
def test_a_program_that_fails_says_nothing(command):
    assert module._output(*command) is None


def test_nothing_heavy_is_imported():
    code = "import sys; from wmkit.provenance import provenance; provenance(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "gymnasium"} & set(done.stdout.split())
