"""Plugins by name."""

import pytest

from wmkit import registry
from wmkit.errors import UserError


@pytest.fixture
def targets(monkeypatch):
    """Leave the registry as it was."""
    monkeypatch.setattr(registry, "_TARGETS", {kind: dict(known) for kind, known in registry._TARGETS.items()})


@pytest.mark.parametrize("name", registry.names("planners"))
def test_every_planner_loads(name):
    assert callable(registry.load("planners", name))


def test_a_registered_plugin_is_listed_and_loaded(targets):
    registry.register("planners", "mine", "collections:OrderedDict")
    assert "mine" in registry.names("planners")
    assert registry.load("planners", "mine").__name__ == "OrderedDict"


def test_an_installed_plugin_is_found_but_does_not_shadow(monkeypatch):
    class Point:
        def __init__(self, name):
            self.name, self.value = name, "collections:deque"

    def points(group):
        return [Point("cem"), Point("theirs")] if group == "wmkit.planners" else []

    monkeypatch.setattr(registry, "entry_points", points)
    assert registry.load("planners", "theirs").__name__ == "deque"
    assert registry.load("planners", "cem").__name__ == "CEM"
    assert "theirs" not in registry.names("models")


def test_names_are_sorted():
    assert registry.names("environments") == sorted(registry.names("environments"))


def test_unknown_names_are_answered_with_the_known(targets):
    registry.register("planners", "zzz", "a:b")
    with pytest.raises(UserError, match=r"unknown name 'cemm' among planners \(did you mean 'cem'\?\); known: .*zzz"):
        registry.load("planners", "cemm")


def test_mistakes_are_refused(targets):
    with pytest.raises(ValueError, match="'cem' is registered already"):
        registry.register("planners", "cem", "a:b")
    with pytest.raises(ValueError, match="must read 'module:attribute'"):
        registry.register("planners", "other", "a.b")
    with pytest.raises(ValueError, match=r"unknown kind of plugin 'planets'; known: .*planners"):
        registry.names("planets")
