"""Ray's token authentication, switched on wherever this project starts Ray or connects to it.

Ray requires the token on its own ports (control, dashboard, jobs, Ray client). Serve's HTTP port has API keys instead.
``Config.initialize`` is private to Ray: it is a reason why the minor version of Ray is pinned.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ray._raylet import Config  # type: ignore[attr-defined]  # missing from its stub

from lmeraser.errors import ConfigError, LMEraserError
from lmeraser.store.location import local_path

MODE_VARIABLE = "RAY_AUTH_MODE"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"
_DEFAULT = "~/.ray/auth_token"
_ELSEWHERE = f"set HOME to a writable folder, or {PATH_VARIABLE} to a file in one"


def authenticate() -> None:
    """Make this process present Ray's token, and a Ray that it starts require it.

    A missing token is made here, readable by its owner only, because Ray would make it readable by everyone. The mode
    of a token that others can read is tightened. Does nothing if ``RAY_AUTH_MODE`` is set to another mode than "token".

    Raises:
        ConfigError: when the path of the token is unknown.
        LMEraserError: when the token can neither be read nor made there.
    """
    if os.environ.get(MODE_VARIABLE, "token").lower() != "token":
        return
    if not os.environ.get(TOKEN_VARIABLE):
        path = token_path()
        if PATH_VARIABLE in os.environ or "HOME" not in os.environ:
            # Ray does not expand "~", and finds the home folder through HOME only.
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
    # Ray reads the variable when it is imported, and reads it again by itself only while it looks for an address.
    Config.initialize("")


def token_path() -> Path:
    """The file from which Ray reads its token: ``$RAY_AUTH_TOKEN_PATH``, else ``~/.ray/auth_token``.

    Raises:
        ConfigError: when the home folder is unknown.
    """
    try:
        return local_path(os.environ.get(PATH_VARIABLE) or _DEFAULT)
    except ConfigError as error:
        raise ConfigError(f"cannot determine where Ray's token is: {_ELSEWHERE}") from error


def _make_token(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        # Never replaces a token that another process has made in the meantime.
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()
