"""The real ADetailer library on a torch without CUDA, and no network."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator

import pytest

# Before ultralytics is imported: no settings in the user's folder, no look for updates.
os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="flux-speedup-yolo-")
atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
# Asked for the network: that nobody uses it is what is to be shown.
os.environ["HF_HUB_OFFLINE"] = "0"


def _nms(boxes, scores, threshold):  # type: ignore[no-untyped-def]
    """Boxes by falling score, each kept unless one that is kept overlaps it by more than the threshold."""
    import torch

    kept: list[int] = []
    left = scores.argsort(descending=True)
    low, high = boxes[:, :2], boxes[:, 2:]
    areas = (high - low).clamp(min=0).prod(1)
    while left.numel():
        best, left = left[0], left[1:]
        kept.append(int(best))
        shared = (torch.minimum(high[best], high[left]) - torch.maximum(low[best], low[left])).clamp(min=0)
        overlap = shared.prod(1)
        left = left[overlap <= threshold * (areas[best] + areas[left] - overlap)]
    return torch.tensor(kept, dtype=torch.int64)


@pytest.fixture(scope="session", autouse=True)
def torchvision_without_cuda() -> Iterator[None]:
    """PyPI's torchvision brings operators for CUDA alone; those that its import needs are defined here."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    import torchvision.extension
    import torchvision.ops.boxes

    torchvision.extension._HAS_OPS = True
    torchvision.extension._has_ops = lambda: True
    yield
    del library


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that somebody wanted to reach; none of them is reached."""
    hosts: list[str] = []

    def refused(host: object, *_: object, **__: object) -> None:
        hosts.append(str(host))
        raise socket.gaierror(socket.EAI_NONAME, "refused by the test")

    def connect(_: socket.socket, address: object) -> None:
        refused(address)

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return hosts
