"""The commands and the names in the guide to diffusion MPC are those of the program."""

import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

from wmkit import registry
from wmkit.diffusion.process import DiffusionConfig, Sampling
from wmkit.planners import DiffusionProposal
from wmkit.scripts.main import COMMANDS
from wmkit.scripts.proposals import parse_proposal
from wmkit.training.overrides import parse_assignments

GUIDE = Path(__file__).parents[2] / "docs" / "diffusion.md"
LINES = [line for line in GUIDE.read_text().splitlines() if line.startswith("wmkit ")]


def config_of(line):
    """Return the options that the program reads from a line."""
    name, *options = shlex.split(line)[1:]
    assert name in COMMANDS
    return tyro.cli(getattr(importlib.import_module(f"wmkit.scripts.{name}"), name.capitalize()), args=options)


@pytest.mark.parametrize("line", LINES)
def test_every_command_is_one_that_the_program_reads(line):
    config = config_of(line)
    if hasattr(config, "preset"):
        preset = registry.load("presets", config.preset)
        given = {name.partition(".")[0] for name in parse_assignments(config.set)}
        if dataclasses.is_dataclass(preset) and not hasattr(preset, "parts"):
            assert given <= {field.name for field in dataclasses.fields(preset)}
    if getattr(config, "planner", None):
        assert config.planner in registry.names("planners")
    if getattr(config, "proposal", None):
        assert parse_proposal(config.proposal)


def test_the_guide_has_commands_for_every_part():
    assert {shlex.split(line)[1] for line in LINES} == {"collect", "train", "eval", "adapt", "distil"}


def test_every_sampler_of_the_table_can_be_chosen():
    table = re.findall(r"^\| (`.*?`) \| .* \| (DDPM|both) \|$", GUIDE.read_text(), re.MULTILINE)
    named = [(name, kind) for names, kind in table for name in re.findall(r"`([^`]+)`", names)]
    assert len(named) == 5
    for name, kind in named:
        Sampling(name).check(DiffusionConfig())
        if kind == "both":
            Sampling(name).check(DiffusionConfig(kind="flow"))
        else:
            with pytest.raises(ValueError, match="flow"):
                Sampling(name).check(DiffusionConfig(kind="flow"))


def test_the_methods_that_the_guide_calls_are_there():
    called = set(re.findall(r"proposal\.(\w+)", GUIDE.read_text())) - {"sampling", "inpaint_goal"}
    assert called == {"with_waypoints", "with_prefix"}
    assert all(hasattr(DiffusionProposal, name) for name in called | {"imagine", "sampling"})
