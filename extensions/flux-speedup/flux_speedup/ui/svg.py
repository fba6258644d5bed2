"""Inline SVG whose x are percent of the width and whose y are pixels: text keeps its size on every screen.

Pure. `title` and `label` are plain text and are escaped here; `css` is a word of ours.
"""

from __future__ import annotations

from .words import plain


def picture(label: str, height: int, body: str) -> str:
    """An image as wide as its place, `height` pixels high; `label` is what a screen reader says."""
    return f'<svg role="img" aria-label="{plain(label)}" height="{height}">{body}</svg>'


def rect(x: float, y: float, width: float, height: float, css: str, title: str = "") -> str:
    """A rectangle; x and width in percent."""
    return (
        f'<rect class="{css}" x="{x:.3f}%" y="{y:.1f}" width="{max(0.0, width):.3f}%" '
        f'height="{max(0.0, height):.1f}" rx="2">{_title(title)}</rect>'
    )


def dot(x: float, y: float, radius: float, css: str, title: str = "") -> str:
    """A circle; x in percent."""
    return f'<circle class="{css}" cx="{x:.3f}%" cy="{y:.1f}" r="{radius:.1f}">{_title(title)}</circle>'


def across(y: float, css: str) -> str:
    """A line from side to side."""
    return f'<line class="{css}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    """A line of text; x in percent."""
    return (
        f'<text class="{css}" x="{x:.3f}%" y="{y:.1f}" text-anchor="{anchor}" unicode-bidi="plaintext">'
        f"{plain(words)}</text>"
    )


def _title(title: str) -> str:
    return f"<title>{plain(title)}</title>" if title else ""
