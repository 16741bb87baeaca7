"""The commands and the names in the guide to the monitor are those of the program."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

from wmkit.monitor import reactions
from wmkit.monitor.nominal import SIGNALS
from wmkit.monitor.report import KINDS
from wmkit.scripts.main import COMMANDS

GUIDE = (Path(__file__).parents[3] / "docs" / "monitor.md").read_text()
LINES = [line for line in GUIDE.splitlines() if line.startswith("wmkit ")]


def first_cells(header):
    """Return the code in the first cell of each row of the table with the given first heading."""
    table = GUIDE.split(f"\n| {header} |")[1].split("\n\n")[0]
    return [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in table.splitlines()[2:]]


@pytest.mark.parametrize("line", LINES)
def test_every_command_is_one_that_the_program_reads(line):
    name, *options = shlex.split(line)[1:]
    assert name in COMMANDS
    assert tyro.cli(getattr(importlib.import_module(f"wmkit.scripts.{name}"), name.capitalize()), args=options)


def test_the_guide_shows_every_command_of_the_monitor():
    assert {shlex.split(line)[1] for line in LINES} == {"calibrate", "surprise", "inspect", "demo", "adapt"}


def test_the_tables_hold_every_reaction_signal_and_kind():
    named = {text.partition("(")[0] for cell in first_cells("reaction") for text in cell}
    assert named == set(reactions.__all__)
    assert [cell[0] for cell in first_cells("signal")] == list(SIGNALS)
    assert [cell[0] for cell in first_cells("kind")] == list(KINDS)
