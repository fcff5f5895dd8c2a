"""The nearest anchor by a matrix product, where the images are, with the results of the state's own search.

The state's search (AnchorIndex) pads every batch to 64 rows, so that the bits of a row do not depend on the others. For
the few images of a pass that is up to eight times the work, and it runs on the CPU only.

Legend: N images, A anchors, R routing features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lmeraser.learning.anchors import AnchorIndex

# Bounds the memory: of each image, one float32 per anchor.
_ROWS = 64


class NearestAnchor:
    """Finds the anchors that AnchorIndex.nearest finds.

    A distance d of two vectors x, y of R float32 features is computed as ``|x|² + |y|² - 2 x·y`` by both, and each is
    within ``E = γ (|x| + |y|)²`` of the exact one, with ``γ = n u / (1 - n u)``, n = R + 8 and u = 2⁻²⁴, in whatever
    order the products are added (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). So where
    the two least distances differ by more than 4 E, both searches find the same anchor. Other images, among them those
    between equal anchors, are left to AnchorIndex. On a GPU this needs full float32, which is torch's default.
    """

    def __init__(self, index: AnchorIndex, device: torch.device) -> None:
        anchors_AR = torch.from_numpy(index.anchors_AR)
        norms_A = torch.linalg.vector_norm(anchors_AR.double(), dim=1)
        terms = (anchors_AR.shape[1] + 8) * 2.0**-24
        self._index = index
        self._anchors_RA = anchors_AR.to(device).T
        self._half_squares_A = (norms_A**2 / 2).float().to(device)
        self._greatest_norm = float(norms_A.max())
        self._gamma = terms / (1 - terms)

    def __call__(self, routing_NR: Tensor) -> np.ndarray:
        """The nearest anchor of each image, int32 [N]; the lowest id where several are equally near."""
        if len(self._half_squares_A) == 1:
            return np.zeros(len(routing_NR), np.int32)
        with torch.autocast(routing_NR.device.type, enabled=False):
            parts = [self._least(part_NR) for part_NR in routing_NR.float().split(_ROWS)]
        anchors_N, sure_N = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        if not sure_N.all():
            anchors_N[~sure_N] = self._index.nearest(routing_NR.float().cpu().numpy()[~sure_N])
        return anchors_N

    def _least(self, routing_NR: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest anchors, int32 [N], and whether they are so beyond the errors of both searches, bool [N]."""
        # Half of the distance, without what is the same for all anchors.
        halves_NA = torch.addmm(self._half_squares_A, routing_NR, self._anchors_RA, alpha=-1)
        least_N2, anchors_N2 = halves_NA.topk(2, dim=1, largest=False)
        error_N = self._gamma * (torch.linalg.vector_norm(routing_NR, dim=1) + self._greatest_norm) ** 2
        return anchors_N2[:, 0].int(), least_N2[:, 1] - least_N2[:, 0] > 2 * error_N
