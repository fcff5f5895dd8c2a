"""The tree of exceptions in the module's docstring is the tree of the classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from lmeraser import errors


def drawn(text: str) -> Iterator[tuple[str, str]]:
    """(class, base) for each line of the drawing."""
    bases: list[str] = []
    for line in text.splitlines():
        name = line.strip("│├└─ ")
        if not name.endswith("Error"):
            continue
        depth = (len(line) - len(name)) // 4
        bases[depth:] = [name]
        yield name, bases[depth - 1] if depth else "Exception"


def test_the_docstring_draws_every_exception_under_its_base() -> None:
    classes = inspect.getmembers(errors, inspect.isclass)
    defined = {name: value.__bases__[0].__name__ for name, value in classes if value.__module__ == errors.__name__}
    assert errors.__doc__ is not None
    assert dict(drawn(errors.__doc__)) == defined


def test_every_exception_says_when_it_is_raised() -> None:
    for name, value in inspect.getmembers(errors, inspect.isclass):
        if name != "LMEraserError":
            assert (value.__doc__ or "").startswith("Raised "), name
