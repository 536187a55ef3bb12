"""Heads, which turn a trunk's maps into one raw score: cells, SVM on several stages, PatchCore, nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from knowngood.models.cells import Cells, aligned, marked_cells
from knowngood.models.distances import squared_distances


def pool_stages(maps: list[Tensor]) -> Tensor:
    """Returns the average and the maximum of every map, side by side.

    A small defect drowns in an average over the whole part; its maximum keeps it.

    Args:
        maps: One tensor (B, C_i, H_i, W_i) a stage.

    Returns:
        (B, 2 * sum C_i) float32.
    """
    parts = []
    for stage in maps:
        parts += [stage.mean((2, 3)), stage.amax((2, 3))]
    return torch.cat([p.float() for p in parts], dim=1)


class SvmHead(nn.Module):
    """A support-vector machine with an RBF kernel on standardised stage features, as plain tensors.

    raw_score(x) = sum_i alpha_i * exp(-gamma * ||(x - mean) / scale - s_i||^2) + offset, positive for bad.

    Args:
        features: Length D of a feature row.
        supports: Number S of support vectors.

    Reference:
        Cortes & Vapnik 1995; the fitted values come from scikit-learn's SVC (`fit_svm_head`).
    """

    mean: Tensor
    scale: Tensor
    support: Tensor
    alpha: Tensor
    offset: Tensor
    gamma: Tensor

    def __init__(self, features: int, supports: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("support", torch.zeros(supports, features))
        self.register_buffer("alpha", torch.zeros(supports))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("gamma", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        """Returns the raw scores (B,) of feature rows (B, D)."""
        standard = (features - self.mean) / self.scale
        return torch.exp(-self.gamma * squared_distances(standard, self.support)) @ self.alpha + self.offset


class CellHead(nn.Module):
    """One logit a cell, pooled to the raw score of the photograph: the map is the score. Beside it one a cell and kind.

    Each stage is normalised by channel and projected to its logits by a 1x1 convolution; the logits of all stages are
    added on the cells of the finest one. With m[p] the logit of cell p that says bad,

        raw score = log(mean_p exp(r m[p])) / r,

    so that exp(r * raw score) is exactly the mean of exp(r * m[p]). Logits of kinds are pooled alike and name a defect;
    they decide nothing and teach the trunk nothing: where they did, the score was worse (`benchmarks/fine_tuning.py`,
    cells-kinds). Projecting before resizing is the same as after it, and costs a hundredth.

    Args:
        channels: C_i of each stage, the finest first.
        kinds: Number K of kinds of defects; one has no logits of its own.
        sharpness: r > 0: near 0 the raw score is the cells' mean, far above 1 their maximum.
        dropout: Share of the channels that training leaves out, whole maps at a time.

    Reference:
        Pinheiro & Collobert 2015, "From image-level to pixel-level labeling", equation 1 (log-sum-exp pooling).
        Ours: several stages, and kinds beside the score.
    """

    def __init__(self, channels: Sequence[int], kinds: int = 1, sharpness: float = 2.0, dropout: float = 0.2) -> None:
        super().__init__()
        self.channels, self.kinds, self.sharpness = tuple(channels), kinds, sharpness
        self.outputs = 1 if kinds == 1 else 1 + kinds
        self.norms = nn.ModuleList(nn.BatchNorm2d(count, affine=False) for count in channels)
        projections = [nn.Conv2d(count, self.outputs, 1, bias=False) for count in channels]
        for layer in projections:
            nn.init.zeros_(layer.weight)  # a head that starts at zero tears up no features
        self.projections = nn.ModuleList(projections)
        self.dropout = nn.Dropout2d(dropout)
        self.bias = nn.Parameter(torch.zeros(self.outputs))

    def place(self, cells: Sequence[Cells], sizes: Sequence[Sequence[int]]) -> None:
        """Takes the position of each stage's cells and their rows and columns, the finest stage first."""
        self.position, self.size = cells[0], (int(sizes[0][0]), int(sizes[0][1]))
        for index in range(1, len(cells)):
            down, across = aligned(cells[index], cells[0], sizes[index], sizes[0])
            self.register_buffer(f"down{index}", down, persistent=False)
            self.register_buffer(f"across{index}", across, persistent=False)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Returns the logits (B, 1 or 1 + K, h, w) float32: of bad and of the kinds, on the finest stage's cells.

        Args:
            stages: (B, C_i, h_i, w_i) each.
        """
        layers = zip(self.projections, self.norms, stages, strict=True)
        logits = self.on_one_grid([self._projected(one, self.dropout(norm(stage))) for one, norm, stage in layers])
        total = self.bias.float().view(1, -1, 1, 1)
        for one in logits:
            total = total + one
        return total

    def _projected(self, layer: nn.Module, values: Tensor) -> Tensor:
        if self.kinds == 1 or not values.requires_grad:
            projected: Tensor = layer(values)
            return projected.float()
        assert isinstance(layer, nn.Conv2d)
        parts = functional.conv2d(values, layer.weight[:1]), functional.conv2d(values.detach(), layer.weight[1:])
        return torch.cat(parts, dim=1).float()

    def on_one_grid(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Returns maps of the stages (B, ., h_i, w_i) on the cells of the finest one, bilinear."""
        made = [maps[0]]
        for index, one in enumerate(maps[1:], 1):
            made.append(self.get_buffer(f"down{index}") @ one @ self.get_buffer(f"across{index}"))
        return made

    def mask_losses(self, scores: Tensor, masks: Tensor) -> Tensor:
        """Returns the cross-entropy of cell scores against masks.

        The cells on a defect and those beside it count the same, however small it is.

        Args:
            scores: (B, ..., h, w), of as many fits as one likes.
            masks: (B, H, W) float, 1 on the defect.

        Returns:
            (B, ...) float32.
        """
        on = marked_cells(masks, self.position, self.size)
        on = on.reshape(len(on), *([1] * (scores.ndim - 3)), *on.shape[1:])
        hit = (functional.softplus(-scores) * on).sum((-2, -1)) / on.sum((-2, -1)).clamp(min=1)
        beside = (functional.softplus(scores) * (1 - on)).sum((-2, -1)) / (1 - on).sum((-2, -1)).clamp(min=1)
        return (hit + beside) / 2

    def scores(self, logits: Tensor) -> Tensor:
        """Returns the cell scores (B, ..., h, w) of logits (B, ..., outputs, h, w)."""
        return logits[..., 0, :, :]

    def kind_logits(self, logits: Tensor) -> Tensor:
        """Returns one logit a photograph and kind (B, ..., K), whose softmax says which kind, if bad."""
        return self.sharpness * self.pooled(logits[..., 1 if self.kinds > 1 else 0 :, :, :])

    def pooled(self, scores: Tensor) -> Tensor:
        """Returns the log-mean-exp (...) of cell scores (..., h, w)."""
        flat = scores.flatten(-2)
        return (torch.logsumexp(self.sharpness * flat, dim=-1) - math.log(flat.shape[-1])) / self.sharpness


STRANGEST = 0.01  # share of an image's patches, the strangest ones, whose mean distance is its score
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


def strangest(patches: int, share: float) -> int:
    """Returns how many of an image's patches make its score: that share of them, rounded up, one at least."""
    return max(1, math.ceil(share * patches))


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

    def pieces(self) -> list[Tensor]:
        """Returns the memory in pieces of bounded size."""
        return list(torch.split(self.memory, _AT_ONCE))


class PatchHead(MemoryHead):
    """An image is as abnormal as its strangest patches are far from what is remembered.

    raw score = mean of the largest `STRANGEST` of the image's patch distances, any number from 0, in the unit of the
    features; higher is more abnormal.

    Reference:
        Roth et al. 2022, equation 5. Ours: the mean of the strangest patches instead of the largest distance
        weighed by how crowded its neighbour is (equations 6 and 7): better on every set that was tried.
    """

    def distances(self, maps: Tensor) -> Tensor:
        """Returns each patch's distance to the nearest remembered one, (B, h, w), for patch maps (B, D, h, w)."""
        rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]) - self.centre
        nearest = [squared_distances(rows, piece).amin(1) for piece in self.pieces()]
        return torch.stack(nearest).amin(0).sqrt().reshape(maps.shape[0], *maps.shape[2:])

    def raw_scores(self, distances: Tensor) -> Tensor:
        """Returns the raw scores (B,) of patch distances (B, h, w)."""
        near = distances.flatten(1)
        return near.topk(strangest(near.shape[1], STRANGEST), dim=1)[0].mean(1)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the raw scores (B,) of patch maps (B, D, h, w)."""
        return self.raw_scores(self.distances(maps))


class NearestHead(MemoryHead):
    """raw score = Euclidean distance to the `NEAREST`-th nearest remembered photograph, any number from 0.

    Reference:
        Ramaswamy et al. 2000, definition 2.1.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Returns the raw scores (B,) of feature rows (B, D)."""
        far = squared_distances(rows - self.centre, self.memory)
        return far.topk(min(NEAREST, len(self.memory)), dim=1, largest=False)[0][:, -1].sqrt()
