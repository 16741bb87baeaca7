"""Manifests read back exactly, and any change is noticed."""

import dataclasses
import json

import numpy as np
import pytest

from wmkit.errors import UserError
from wmkit.evaluation.manifest import Manifest, Pair, load_manifest, reset_options, save_manifest

PAIR = Pair((0.1, 0.2), (0.3, 1 / 3), 50, 7, 2, 4, ((0.5, -0.25), (1.0, 0.0)), {"door.position": 0.4})


@pytest.fixture
def manifest():
    pairs = (PAIR, dataclasses.replace(PAIR, episode=8, variation={"door.position": 0.6}))
    return Manifest("two-room", "short", "distance", 3, "heldout", "f" * 64, "5" * 64, pairs, {"trivial": 2})


def test_a_saved_manifest_reads_back_bit_for_bit(manifest, tmp_path):
    save_manifest(manifest, tmp_path / "deep" / "manifest.json")
    back = load_manifest(tmp_path / "deep" / "manifest.json")
    assert back.sha256 == manifest.sha256
    np.testing.assert_array_equal(back.goals, manifest.goals)
    assert back.pairs[0].actions == [[0.5, -0.25], [1.0, 0.0]]
    assert back.excluded == {"trivial": 2}


CHANGES = {
    "start": lambda content: content["pairs"][0].update(start=[0.1, 0.2000001]),
    "budget": lambda content: content["pairs"][1].update(budget=51),
    "split": lambda content: content.update(split="train"),
    "excluded": lambda content: content.update(excluded={}),
    "fingerprint": lambda content: content.update(fingerprint="0" * 64),
    "pair removed": lambda content: content["pairs"].pop(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_is_noticed(manifest, tmp_path, change):
    path = tmp_path / "manifest.json"
    save_manifest(manifest, path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="sha256 does not fit"):
        load_manifest(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON"),
        ("[]", "no manifest of version 1"),
        ('{"version": 2}', "no manifest of version 1"),
        ('{"version": 1, "pairs": []}', "no complete manifest"),
        ('{"version": 1, "pairs": [{"speed": 1}]}', "no complete manifest"),
        ('{"version": 1, "pairs": null}', "no complete manifest"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, text, expected):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(UserError, match=expected) as caught:
        load_manifest(path)
    assert "\n" not in str(caught.value)


def test_binary_and_missing_files_are_one_line(tmp_path):
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    for name in ("noise", "missing"):
        with pytest.raises(UserError, match=name):
            load_manifest(tmp_path / name)


def test_first_takes_the_first_pairs_and_refuses_more_than_there_are(manifest):
    assert manifest.first(1).pairs == (PAIR,)
    assert manifest.first(1).sha256 != manifest.sha256
    with pytest.raises(UserError, match="2 pairs"):
        manifest.first(3)


def test_scenes_become_reset_options(manifest):
    assert reset_options([dataclasses.replace(PAIR, variation={})]) == [{}]
    assert reset_options([PAIR, PAIR]) == [{"variation": {"door.position": 0.4}}]
    arrays, mappings = reset_options(manifest.pairs)
    np.testing.assert_array_equal(arrays["variation"]["door.position"], [0.4, 0.6])
    assert mappings == {"variation": [{"door.position": 0.4}, {"door.position": 0.6}]}
    with pytest.raises(UserError, match="same variations"):
        reset_options((PAIR, dataclasses.replace(PAIR, variation={})))
