"""One self-contained HTML page: styles, charts and pictures inside, nothing fetched."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Tile", "facts", "figure", "grid_table", "image_gif", "image_png", "page", "section", "strip"]

Tile = tuple[str, str, str]
"""Label, value and a note of one number at the top of a page."""

_STYLE = """
:root { --ink: #1d2733; --soft: #5b6875; --line: #dfe4e8; --paper: #ffffff; --accent: #1f5f8b; --wash: #f6f8f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 940px; margin: 0 auto; padding: 48px 28px 72px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; font-weight: 650; }
h2 { font-size: 19px; margin: 52px 0 10px; font-weight: 650; }
p { max-width: 70ch; margin: 0 0 14px; }
.lead { color: var(--soft); font-size: 18px; max-width: 62ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 0; margin: 30px 0 0;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.tile { padding: 18px 20px 16px 0; }
.tile b { display: block; font-size: 30px; line-height: 1.15; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile .label { font-size: 14px; color: var(--soft); display: block; margin-bottom: 4px; }
.tile .note { font-size: 13.5px; color: var(--soft); display: block; margin-top: 4px; }
figure { margin: 18px 0 8px; }
figcaption { color: var(--soft); font-size: 14.5px; margin-top: 10px; max-width: 74ch; }
img { max-width: 100%; height: auto; display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 26px 34px;
  margin-top: 18px; }
.charts.one { grid-template-columns: minmax(0, 460px); }
.charts h3 { font-size: 15px; font-weight: 600; margin: 0 0 6px; }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; fill: var(--soft);
  overflow: visible; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .whisker { stroke: var(--ink); stroke-width: 1.6; }
svg .value { fill: var(--ink); font-weight: 600; font-size: 13px; }
.legend { font-size: 13px; color: var(--soft); margin-top: 4px; display: flex; gap: 16px; flex-wrap: wrap; }
.legend i { display: inline-block; width: 14px; height: 3px; margin-right: 6px; vertical-align: middle; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 15px; margin: 14px 0; }
th, td { text-align: left; padding: 8px 14px 8px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); font-size: 13.5px; }
.wide { overflow-x: auto; }
.strip { border-collapse: separate; border-spacing: 6px 6px; width: auto; margin-left: -6px; font-size: 13px; }
.strip td, .strip th { border: 0; padding: 0; text-align: center; vertical-align: middle; }
.strip th { text-align: left; padding-right: 10px; font-weight: 500; max-width: 130px; }
.strip img { width: 84px; height: 84px; image-rendering: pixelated; border: 1px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 22px; font-size: 14px; margin: 14px 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: 13.5px ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
"""


def page(title: str, lead: str, tiles: Sequence[Tile], sections: Sequence[str]) -> str:
    """Return a whole HTML document.

    Args:
        title: of the page, plain text.
        lead: one or two sentences, plain text.
        tiles: the main numbers.
        sections: HTML, in order.
    """
    shown = "".join(
        f'<div class="tile"><span class="label">{html.escape(label)}</span><b>{html.escape(value)}</b>'
        f'<span class="note">{html.escape(note)}</span></div>'
        for label, value, note in tiles
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p><div class="tiles">{shown}</div>'
        f"{''.join(sections)}</main></body></html>\n"
    )


def section(title: str, text: str, *content: str) -> str:
    """Return a section: a heading, a paragraph of plain text, and HTML."""
    paragraph = f"<p>{html.escape(text)}</p>" if text else ""
    return f"<section><h2>{html.escape(title)}</h2>{paragraph}{''.join(content)}</section>"


def figure(content: str, caption: str) -> str:
    """Return HTML with a caption of plain text."""
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def grid_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of plain texts."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(values: Mapping[str, Any]) -> str:
    """Return names and values as a list."""
    return (
        "<dl>"
        + "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd>" for k, v in values.items())
        + "</dl>"
    )


def strip(rows: Mapping[str, Sequence[np.ndarray]], columns: Sequence[str]) -> str:
    """Return rows of pictures (size, size, 3) uint8 under column labels."""
    head = "<tr><th></th>" + "".join(f"<td>{html.escape(text)}</td>" for text in columns) + "</tr>"
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f"<td>{image_png(picture, name)}</td>" for picture in pictures)
        + "</tr>"
        for name, pictures in rows.items()
    )
    return f'<div class="wide"><table class="strip">{head}{body}</table></div>'


def image_png(picture: np.ndarray, text: str) -> str:
    """Return an <img> of a picture (height, width, 3) uint8; `text` says what it shows."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", optimize=True)
    return _image("png", buffer.getvalue(), text)


def image_gif(content: bytes, text: str) -> str:
    """Return an <img> of a GIF; `text` says what it shows."""
    return _image("gif", content, text)


def _image(kind: str, content: bytes, text: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(text, quote=True)}" src="data:image/{kind};base64,{data}">'
