"""The frame walk that replaces inspect.stack() in callback registration names the same files."""

from __future__ import annotations

import inspect

from flux_speedup.hosts.common.callbacks import FrameWalk


def test_the_same_files_in_the_same_order_as_inspect_stack() -> None:
    def ask(inspector: object) -> list[str]:
        return [frame.filename for frame in inspector.stack()]  # type: ignore[attr-defined]

    def deeper(inspector: object, levels: int) -> list[str]:
        return ask(inspector) if levels == 0 else deeper(inspector, levels - 1)

    namespace: dict[str, object] = {}
    exec(compile("def made(f): return f()", "<made>", "exec"), namespace)
    for call in (lambda f: f(), namespace["made"]):
        walk, real = (call(lambda i=i: deeper(i, 3)) for i in (FrameWalk(), inspect))  # type: ignore[operator]
        assert walk == real
        assert walk[0] == __file__


def test_everything_else_is_the_real_module() -> None:
    assert FrameWalk().signature is inspect.signature
