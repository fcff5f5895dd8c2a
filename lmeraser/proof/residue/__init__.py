"""A byte-by-byte scan of the store and of other folders for remains of erased rows."""

from lmeraser.proof.residue.scan import NOT_LOOKED_FOR, Finding, Residue, scan

__all__ = ["NOT_LOOKED_FOR", "Finding", "Residue", "scan"]
