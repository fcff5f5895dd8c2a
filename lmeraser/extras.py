"""Optional dependencies: an import that fails for want of an extra names the extra to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

from lmeraser.errors import MissingExtraError


@contextmanager
def needs_extra(name: Literal["server", "s3", "demo", "audit"]) -> Iterator[None]:
    """Turn the failed import of a package that is not installed into an error that names the extra.

    Args:
        name: the extra of pyproject.toml that holds what the block imports.

    Raises:
        MissingExtraError: when the block imports a package that is not installed. Other failed imports, such as that of
            a missing module of an installed package, are raised as they are.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or find_spec(package) is not None:
            raise
        raise MissingExtraError(
            f"this needs the package {package!r}, which is not installed; "
            f"install it with: pip install 'lmeraser[{name}]'"
        ) from error
