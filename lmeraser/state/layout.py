"""Where things are in a store: the names of its objects, and of the parts that the state root is made of.

::

    store.json                            the manifest; only the switch of a rebuild replaces it
    restoring.json                        there while a restore is not finished
    switching.json                        there while a rebuild switches to its generation
    damaged.txt                           there while the next start is to look for damage
    public/<part>-<digest>.safetensors    public artifacts; public/signing-key.pem is the key that checks receipts
    log/<number>.json                     records
    checkpoints/<number>.json             the newest summaries of the log up to a record
    archive/<number>.json                 deletions that were completed since the archive before
    erased/<number>.hashes                keyed hashes of what they named
    receipts/<deletion>/<unique>.json     receipts; the log names the valid one
    incoming/<ingest>/…                   rows of an ingest that is not committed yet
    rows/<cluster>/<unique>.parquet       some rows of a prompt cluster: a segment
    rows/<cluster>/<unique>.ids           the segment's index: no image, no id in clear
    prompts/<cluster>/<unique>.safetensors
    prompted/<cluster>/<unique>.safetensors   prompted features of a segment's rows
    removed/<cluster>/<unique>.safetensors    features of removed rows, until the commit that leaves them out
    heads/<unique>.safetensors            both solved heads
    heads/<unique>.sums.safetensors       the sums that they are solved from, which only a coordinator reads
    generations/<id>/…                    another generation: while it is a draft, a store of its own

What is computed from rows lies at the top, or in the folder of its generation (design 7): ``public/``, ``rows/``,
``prompts/``, ``prompted/``, ``removed/`` and ``heads/``. Everything else is of the store, whatever its generation.

A part is what a leaf of the state root is a digest of, such as ``rows/<cluster>``. A part keeps its name when its
object is written again under another one.
"""

from __future__ import annotations

import uuid

MANIFEST = "store.json"
RESTORING = "restoring.json"
SWITCHING = "switching.json"
# In a draft: which live labels have another name.
RENAMED = "renamed.json"
DAMAGED = "damaged.txt"
PUBLIC_KEY = "public/signing-key.pem"
LOG = "log/"
CHECKPOINTS = "checkpoints/"
ARCHIVE = "archive/"
ERASED = "erased/"
RECEIPTS = "receipts/"
INCOMING = "incoming/"
HEADS = "heads/"
PUBLIC_PARTS = ("backbone", "partition", "features", "prompt")
PUBLIC_ARTIFACTS = tuple(f"public/{part}-" for part in PUBLIC_PARTS)
GENERATIONS = "generations/"
CLUSTER_FOLDERS = ("rows/", "prompts/", "prompted/", "removed/")
# Folders whose objects count only while the newest commit names them.
DATA_FOLDERS = (*CLUSTER_FOLDERS, HEADS, INCOMING)
_ROWS = ".parquet"
_INDEX = ".ids"

HEADS_PART = "heads"
SUMS_PART = "sums"
# The rows of one object of an ingest. They are no part of the state yet, but their digest is keyed in the same way.
INCOMING_PART = "incoming"


def generation_folder(generation: str) -> str:
    """The folder of what is computed from rows: that of a generation, or the top for the first one, which is ""."""
    return f"{GENERATIONS}{generation}/" if generation else ""


def data_folders(folder: str) -> tuple[str, ...]:
    """The folders whose objects count only while the newest commit, of the generation in ``folder``, names them."""
    return (*(f"{folder}{each}" for each in DATA_FOLDERS if each != INCOMING), INCOMING)


def rows_part(cluster: str) -> str:
    """The part of the state that is the rows of a cluster."""
    return f"rows/{cluster}"


def prompt_part(cluster: str) -> str:
    """The part of the state that is the prompt of a cluster."""
    return f"prompt/{cluster}"


def prompted_part(cluster: str) -> str:
    """The part of the state that is the prompted features of a cluster's rows."""
    return f"prompted/{cluster}"


def segment_part(cluster: str) -> str:
    """What the digest of a segment of this cluster is keyed for. It is no part of the state."""
    return f"segment/{cluster}"


def segment_rows_part(cluster: str) -> str:
    """What the digest of the object of a segment's rows is keyed for. It is no part of the state."""
    return f"segment rows/{cluster}"


def features_part(cluster: str) -> str:
    """What the digest of a segment's prompted features is keyed for. It is no part of the state."""
    return f"features/{cluster}"


def coreset_part(cluster: str) -> str:
    """What the digest of the rows that a prompt is tuned on is keyed for. It is no part of the state."""
    return f"coreset/{cluster}"


def removed_part(cluster: str) -> str:
    """What the digest of removed rows' features is keyed for. It is no part of the state."""
    return f"removed/{cluster}"


def public_part(artifact: str) -> str:
    """The part of the state that is a public artifact."""
    return f"public/{artifact}"


def new_rows_object(folder: str, cluster: str) -> str:
    """A name for a segment's rows that is never used again; ``folder`` is that of the generation, here and below."""
    return _unique(f"{folder}rows/{cluster}", _ROWS)


def index_object(rows_object: str) -> str:
    """The object of the index of a segment, whose rows are in this object."""
    return f"{rows_object.removesuffix(_ROWS)}{_INDEX}"


def new_prompt_object(folder: str, cluster: str) -> str:
    """A name for a cluster's prompt that is never used again."""
    return _unique(f"{folder}prompts/{cluster}", ".safetensors")


def new_prompted_object(folder: str, cluster: str) -> str:
    """A name for a segment's prompted features that is never used again."""
    return _unique(f"{folder}prompted/{cluster}", ".safetensors")


def new_removed_object(folder: str, cluster: str) -> str:
    """A name for removed rows' features that is never used again."""
    return _unique(f"{folder}removed/{cluster}", ".safetensors")


def new_heads_object(folder: str) -> str:
    """A name for the solved heads that is never used again."""
    return _unique(f"{folder}heads", ".safetensors")


def new_sums_object(folder: str) -> str:
    """A name for the sums behind the heads that is never used again."""
    return _unique(f"{folder}heads", ".sums.safetensors")


def new_receipt_object(deletion_id: str) -> str:
    """A name for a receipt of this deletion that is never used again."""
    return _unique(f"{RECEIPTS}{deletion_id}", ".json")


def new_incoming_prefix() -> str:
    """A prefix for the rows of one ingest that is never used again."""
    return f"{INCOMING}{uuid.uuid4().hex}/"


def record_object(number: int) -> str:
    """The object of a log record."""
    return f"{LOG}{number:010d}.json"


def checkpoint_object(number: int) -> str:
    """The object of the checkpoint at a log record."""
    return f"{CHECKPOINTS}{number:010d}.json"


def archive_object(number: int) -> str:
    """The object of the completed deletions that the checkpoint at a log record leaves out."""
    return f"{ARCHIVE}{number:010d}.json"


def erased_object(number: int) -> str:
    """The object of the keyed hashes that the checkpoint at a log record leaves out."""
    return f"{ERASED}{number:010d}.hashes"


def receipts_below(deletion_id: str) -> str:
    """The prefix of a deletion's receipts."""
    return f"{RECEIPTS}{deletion_id}/"


def public_object(artifact: str, digest: str) -> str:
    """The object of a public artifact with this digest."""
    return f"public/{artifact}-{digest[:16]}.safetensors"


def _unique(folder: str, suffix: str) -> str:
    return f"{folder}/{uuid.uuid4().hex}{suffix}"
