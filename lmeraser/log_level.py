"""What the processes of the service log."""

from __future__ import annotations

import logging
import os

VARIABLE = "LMERASER_LOG_LEVEL"
_PACKAGES = ("lmeraser", "actors", "serving", "cluster")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_log = logging.getLogger(__name__)


def set_log_level() -> None:
    """Have this project's packages log from the level on that the environment names, WARNING by default.

    Ray's workers write errors only (``ray.LoggingConfig``), but the end of an owner is worth a line. Other packages log
    what they did before.
    """
    named = os.environ.get(VARIABLE, "") or "WARNING"
    level = named.upper() if named.upper() in _LEVELS else "WARNING"
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level)
    for handler in logging.getLogger().handlers:
        handler.setLevel(min(handler.level, logging.getLevelNamesMapping()[level]))
    if level != named.upper():
        _log.warning("%s is %r; allowed are %s. WARNING is used", VARIABLE, named, ", ".join(_LEVELS))
