"""The same content in the forms in which this system and those around it write things down.

Each function gives data in one form as bytes of its own, so that one search finds a thing in all of them. All take time
in proportion to the data.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

# Text in a form that text can be in again: a JSON string in a JSON string, in a file of UTF-16.
_NESTED = 2
_ESCAPE = re.compile(rb'(?:\\u[0-9a-fA-F]{4})+|\\x[0-9a-fA-F]{2}|\\["\\/bfnrt]')
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_PRINTED = re.compile(rb"[\t\n\r\x20-\x7e]{6,}")
_WIDE = re.compile(rb"(?:[\x09-\x7e]\0){4,}[\x09-\x7e]?")
_HEX = re.compile(rb"[0-9a-fA-F]{12,}")
# Both alphabets; lines as e-mail and PEM have them are one run.
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/_-]{60,}+\r?\n)*[A-Za-z0-9+/_-]{8,}")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def texts(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """The text in the data, each with whether the data is text as a whole, so that a short word means something.

    As it is, without the second bytes of UTF-16, and without the escapes of JSON and URLs.
    """
    if b"\0" not in data:
        found = [(data, True)]
    else:
        wide = b"\n".join(run[0][::2] for run in _WIDE.finditer(data))
        found = [(b"\n".join(run[0] for run in _PRINTED.finditer(data)), False), (wide, 4 * len(wide) > len(data))]
    for text, whole in found:
        yield text, whole
        yield from ((bare, whole) for bare in _without_escapes(text, _NESTED))


def binaries(data: bytes) -> Iterator[bytes]:
    """What the data holds as base64, whichever of three places a group of four letters starts at, and as hex digits."""
    yield b"\n".join(part for run in _BASE64.finditer(data) for part in _from_base64(run[0]))
    yield b"\n".join(part for run in _HEX.finditer(data) for part in _from_hex(run[0]))


def _without_escapes(text: bytes, nested: int) -> Iterator[bytes]:
    if not nested:
        return
    found = []
    if b"\\" in text:
        found.append(_ESCAPE.sub(_unescaped, text))
    if b"%" in text:
        found.append(unquote_to_bytes(text))
    for one in found:
        if one != text:
            yield one
            yield from _without_escapes(one, nested - 1)


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
