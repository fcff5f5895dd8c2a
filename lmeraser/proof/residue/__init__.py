"""Is anything of erased rows left? A scan of the store and of other folders, byte by byte."""

from lmeraser.proof.residue.scan import NOT_LOOKED_FOR, Finding, Residue, scan

__all__ = ["NOT_LOOKED_FOR", "Finding", "Residue", "scan"]
