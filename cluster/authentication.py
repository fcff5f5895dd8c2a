"""Ray's token authentication, on wherever this project starts Ray or connects to it.

Ray demands the token on its own ports (control, dashboard, jobs, Ray client). Serve's HTTP port has API keys instead.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ray._raylet import Config  # type: ignore[attr-defined]  # its stub leaves it out

MODE_VARIABLE = "RAY_AUTH_MODE"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"


def authenticate() -> None:
    """Have this process show Ray's token, and a Ray that it starts demand it.

    A missing token is made here, readable by its owner alone, because Ray makes it readable by everyone; one that
    others can read is tightened. Where ``RAY_AUTH_MODE`` says something else than "token", nothing is done.
    """
    if os.environ.get(MODE_VARIABLE, "token").lower() != "token":
        return
    if not os.environ.get(TOKEN_VARIABLE):
        path = token_path()
        if not path.exists():
            _make_token(path)
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)
    os.environ[MODE_VARIABLE] = "token"
    # Ray reads the variable when it is imported, and by itself turns to a token only where it looks for an address.
    Config.initialize("")


def token_path() -> Path:
    """The file that Ray takes its token from: ``$RAY_AUTH_TOKEN_PATH``, else ``~/.ray/auth_token``."""
    return Path(os.environ.get(PATH_VARIABLE) or Path.home() / ".ray" / "auth_token")


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
