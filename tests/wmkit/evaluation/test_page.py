"""Charts and the page: well formed, self-contained, and drawn to scale."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from wmkit.evaluation import charts, page

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Refuses tags that do not nest and collects addresses."""

    def __init__(self):
        super().__init__()
        self.stack, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def _svg(text):
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", text, re.S).group())


def _points(text):
    found = [node.get("points") for node in _svg(text).iter() if node.tag.endswith("polyline")]
    return [np.array([pair.split(",") for pair in line.split()], float) for line in found]


def test_lines_are_drawn_to_scale():
    (line,) = _points(charts.lines({"a": [(0, 0.0), (50, 5.0), (100, 10.0)]}, "steps"))
    assert line[1, 0] == pytest.approx(line[[0, 2], 0].mean(), abs=0.1)
    assert line[1, 1] == pytest.approx(line[[0, 2], 1].mean(), abs=0.1)
    assert line[0, 1] > line[2, 1]


def test_a_logarithmic_line_through_powers_is_straight():
    (line,) = _points(charts.lines({"a": [(0, 0.01), (1, 0.1), (2, 1.0), (3, 0.0)]}, "x", logarithmic=True))
    assert len(line) == 3
    assert line[1, 1] == pytest.approx(line[[0, 2], 1].mean(), abs=0.1)


def test_numbers_that_are_not_finite_are_left_out():
    (line,) = _points(charts.lines({"a": [(0, 1.0), (1, float("nan")), (2, float("inf")), (3, 2.0)]}, "x"))
    assert len(line) == 2
    assert charts.lines({"a": [(0, float("nan"))]}, "x") == ""
    assert charts.lines({}, "x") == ""


def test_constant_and_single_points_have_a_place():
    assert len(_points(charts.lines({"a": [(0, 1.0), (1, 1.0)], "b": [(1, 1.0)]}, "x"))) == 2


def test_bars_are_as_long_as_their_shares():
    widths = {
        node.get("width")
        for node in _svg(charts.bars([("a", 0.5, (0.4, 0.6), True), ("b & c", 1.0, (0.9, 1.0), False)])).iter()
        if node.tag.endswith("rect")
    }
    assert widths == {"205.0", "410.0"}


def test_the_page_nests_escapes_and_fetches_nothing():
    picture = np.zeros((4, 4, 3), np.uint8)
    strip = page.strip({"row": [picture, picture]}, ["one", "two"])
    content = [
        page.section("A < B", "x & y", page.figure(page.image_png(picture, 'say "black"'), "<caption>")),
        page.section("T", "", page.grid_table(["h"], [["<td>"]]), page.facts({"k<": "v>"})),
        page.section("S", "", strip, charts.lines({"<a>": [(0, 1)]}, "x")),
    ]
    document = page.page("title", "lead", [("label", "1 / 2", "note")], content)
    checker = Checker()
    checker.feed(document)
    assert checker.stack == []
    assert len(checker.addresses) == 3
    assert all(address.startswith("data:image/png;base64,") for address in checker.addresses)
    assert "url(" not in document
    for text in ("A &lt; B", "x &amp; y", "&lt;caption&gt;", "&lt;td&gt;", "say &quot;black&quot;", "&lt;a&gt;"):
        assert text in document
