"""Prints the figures of one measurement of a store as JSON: the program of a process of its own.

python -m benchmarks.lib.one_measurement NAME FOLDER
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from benchmarks.lib.numbered_stores import NumberedStore

# By module, so that a measurement of memory imports no more than it needs.
_MODULES = {
    "size_deletions": ("start", "one", "thousand", "requests", "tenth", "log"),
    "size_service": ("bulk", "replica", "idle"),
}
NAMES = tuple(name for names in _MODULES.values() for name in names)


def main() -> None:
    """Measure, and print."""
    name, folder = sys.argv[1:]
    module = next(module for module, names in _MODULES.items() if name in names)
    measure = getattr(importlib.import_module(f"benchmarks.lib.{module}"), name)
    print(json.dumps(measure(NumberedStore(Path(folder)))))


if __name__ == "__main__":
    main()
