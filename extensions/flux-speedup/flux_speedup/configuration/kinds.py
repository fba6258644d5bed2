"""What a configuration key can be, and how a value that somebody wrote is read."""

from __future__ import annotations

from dataclasses import dataclass

MAX_NAMES = 500
MAX_NAME = 200


class BadValue(ValueError):
    """A value does not fit its key; the message says what is allowed."""


@dataclass(frozen=True)
class Switch:
    """on or off."""

    allowed = "on or off"

    def parse(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        known = {
            "on": True,
            "true": True,
            "1": True,
            "yes": True,
            "off": False,
            "false": False,
            "0": False,
            "no": False,
        }
        if isinstance(value, str) and value.strip().lower() in known:
            return known[value.strip().lower()]
        raise BadValue(self.allowed)


@dataclass(frozen=True)
class Choice:
    """One of a few words; `on` is another name for the first."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(self.words)

    def parse(self, value: object) -> str:
        if value is True or (isinstance(value, str) and value.strip().lower() == "on"):
            return self.words[0]
        if value is False:
            value = "off"
        if isinstance(value, str) and value.strip().lower() in self.words:
            return value.strip().lower()
        raise BadValue(self.allowed)


@dataclass(frozen=True)
class Number:
    """A number within bounds; `whole` for counts, `optional` where null means: leave it alone."""

    low: float
    high: float
    whole: bool = False
    optional: bool = False

    @property
    def allowed(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}" + (", or null" if self.optional else "")

    def parse(self, value: object) -> float | int | None:
        if self.optional and (
            value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none"))
        ):
            return None
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise BadValue(self.allowed) from None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadValue(self.allowed)
        # NaN fails both comparisons.
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise BadValue(self.allowed)
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Names:
    """A list of names; in a flag or an environment variable one text, separated by commas."""

    allowed = "a list of names, or names separated by commas"

    def parse(self, value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, (list, tuple)) or len(value) > MAX_NAMES:
            raise BadValue(self.allowed)
        if not all(isinstance(name, str) and len(name) <= MAX_NAME and name.isprintable() for name in value):
            raise BadValue(self.allowed)
        return tuple(dict.fromkeys(name.strip() for name in value if name.strip()))


@dataclass(frozen=True)
class Seconds:
    """A time within bounds, with or without its unit ("5 s"); `off` is another name for 0."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number of seconds from {self.low:g} to {self.high:g}, or off"

    def parse(self, value: object) -> float:
        if value is False:
            return 0.0
        if isinstance(value, str):
            text = value.strip().lower()
            value = 0.0 if text == "off" else text.removesuffix("s").strip()
        try:
            return float(Number(self.low, self.high).parse(value) or 0.0)
        except BadValue:
            raise BadValue(self.allowed) from None


Kind = Switch | Choice | Number | Names | Seconds
