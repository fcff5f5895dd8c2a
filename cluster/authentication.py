"""Ray's token authentication, on wherever this project starts Ray or connects to it.

Ray demands the token on its own ports (control, dashboard, jobs, Ray client). Serve's HTTP port has API keys instead.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ray._raylet import Config  # type: ignore[attr-defined]  # its stub leaves it out

from lmeraser.errors import ConfigError, LMEraserError
from lmeraser.store.location import local_path

MODE_VARIABLE = "RAY_AUTH_MODE"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"
_DEFAULT = "~/.ray/auth_token"
_ELSEWHERE = f"set HOME to a folder that can be written, or {PATH_VARIABLE} to a file in one"


def authenticate() -> None:
    """Have this process show Ray's token, and a Ray that it starts demand it.

    A missing token is made here, readable by its owner alone, because Ray makes it readable by everyone; one that
    others can read is tightened. Where ``RAY_AUTH_MODE`` says something else than "token", nothing is done.

    Raises:
        ConfigError: when it cannot be told where the token is.
        LMEraserError: when it can neither be read nor made there.
    """
    if os.environ.get(MODE_VARIABLE, "token").lower() != "token":
        return
    if not os.environ.get(TOKEN_VARIABLE):
        path = token_path()
        if PATH_VARIABLE in os.environ or "HOME" not in os.environ:
            # Ray expands no "~", and asks HOME alone for the home folder.
            os.environ[PATH_VARIABLE] = str(path)
        try:
            if not path.exists():
                _make_token(path)
            elif path.stat().st_mode & 0o077:
                path.chmod(0o600)
            path.read_bytes()
        except OSError as error:
            raise LMEraserError(f"cannot make or read Ray's token {path}: {error.strerror}; {_ELSEWHERE}") from error
    os.environ[MODE_VARIABLE] = "token"
    # Ray reads the variable when it is imported, and by itself turns to a token only where it looks for an address.
    Config.initialize("")


def token_path() -> Path:
    """The file that Ray takes its token from: ``$RAY_AUTH_TOKEN_PATH``, else ``~/.ray/auth_token``.

    Raises:
        ConfigError: when the home folder is not known.
    """
    try:
        return local_path(os.environ.get(PATH_VARIABLE) or _DEFAULT)
    except ConfigError as error:
        raise ConfigError(f"cannot tell where Ray's token is: {_ELSEWHERE}") from error


def _make_token(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        # Never in place of a token that another process has made meanwhile.
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()
