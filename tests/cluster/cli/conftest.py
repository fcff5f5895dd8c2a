"""The command line for tests."""

from __future__ import annotations

import sys

import pytest
from command_line import Ran, Run

from cluster.cli import app, output


@pytest.fixture
def lmeraser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``lmeraser`` in this process; an exception that is not an exit, so a traceback, goes to the test."""
    monkeypatch.delenv("LMERASER_HASH_KEY", raising=False)
    monkeypatch.delenv("LMERASER_KEYS", raising=False)

    def run(*arguments: object) -> Ran:
        stdout = sys.stdout
        monkeypatch.setattr(sys, "argv", ["lmeraser", *map(str, arguments)])
        # Results go to the stdout that was there when the module was loaded.
        monkeypatch.setattr(output, "_stdout", stdout)
        try:
            with pytest.raises(SystemExit) as ended:
                app.main()
        finally:
            # What libraries print, a command sends to stderr.
            sys.stdout = stdout
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return run
