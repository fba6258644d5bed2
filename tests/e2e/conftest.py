"""What the browser tests share."""

from tests.served import served  # noqa: F401
