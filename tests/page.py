"""HTML as a browser would read it: which tags there are, which text, and whether everything is closed."""

from __future__ import annotations

import html.parser


class Tags(html.parser.HTMLParser):
    """The tags of a page with their attributes and whether every tag is closed in order.

    `text` is what stands in the page, `drawn` what stands inside its pictures.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.all: list[tuple[str, dict[str, str]]] = []
        self.text = self.drawn = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.all.append((tag, {name: value or "" for name, value in attrs}))
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.all.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "svg" in self.open:
            self.drawn += data
        else:
            self.text += data

    def classed(self, name: str) -> list[dict[str, str]]:
        """The attributes of every tag of that class."""
        return [attributes for _, attributes in self.all if name in attributes.get("class", "").split()]
