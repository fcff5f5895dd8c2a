"""From which level on the processes log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from lmeraser.log_level import VARIABLE, set_log_level

PACKAGES = ("lmeraser", "actors", "serving", "cluster")


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    before = {name: logging.getLogger(name).level for name in PACKAGES}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize(("named", "level"), [(None, "WARNING"), ("", "WARNING"), ("info", "INFO"), ("DEBUG", "DEBUG")])
def test_the_environment_names_the_level(monkeypatch: pytest.MonkeyPatch, named: str | None, level: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if named is not None:
        monkeypatch.setenv(VARIABLE, named)
    set_log_level()
    assert {logging.getLogger(f"{name}.part").getEffectiveLevel() for name in PACKAGES} == {logging.getLevelName(level)}


def test_a_line_passes_the_handler_of_a_worker_that_writes_errors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setLevel(logging.ERROR)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    monkeypatch.setenv(VARIABLE, "INFO")
    set_log_level()
    logging.getLogger("actors.part").info("a line")
    logging.getLogger("actors.part").debug("a detail")
    logging.getLogger("elsewhere").warning("of another package")
    assert written.getvalue() == "a line\n"


def test_a_level_that_there_is_not_is_named_and_warnings_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, "loud")
    set_log_level()
    assert logging.getLogger("actors").level == logging.WARNING
    assert caplog.messages == [
        "LMERASER_LOG_LEVEL is 'loud'; allowed are DEBUG, INFO, WARNING, ERROR, CRITICAL. WARNING is used"
    ]
