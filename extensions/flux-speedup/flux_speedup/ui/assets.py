"""What the page carries: its style (page.css), a function that runs all the time (live.js), short ones for buttons.

Colours come from gradio's theme variables; ours have a light and a dark value. The style is an element inside the
page: a tab's own `css` argument is lost when a WebUI renders it into its page.
"""

from __future__ import annotations

import json
from pathlib import Path

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
STYLE = f"<style>{CSS}</style>"
LIVE = Path(__file__).with_name("live.js").read_text(encoding="utf-8")

# Pages that are not on https or localhost have no clipboard of their own; some browsers have the old way.
COPY = """async (text) => {
  const said = (words, css) => `<div class="fsu fsu-result${css}" role="status">${words}</div>`;
  const copied = said("Copied. It has no paths, names or prompts; read it below before you post it.", "");
  try {
    await navigator.clipboard.writeText(text);
    return copied;
  } catch (error) {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    document.body.appendChild(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done ? copied : said("This browser does not let a page copy: select the text below and copy it.", "");
  }
}"""


def pressed(inputs: int) -> str:
    """Puts what was pressed inside our HTML into the first of so many inputs."""
    return f'(...values) => [window.fluxSpeedup?.pressed ?? "", ...values.slice(1, {inputs})]'


def save(file_name: str, mime: str) -> str:
    """Saves the text it is handed as a file."""
    return f"""(text) => {{
  if (!text) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {{ type: {json.dumps(mime)} }}));
  link.download = {json.dumps(file_name)};
  document.body.appendChild(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}}"""
