"""``store.json``: what a store is, written once when it is made."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from lmeraser.config import MethodConfig, method_from_json
from lmeraser.errors import (
    KeysError,
    LostRaceError,
    ObjectCorruptError,
    ObjectMissingError,
    StoreFormatError,
    UnfinishedRestoreError,
)
from lmeraser.hashing import canonical_json
from lmeraser.keys import HashKey
from lmeraser.state import json_digest, state_leaf, tensor_digest
from lmeraser.store import Store
from lmeraser.tensors import tensors_from_bytes

FORMAT = 6
NAME = "store.json"
RESTORING = "restoring.json"


@dataclass(frozen=True)
class Manifest:
    """The unchanging part of a store.

    Attributes:
        store_id: tells stores apart; part of the owners' names.
        method: the configuration that decides the state.
        public: names of the public artifacts' objects by part ("backbone", "partition", "features" and,
            where there is a meta-prompt, "prompt").
        public_digests: their digests.
        fingerprint: the numerics that the store was made with.
    """

    store_id: str
    method: MethodConfig
    public: Mapping[str, str]
    public_digests: Mapping[str, str]
    fingerprint: Mapping[str, str]

    @property
    def feature_batch(self) -> int:
        """Rows in one batch of the feature extraction."""
        return int(self.fingerprint["feature_batch"])

    def leaves(self, hash_key: HashKey) -> dict[str, str]:
        """The leaves of the state root that no change of rows touches."""
        digests = {
            "config": json_digest(asdict(self.method)),
            "fingerprint": json_digest(dict(self.fingerprint)),
            **{f"public/{part}": digest for part, digest in self.public_digests.items()},
        }
        return {name: state_leaf(hash_key, name, digest) for name, digest in digests.items()}

    def check_hash_key(self, fixed_leaves: Mapping[str, str], hash_key: HashKey) -> None:
        """Tell a wrong hash key from a corrupt object.

        Args:
            fixed_leaves: those of a commit of this store.
            hash_key: the key to check.

        Raises:
            KeysError: when the commit was made under another key.
        """
        if self.leaves(hash_key) != dict(fixed_leaves):
            raise KeysError("the hash key is not the one that this store's log was written under")


def create_manifest(
    store: Store,
    method: MethodConfig,
    public: Mapping[str, str],
    public_digests: Mapping[str, str],
    fingerprint: Mapping[str, str],
) -> Manifest:
    """Make the store.

    Raises:
        StoreFormatError: when there is one already.
    """
    manifest = Manifest(uuid.uuid4().hex[:12], method, public, public_digests, fingerprint)
    try:
        store.put_if_absent(NAME, canonical_json({"format": FORMAT, **asdict(manifest)}))
    except LostRaceError as error:
        raise StoreFormatError(f"{store.uri} is a store already") from error
    return manifest


def load_manifest(store: Store, *, restoring: bool = False) -> Manifest:
    """Read ``store.json``.

    Args:
        store: where it lies.
        restoring: read it although the store is being restored.

    Raises:
        StoreFormatError: when there is none, or another format version wrote it.
        UnfinishedRestoreError: when a restore of the store was begun and is not finished.
    """
    if not restoring and store.exists(RESTORING):
        raise UnfinishedRestoreError(f"{store.uri} is not wholly restored: run `lmeraser restore` on it again")
    try:
        value = json.loads(store.get(NAME))
    except ObjectMissingError as error:
        raise StoreFormatError(f"{store.uri} is not a store: it has no {NAME} (`lmeraser ingest` makes one)") from error
    except ValueError as error:
        raise StoreFormatError(f"{store.uri}: {NAME} cannot be read: {error}") from error
    found = value.pop("format", None) if isinstance(value, dict) else None
    if found != FORMAT:
        raise StoreFormatError(f"{store.uri} was written in format {found!r}; this version reads format {FORMAT}")
    try:
        return Manifest(**{**value, "method": method_from_json(value["method"])})
    except (KeyError, TypeError) as error:
        raise StoreFormatError(f"{store.uri}: {NAME} lacks a part: {error}") from error


def load_part(store: Store, manifest: Manifest, part: str) -> dict[str, np.ndarray]:
    """The tensors of one public artifact ("backbone", "partition", "features" or "prompt").

    Raises:
        ObjectCorruptError: when they do not have their digest.
    """
    name = manifest.public[part]
    tensors = tensors_from_bytes(store.get(name), name)
    if tensor_digest(tensors) != manifest.public_digests[part]:
        raise ObjectCorruptError(f"{name} does not have the digest that {store.uri} was made with")
    return tensors
