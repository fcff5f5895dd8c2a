"""Ids of samples and subjects: text, kept exactly as given and compared in Unicode NFC."""

from __future__ import annotations

import unicodedata

MAX_CHARACTERS = 1024
_QUOTED_CHARACTERS = 40


def fault_of_id(identifier: str) -> str | None:
    """What is wrong with an id, and what is allowed, as the end of a sentence; None if it is valid."""
    allowed = f"allowed are 1 to {MAX_CHARACTERS} characters of Unicode text"
    if not identifier:
        return f"is empty; {allowed}"
    if len(identifier) > MAX_CHARACTERS:
        return f"has {len(identifier)} characters and begins with {identifier[:_QUOTED_CHARACTERS]!r}; {allowed}"
    if not is_text(identifier):
        return f"is {identifier!r}, which is not UTF-8; {allowed}"
    return None


def is_text(value: str) -> bool:
    """Whether it can be encoded as UTF-8; lone surrogates, which stand for other bytes, cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def comparable(identifier: str) -> str:
    """The form in which ids are compared: Unicode NFC.

    File systems and databases write one letter in several ways: é as one code point, or as e and an accent. Nothing
    else is normalised: ids that differ in case, spaces or leading zeros are different ids.
    """
    return unicodedata.normalize("NFC", identifier)
