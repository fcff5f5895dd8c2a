"""timm is imported without PyTorch's compiler, which works all the same where it is used."""

import subprocess
import sys

import pytest

_COMPILES = """
import sys
from lmeraser.learning.timm_models import timm
assert "torch._dynamo" not in sys.modules
import torch
model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=2).eval()
seen = []
def backend(graph, _inputs):
    seen.append(graph)
    return graph.forward
image = torch.rand(1, 3, 32, 32)
with torch.no_grad():
    assert torch.equal(torch.compile(model, backend=backend)(image), model(image))
assert seen and sys.modules["torch._dynamo"].__file__
"""


@pytest.mark.slow
def test_the_compiler_is_imported_only_by_what_compiles() -> None:
    subprocess.run([sys.executable, "-c", _COMPILES], check=True)
