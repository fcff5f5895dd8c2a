"""The committed description of the HTTP surface matches the code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from direct_service import Service
from small_system import System

FILE = Path(__file__).parent.parent.parent / "docs" / "openapi.json"


def test_the_openapi_document_matches_the_committed_one(system_of: Callable[..., System]) -> None:
    document = Service(system_of()).app.openapi()
    if "LMERASER_WRITE_OPENAPI" in os.environ:
        FILE.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    assert document == json.loads(FILE.read_text()), "run `make openapi`, and review what changed"
