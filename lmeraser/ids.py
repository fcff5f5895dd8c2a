"""Ids of samples and subjects: text, kept exactly as given and compared in Unicode NFC."""

from __future__ import annotations

import unicodedata


def comparable(identifier: str) -> str:
    """The form in which two ids are the same or not: Unicode NFC.

    File systems and databases write one letter in several ways: é as one code point, or as e and an accent. Nothing
    else is evened out: case, spaces and leading zeros tell ids apart.
    """
    return unicodedata.normalize("NFC", identifier)
