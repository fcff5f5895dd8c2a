"""The token of a preview: by it a deletion asks for exactly what was previewed (decision 60).

A token holds no id. Its keyed hash is of the ids too, so that it fits them alone, and no token needs to be stored.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from lmeraser.errors import RequestError
from lmeraser.hashing import HashKey

_TOKEN = re.compile(r"(?P<commit>[1-9][0-9]{0,15})-(?P<root>[0-9a-f]{64})-(?P<mac>[0-9a-f]{64})")


@dataclass(frozen=True)
class Previewed:
    """What a preview has said.

    Attributes:
        commit: the number of the commit that it was of.
        root: the state root right after the erasure.
    """

    commit: int
    root: str


class PreviewTokens:
    """Makes and reads the tokens of one store."""

    def __init__(self, hash_key: HashKey, store_id: str) -> None:
        self._hash_key = hash_key
        self._store_id = store_id

    def token(self, previewed: Previewed, asked: str) -> str:
        """The token of a preview; ``asked`` is a keyed hash of the ids."""
        return f"{previewed.commit}-{previewed.root}-{self._mac(previewed, asked)}"

    def read(self, token: str, asked: str) -> Previewed:
        """What the preview of these ids has said.

        Raises:
            RequestError: when it is not the token of a preview of these ids in this store.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise RequestError(f"the preview is {token[:80]!r}; allowed is the token that a preview has given")
        previewed = Previewed(int(match["commit"]), match["root"])
        if not hmac.compare_digest(match["mac"], self._mac(previewed, asked)):
            raise RequestError("the preview is of other ids, or of another store: preview these ids, and use its token")
        return previewed

    def _mac(self, previewed: Previewed, asked: str) -> str:
        return self._hash_key.of("preview", self._store_id, previewed.commit, previewed.root, asked)
