"""For tests that make no sense on a CPU that stands for a card."""

from __future__ import annotations

import pytest

from tests import second_device

needs_card = pytest.mark.skipif(bool(second_device.why_not()), reason=second_device.why_not())
