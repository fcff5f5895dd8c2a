"""Proof that rows are gone: recomputation, verification, residue scans, receipts and the mirror of the log."""
