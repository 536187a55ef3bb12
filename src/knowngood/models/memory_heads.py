"""Heads that remember good parts: a new one is as abnormal as it is far from what is remembered."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CROWD = 9  # remembered patches that weigh an image's score (b of the paper)
NEAREST = 5  # which nearest remembered photograph's distance is the score
SMOOTHING = 4.0  # deviation of the Gaussian that smooths a map, in pixels of the network's input
_AT_ONCE = 1024  # remembered rows compared at a time: bounds memory, and stays one graph when exported


def patch_maps(stages: list[Tensor]) -> Tensor:
    """Returns one locally aware feature vector a patch: each stage averaged over 3x3, brought to one size, joined.

    Args:
        stages: Maps (B, C_i, H_i, W_i) of the middle stages, the finest first.

    Returns:
        (B, sum C_i, H_0, W_0) float32.

    Reference:
        Roth et al. 2022, equations 1 to 3. Ours: the plain average of the 3x3 neighbours that exist, without the
        adaptive pooling of channels to 1,024.
    """
    pooled = [functional.avg_pool2d(s.float(), 3, stride=1, padding=1, count_include_pad=False) for s in stages]
    size = pooled[0].shape[2:]
    rest = [functional.interpolate(p, size, mode="bilinear", align_corners=False) for p in pooled[1:]]
    return torch.cat([pooled[0], *rest], dim=1)


def smooth_maps(distances: Tensor, height: int, width: int) -> Tensor:
    """Returns patch distances (B, h, w) at the network's size, smoothed: (B, height, width), same unit.

    Reference:
        Roth et al. 2022, section 3.3: bilinear upsampling, Gaussian of deviation 4. Borders are repeated.
    """
    maps = functional.interpolate(distances[:, None], (height, width), mode="bilinear", align_corners=False)
    reach = int(3 * SMOOTHING)
    steps = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-0.5 * (steps / SMOOTHING).square())
    kernel = kernel / kernel.sum()
    maps = functional.pad(maps, (reach, reach, reach, reach), mode="replicate")
    maps = functional.conv2d(maps, kernel.view(1, 1, 1, -1))
    smooth: Tensor = functional.conv2d(maps, kernel.view(1, 1, -1, 1))[:, 0]
    return smooth


class MemoryHead(nn.Module):
    """Remembered rows and exact Euclidean distances to them, as plain matrix products.

    Args:
        features: Length D of a row.
        rows: Number M of remembered rows.
    """

    centre: Tensor
    memory: Tensor
    level: Tensor

    def __init__(self, features: int, rows: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))  # subtracted from both sides: small norms round less
        self.register_buffer("memory", torch.zeros(rows, features))
        self.register_buffer("level", torch.tensor(torch.inf))  # a map is conspicuous above it

    def remember(self, rows: Tensor) -> None:
        """Takes the rows (M, D) to remember."""
        self.centre.copy_(rows.double().mean(0))
        self.memory.copy_(rows - self.centre)

    def squared(self, rows: Tensor, memory: Tensor) -> Tensor:
        """Returns squared distances of centred rows (N, D) to a piece of the memory (K, D): (N, K)."""
        far = memory.square().sum(1) - 2 * rows @ memory.T
        return (far + rows.square().sum(1, keepdim=True)).clamp_min(0)

    def pieces(self) -> list[Tensor]:
        """Returns the memory in pieces of bounded size."""
        return list(torch.split(self.memory, _AT_ONCE))


class PatchHead(MemoryHead):
    """PatchCore's score: the largest distance of a patch to its nearest remembered one, weighed by how lonely that is.

    margin = w d: d the distance of the strangest patch to its nearest remembered patch m, and
    w = 1 - 1 / sum_b exp(d_b - d) over the `CROWD` remembered patches nearest to m. Any number from 0, in the unit
    of the features; higher is more abnormal.

    Reference:
        Roth et al. 2022, equations 5 to 7.
    """

    crowd: Tensor

    def __init__(self, features: int, rows: int) -> None:
        super().__init__(features, rows)
        self.register_buffer("crowd", torch.zeros(rows, min(CROWD, rows), dtype=torch.int64))

    def remember(self, rows: Tensor) -> None:
        """Takes the patches (M, D) to remember and finds the neighbours of each among them."""
        super().remember(rows)
        size = self.crowd.shape[1]
        near = [self.squared(p, self.memory).topk(size, dim=1, largest=False)[1] for p in self.pieces()]
        self.crowd.copy_(torch.cat(near))

    def distances(self, maps: Tensor) -> Tensor:
        """Returns each patch's distance to the nearest remembered one, (B, h, w), for patch maps (B, D, h, w)."""
        return self._nearest(maps)[0].reshape(maps.shape[0], *maps.shape[2:])

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the margins (B,) of patch maps (B, D, h, w)."""
        return self.judged(maps)[0]

    def judged(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns margins (B,) and patch distances (B, h, w) from one search."""
        count, width = maps.shape[:2]
        distances, nearest = self._nearest(maps)
        near, which = distances.reshape(count, -1), nearest.reshape(count, -1)
        worst = near.argmax(1, keepdim=True)
        distance = near.gather(1, worst)  # (B, 1)
        patches = maps.flatten(2).transpose(1, 2) - self.centre  # (B, P, D)
        strangest = patches.gather(1, worst[..., None].expand(-1, 1, width))  # (B, 1, D)
        crowd = self.memory[self.crowd[which.gather(1, worst)[:, 0]]]  # (B, b, D)
        excess = (crowd - strangest).square().sum(2).sqrt() - distance
        if self.crowd.shape[1] == 1:
            weight = torch.ones_like(distance[:, 0])
        else:
            weight = 1 - 1 / excess.clamp(max=80.0).exp().sum(1)
        return distance[:, 0] * weight, distances.reshape(count, *maps.shape[2:])

    def _nearest(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns distance and number of the nearest remembered patch of every patch, each (B * h * w,)."""
        rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]) - self.centre
        best, which = torch.empty(0), torch.empty(0)
        for number, piece in enumerate(self.pieces()):
            far, at = self.squared(rows, piece).min(1)
            at = at + number * _AT_ONCE
            if number:
                closer = far < best
                far, at = torch.where(closer, far, best), torch.where(closer, at, which)
            best, which = far, at
        return best.sqrt(), which


class NearestHead(MemoryHead):
    """margin = Euclidean distance to the `NEAREST`-th nearest remembered photograph, any number from 0.

    Reference:
        Ramaswamy et al. 2000, definition 2.1.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Returns the margins (B,) of feature rows (B, D)."""
        far = self.squared(rows - self.centre, self.memory)
        return far.topk(min(NEAREST, len(self.memory)), dim=1, largest=False)[0][:, -1].sqrt()
