"""What a piece of work costs: rows through the backbone, arithmetic, seconds and memory.

Rows and arithmetic are counted by hooks on the backbone's blocks, so a method cannot state less than it does. Rows that
only fill up a batch are counted too, because they are computed (decision 26).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from lmeraser.learning.backbone import Backbone, VitBackbone

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """The cost of a piece of work.

    Attributes:
        forward_row_passes: rows that went forward through the whole backbone; half of the blocks count as one half.
        backward_row_passes: rows whose gradient went back through the whole backbone.
        flops: floating point operations of the blocks, counted by torch's FlopCounterMode for the actual shapes; heads
            and the patch embedding, less than one in a hundred, are left out.
        wall_s: seconds by the clock.
        processor_s: seconds of all processors together, which other work on the machine does not affect.
        peak_bytes: peak memory of this process since it started: compare only methods that ran in separate processes.
    """

    forward_row_passes: float = 0.0
    backward_row_passes: float = 0.0
    flops: float = 0.0
    wall_s: float = 0.0
    processor_s: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        """The cost of both: everything adds up except memory, of which the larger peak counts."""
        added = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return Cost(**{**added, "peak_bytes": max(self.peak_bytes, other.peak_bytes)})

    @property
    def row_passes(self) -> float:
        """Forward and backward together. With frozen weights a row costs about the same in both directions."""
        return self.forward_row_passes + self.backward_row_passes


def measured(backbone: Backbone, work: Callable[[], T]) -> tuple[T, Cost]:
    """Do the work; gives its result and its cost.

    Args:
        backbone: counted are its passes, including those of other work at the same time.
        work: anything that calls it.
    """
    count = _Count(_blocks(backbone))
    began, began_processor = time.perf_counter(), time.process_time()
    try:
        result = work()
    finally:
        wall_s, processor_s = time.perf_counter() - began, time.process_time() - began_processor
        count.stop()
    forward, backward = (rows / len(count.blocks) for rows in (count.forward_rows, count.backward_rows))
    return result, Cost(forward, backward, count.flops, wall_s, processor_s, _peak())


class _Count:
    """Hooks on blocks that count rows and operations."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        self.blocks = blocks
        self.forward_rows = 0
        self.backward_rows = 0
        self.flops = 0.0
        self._known: dict[tuple[int, torch.Size], tuple[int, int]] = {}
        self._hooks = [block.register_forward_hook(self._count_forward) for block in blocks]

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count_forward(self, block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        value = inputs[0]
        key = (id(block), value.shape)
        if key not in self._known:
            self._known[key] = _flops(block, value)
        forward, backward = self._known[key]
        self.forward_rows += len(value)
        self.flops += forward
        if output.requires_grad:

            def count_backward(_: Tensor, rows: int = len(value)) -> None:
                self.backward_rows += rows
                self.flops += backward

            output.register_hook(count_backward)


def _blocks(backbone: Backbone) -> list[nn.Module]:
    """Parts of about equal cost that every row passes once."""
    if isinstance(backbone, VitBackbone):
        return list(backbone.vit.blocks)
    return [child for child in backbone.model.children() if any(True for _ in child.parameters())]


def _flops(block: nn.Module, value: Tensor) -> tuple[int, int]:
    """Operations forward, and backward to the block's input; the weights are frozen."""
    with torch.inference_mode(False), torch.enable_grad():
        value = torch.zeros_like(value).requires_grad_()
        with FlopCounterMode(display=False, custom_mapping=_ATTENTION_ON_CPU) as forward:
            output = block.forward(value)
        with FlopCounterMode(display=False, custom_mapping=_ATTENTION_ON_CPU) as backward:
            torch.autograd.grad(output.sum(), value)
    return forward.get_total_flops(), backward.get_total_flops()


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)  # type: ignore[no-any-return]


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-any-return]


# torch counts only the attention kernels of GPUs.
_ATTENTION_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
