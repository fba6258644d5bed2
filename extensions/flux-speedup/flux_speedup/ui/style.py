"""The page's style, from page.css. Colours come from gradio's theme variables; ours have a light and a dark value.

A style element inside the page: a tab's own `css` argument is lost when a WebUI renders it into its page.
"""

from __future__ import annotations

from pathlib import Path

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
STYLE = f"<style>{CSS}</style>"
