"""``store.json``: what a store was made with. Only a rebuild replaces it, with that of another generation."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from lmeraser.config import StateConfig, state_config_from_json
from lmeraser.errors import (
    ConfigError,
    KeysError,
    LostRaceError,
    ObjectCorruptError,
    ObjectMissingError,
    StoreFormatError,
    UnfinishedRestoreError,
)
from lmeraser.hashing import HashKey, canonical_json
from lmeraser.state.checkpoint import CommitReader
from lmeraser.state.digests import json_digest, state_leaf, tensor_digest
from lmeraser.state.layout import MANIFEST, RESTORING, SWITCHING, generation_folder, public_part
from lmeraser.state.tensors import tensors_from_bytes
from lmeraser.store import Fence, Store
from lmeraser.store.location import SCHEME

FORMAT = 11
# Stores of these formats are read too; a coordinator that opens one gives it the newest.
OLDER_FORMATS = (10,)
_LEASE_IN_A_FOLDER_S = 0.4
_LEASE_IN_A_BUCKET_S = 2.0


@dataclass(frozen=True)
class Manifest:
    """What a store was made with, and which generation it is.

    A generation is a configuration with its public artifacts and its fingerprint.

    Attributes:
        store_id: identifies the store, whatever its generation; part of the names of its actors.
        config: the part of the configuration that determines the state.
        public: names of the public artifacts' objects: "backbone", "partition", "features" and, if there is a public
            prompt, "prompt".
        public_digests: their digests.
        fingerprint: the numerics that the store was created with.
        lease_s: seconds for which a replica may answer after it has checked that nothing newer was erased. Every
            erasure waits that long. Replicas and coordinator read it from here, so that they never disagree (decision
            38).
        generation: identifies the generation; "" for the one that the store was created with.
    """

    store_id: str
    config: StateConfig
    public: Mapping[str, str]
    public_digests: Mapping[str, str]
    fingerprint: Mapping[str, str]
    lease_s: float
    generation: str = ""

    @property
    def folder(self) -> str:
        """The folder of what is computed from rows."""
        return generation_folder(self.generation)

    @property
    def feature_batch(self) -> int:
        """Rows in one batch of the feature extraction."""
        return int(self.fingerprint["feature_batch"])

    def leaves(self, hash_key: HashKey) -> dict[str, str]:
        """The leaves of the state root that do not depend on private rows."""
        digests = {
            "config": json_digest(asdict(self.config)),
            "fingerprint": json_digest(dict(self.fingerprint)),
            **{public_part(part): digest for part, digest in self.public_digests.items()},
        }
        return {name: state_leaf(hash_key, name, digest) for name, digest in digests.items()}

    def check_lease(self, wanted_s: float | None) -> None:
        """Check that a configured lease, if there is one, is this one.

        Raises:
            ConfigError: when it is another.
        """
        if wanted_s not in (None, self.lease_s):
            raise ConfigError(
                f"lease_s is {wanted_s:g} in the configuration and {self.lease_s:g} in the store, which keeps the one "
                "that it was created with: remove lease_s from the configuration, or make a new store"
            )

    def check_hash_key(self, fixed_leaves: Mapping[str, str], hash_key: HashKey) -> None:
        """Distinguish a wrong hash key from a corrupt object.

        Args:
            fixed_leaves: of a commit of this store.
            hash_key: the key to check.

        Raises:
            KeysError: when the commit was written under another key.
        """
        if self.leaves(hash_key) != dict(fixed_leaves):
            raise KeysError("the hash key is not the one that this store's log was written under")


def default_lease_s(store: Store) -> float:
    """The lease of a new store: longer in a bucket, which may take a second for what a disk answers at once."""
    return _LEASE_IN_A_BUCKET_S if store.uri.startswith(SCHEME) else _LEASE_IN_A_FOLDER_S


def create_manifest(
    store: Store,
    config: StateConfig,
    public: Mapping[str, str],
    public_digests: Mapping[str, str],
    fingerprint: Mapping[str, str],
    lease_s: float,
) -> Manifest:
    """Create the store.

    Raises:
        StoreFormatError: when there is one already.
    """
    manifest = Manifest(uuid.uuid4().hex[:12], config, public, public_digests, fingerprint, lease_s)
    try:
        store.put_if_absent(MANIFEST, _to_bytes(manifest))
    except LostRaceError as error:
        raise StoreFormatError(f"{store.uri} is already a store") from error
    return manifest


def load_manifest(store: Store, *, restoring: bool = False) -> Manifest:
    """Read ``store.json``.

    Args:
        store: to read from.
        restoring: read it even while the store is being restored.

    Raises:
        StoreFormatError: when there is none, or it has another format version.
        UnfinishedRestoreError: when a restore of the store has begun and is not finished.
    """
    if not restoring and store.exists(RESTORING):
        raise UnfinishedRestoreError(f"{store.uri} is not fully restored: run `lmeraser restore` on it again")
    switching = store.exists(SWITCHING)
    manifest = _read_manifest(store)
    return _after_switch(store, manifest) if switching else manifest


def draft_of(store: Store, generation: str) -> Store:
    """The draft of a generation that is being made: a store of its own in a folder of the store."""
    return store.below(generation_folder(generation))


def promoted(store: Store, live: Manifest, generation: str) -> Manifest:
    """The manifest of a generation that was a draft, as that of the store; ``live`` is the one before it."""
    folder = generation_folder(generation)
    draft = _read_manifest(draft_of(store, generation))
    public = {part: f"{folder}{name}" for part, name in draft.public.items()}
    return replace(draft, store_id=live.store_id, public=public, lease_s=live.lease_s, generation=generation)


def replace_manifest(store: Store, manifest: Manifest) -> None:
    """Make this the store's manifest."""
    store.put(MANIFEST, _to_bytes(manifest))


def renew_format(store: Store, fence: Fence) -> None:
    """Give a store of an older format the newest: versions that read no newer one must refuse what is written now.

    Args:
        store: the store.
        fence: raises once another coordinator has taken over.
    """
    value = json.loads(store.get(MANIFEST))
    if value["format"] in OLDER_FORMATS:
        fence()
        store.put(MANIFEST, canonical_json({**value, "format": FORMAT}))


def _after_switch(store: Store, manifest: Manifest) -> Manifest:
    """The manifest of the generation whose commit is the newest, while the switch to it is not finished."""
    commit = CommitReader(store).advance()
    if commit is None or commit.generation == manifest.generation:
        return manifest
    try:
        return promoted(store, manifest, commit.generation)
    except StoreFormatError:
        # The switch has been finished meanwhile.
        return _read_manifest(store)


def _to_bytes(manifest: Manifest) -> bytes:
    return canonical_json({"format": FORMAT, **asdict(manifest)})


def _read_manifest(store: Store) -> Manifest:
    try:
        value = json.loads(store.get(MANIFEST))
    except ObjectMissingError as error:
        raise StoreFormatError(
            f"{store.uri} is not a store: {MANIFEST} is missing (`lmeraser ingest` creates a store)"
        ) from error
    except ValueError as error:
        raise StoreFormatError(f"{store.uri}: {MANIFEST} cannot be read: {error}") from error
    number = value.pop("format", None) if isinstance(value, dict) else None
    if number not in (*OLDER_FORMATS, FORMAT) or isinstance(number, bool):
        raise StoreFormatError(
            f"{store.uri} was written in format {number!r}; this version reads formats {OLDER_FORMATS[0]} to {FORMAT}"
        )
    try:
        manifest = Manifest(**{**value, "config": state_config_from_json(value["config"])})
    except (KeyError, TypeError) as error:
        raise StoreFormatError(f"{store.uri}: {MANIFEST} is malformed: {error!r}") from error
    if not isinstance(manifest.lease_s, int | float) or not 0 < manifest.lease_s < float("inf"):
        raise StoreFormatError(
            f"{store.uri}: {MANIFEST} has the lease_s {manifest.lease_s!r}; allowed are seconds above 0"
        )
    return manifest


def load_part(store: Store, manifest: Manifest, part: str) -> dict[str, np.ndarray]:
    """The tensors of one public artifact ("backbone", "partition", "features" or "prompt").

    Raises:
        ObjectCorruptError: when they do not have their digest.
    """
    name = manifest.public[part]
    tensors = tensors_from_bytes(store.get(name), name)
    if tensor_digest(tensors) != manifest.public_digests[part]:
        raise ObjectCorruptError(f"{name} does not have the digest that {store.uri} was created with")
    return tensors
