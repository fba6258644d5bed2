"""What Ray and the libraries it brings warn of is not ours."""

from __future__ import annotations

import importlib.util

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if importlib.util.find_spec("ray") is not None:
        config.addinivalue_line("filterwarnings", "ignore")
