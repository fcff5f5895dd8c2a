"""The forms in which this system and those around it write the same content.

Each function decodes one kind of form into plain bytes, so that one search finds content in all of them. All take time
in proportion to the data.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

# How often escaped text may be escaped again, such as a JSON string in a JSON string.
_NESTED = 2
_ESCAPE = re.compile(rb'(?:\\u[0-9a-fA-F]{4})+|\\x[0-9a-fA-F]{2}|\\["\\/bfnrt]')
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_PRINTED = re.compile(rb"[\t\n\r\x20-\x7e]{6,}")
_WIDE = re.compile(rb"(?:[\x09-\x7e]\0){4,}[\x09-\x7e]?")
_HEX = re.compile(rb"[0-9a-fA-F]{12,}")
# Both alphabets; the lines of e-mail and PEM are one run.
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/_-]{60,}+\r?\n)*[A-Za-z0-9+/_-]{8,}")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def texts(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """The text in the data, each with whether all of the data is text, so that short words are significant.

    As it is, without the second bytes of UTF-16, and without the escapes of JSON and URLs.
    """
    if b"\0" not in data:
        runs = [(data, True)]
    else:
        wide = b"\n".join(run[0][::2] for run in _WIDE.finditer(data))
        runs = [(b"\n".join(run[0] for run in _PRINTED.finditer(data)), False), (wide, 4 * len(wide) > len(data))]
    for text, whole in runs:
        yield text, whole
        yield from ((bare, whole) for bare in _without_escapes(text, _NESTED))


def binaries(data: bytes) -> Iterator[bytes]:
    """What the data contains as base64, at any alignment of its groups of four letters, and as hex digits."""
    yield b"\n".join(part for run in _BASE64.finditer(data) for part in _from_base64(run[0]))
    yield b"\n".join(part for run in _HEX.finditer(data) for part in _from_hex(run[0]))


def _without_escapes(text: bytes, nested: int) -> Iterator[bytes]:
    if not nested:
        return
    decoded = []
    if b"\\" in text:
        decoded.append(_ESCAPE.sub(_unescaped, text))
    if b"%" in text:
        decoded.append(unquote_to_bytes(text))
    for bare in decoded:
        if bare != text:
            yield bare
            yield from _without_escapes(bare, nested - 1)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    text = escape[0]
    if text.startswith(b"\\u"):
        units = bytes.fromhex(text.replace(b"\\u", b"").decode())
        return units.decode("utf-16-be", "replace").encode()
    if text.startswith(b"\\x"):
        return bytes.fromhex(text[2:].decode())
    return _LETTERS.get(text[1:], text[1:])


def _from_base64(run: bytes) -> Iterator[bytes]:
    run = run.translate(_STANDARD, b"\r\n")
    for start in range(4):
        whole = (len(run) - start) // 4 * 4
        rest = run[start + whole :]
        yield binascii.a2b_base64(run[start : start + whole] + (rest.ljust(4, b"=") if len(rest) > 1 else b""))


def _from_hex(run: bytes) -> Iterator[bytes]:
    for start in range(2):
        yield binascii.a2b_hex(run[start : start + (len(run) - start) // 2 * 2])
