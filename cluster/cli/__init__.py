"""The command line: one file for each noun."""

from cluster.cli.app import main

__all__ = ["main"]
