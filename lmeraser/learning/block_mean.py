"""The mean patch token after one block, for less than the block costs.

The last linear layer of a block's MLP, and its layer scale, are linear: the mean of their outputs is their output for
the mean. So they run once for an image instead of once for each patch, which saves 28 % of the multiplications of
DeiT-Tiny at 224 px.

Legend: N rows, S tokens, D width, E hidden features of the MLP.
"""

from __future__ import annotations

from torch import Tensor, nn

from lmeraser.learning.timm_models import Block, Mlp


def mean_patch_after(block: nn.Module, tokens_NSD: Tensor, prefix_tokens: int) -> Tensor:
    """The mean patch token, [N, D], after a block of a Vision Transformer; of a kind that is not known, it runs whole.

    Args:
        block: in evaluation mode.
        tokens_NSD: its input.
        prefix_tokens: how many tokens come before those of the patches.
    """
    # Exactly these classes: those derived from them may compute something else.
    if type(block) is not Block or type(block.mlp) is not Mlp:
        whole_ND: Tensor = block(tokens_NSD)[:, prefix_tokens:].mean(dim=1)
        return whole_ND
    tokens_NSD = tokens_NSD + block.ls1(block.attn(block.norm1(tokens_NSD)))
    patches_NSD, mlp = tokens_NSD[:, prefix_tokens:], block.mlp
    hidden_NSE = mlp.norm(mlp.act(mlp.fc1(block.norm2(patches_NSD))))
    mean_ND: Tensor = patches_NSD.mean(dim=1) + block.ls2(mlp.fc2(hidden_NSE.mean(dim=1)))
    return mean_ND
