"""Whether the first bytes of a file can be those of weights. Nothing is unpickled to find out."""

from __future__ import annotations

HEAD_BYTES = 1024
_LFS = b"version https://git-lfs"
_HTML = (b"<!doctype html", b"<html", b"<head", b"<?xml")


def why_no_weights(head: bytes) -> str | None:
    """Why a file that begins with `head` holds no weights; None where it may.

    Weights are binary (zip, pickle, or a safetensors length), so text of any kind is a page or a pointer.
    """
    if not head:
        return "it is empty"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(_LFS):
        return "it is a Git LFS pointer, not the file itself"
    if start[:16].lower().startswith(_HTML):
        return "it is a web page, as servers send instead of a file"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return "it is text, not weights"
    return None
