"""What a checkpoint leaves of the card is not given back before the next one has taken it."""

from __future__ import annotations

import threading

import pytest

from flux_speedup.hosts.common.left_over import LeftOver


class Host:
    """Empties its cache at the begin of a request and at its end, as the WebUIs do."""

    def __init__(self, *, roomy: bool = True) -> None:
        self.left_over = LeftOver(lambda: roomy)
        self.emptied: list[str] = []
        self.empty = self.left_over.wrap(self.emptied.append)
        self.request = self.left_over.wrap_request(self._request)

    def _request(self, *, nested: bool = False) -> None:
        self.empty("begin")
        if nested:
            self.request()
        self.empty("end")

    def switch(self) -> None:
        with self.left_over.switching():
            self.empty("switch")


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_request_that_has_switched_begins_with_what_is_there(host: Host) -> None:
    host.switch()
    host.request()
    host.request()
    assert host.emptied == ["end", "begin", "end"]


def test_a_card_without_room_for_both_is_emptied() -> None:
    host = Host(roomy=False)
    host.switch()
    host.request()
    assert host.emptied == ["begin", "end"]


def test_a_request_inside_one_empties_as_ever(host: Host) -> None:
    host.switch()
    host.request(nested=True)
    assert host.emptied == ["begin", "end", "end"]


def test_outside_of_requests_nothing_is_kept(host: Host) -> None:
    host.switch()
    host.empty("unload")
    assert host.emptied == ["unload"]


def test_a_switch_that_fails_or_is_made_by_another_thread_keeps_nothing(host: Host) -> None:
    with pytest.raises(RuntimeError), host.left_over.switching():
        raise RuntimeError
    other = threading.Thread(target=host.switch)
    other.start()
    other.join()
    host.request()
    assert host.emptied == ["begin", "end"]
