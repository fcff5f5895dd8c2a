"""timm, imported without PyTorch's compiler (decision 54). Import timm's models from here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

# torch.compiler imports the compiler by this name when it is asked for the first time.

__all__ = ["Block", "Mlp", "VisionTransformer", "timm"]

_COMPILER, _COMPILER_UTILS = "torch._dynamo", "torch._dynamo.utils"
_Function = TypeVar("_Function", bound=Callable[..., object])


def _as_it_is(function: _Function, *_: object, **__: object) -> _Function:
    return function


def _never(*_: object) -> bool:
    return False


@contextmanager
def _without_compiler() -> Iterator[None]:
    """A stand-in takes the place of the compiler inside the block, unless it is imported already.

    timm and torchvision ask it at their import to leave a few functions alone, none of which a backbone has.
    """
    if _COMPILER in sys.modules:
        yield
        return
    compiler, utilities = ModuleType(_COMPILER), ModuleType(_COMPILER_UTILS)
    vars(compiler).update(disable=_as_it_is, allow_in_graph=_as_it_is, utils=utilities)
    vars(utilities).update(is_compile_supported=_never)
    sys.modules.update({_COMPILER: compiler, _COMPILER_UTILS: utilities})
    try:
        yield
    finally:
        del sys.modules[_COMPILER], sys.modules[_COMPILER_UTILS]


with _without_compiler():
    import timm
    from timm.layers.mlp import Mlp
    from timm.models.vision_transformer import Block, VisionTransformer
