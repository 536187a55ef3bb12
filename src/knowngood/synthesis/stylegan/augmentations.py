"""Adaptive discriminator augmentation: what the discriminator sees is transformed, so that few images last longer.

Every transform is applied to an image with probability p, to photographs and samples alike, and gradients pass through
it. Below p of about 0.8 the generator does not learn the transforms themselves. Pixel blits (flip, quarter turns, whole
shifts) move pixels and change none; geometry (scale, rotation, aspect, fraction of a pixel) goes through a wavelet
filter of twice the side, so that nothing aliases; colour is one matrix.

Reference: Karras et al. 2020b, section 3 and appendix B. Left out: image-space filtering and corruptions, which did
not help in their figure 4. Edges are mirrored.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

MOST = 0.8  # p is never raised above it
_SYM6 = (  # orthonormal low-pass filter of the Symlet of order 6 (Daubechies)
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
_LUMA = 1 / math.sqrt(3)  # of the grey axis in each of R, G, B


def augmented(pictures: Tensor, p: float) -> Tensor:
    """Returns the pictures transformed, each transform on a share p of them.

    Args:
        pictures: (B, C, R, R), C 1 or 3, about -1..1.
        p: Probability of every transform, 0..1.

    Returns:
        The same shape; the pictures themselves where p is 0.
    """
    if p <= 0:
        return pictures
    with torch.autocast(pictures.device.type, enabled=False):  # in bfloat16 places would be off by fractions of a pixel
        return _augmented(pictures.float(), p)


def _augmented(pictures: Tensor, p: float) -> Tensor:
    count, size = len(pictures), pictures.shape[-1]
    moved = blitted(pictures, draw_blits(count, size, p, pictures.device))
    geometry = draw_geometry(count, p, pictures.device)
    still = (geometry == torch.eye(3, device=geometry.device)).all(dim=(1, 2))
    if not still.all():
        some = (~still).nonzero()[:, 0]
        moved = moved.index_copy(0, some, warped(moved[some], geometry[some]))
    return recoloured(moved, draw_colour(count, p, pictures.shape[1], pictures.device))


# Pixel blits --------------------------------------------------------------------------------------------------------


def draw_blits(count: int, size: int, p: float, device: torch.device | str = "cpu") -> Tensor:
    """Draws flips, quarter turns and whole shifts of up to an eighth: (count, 3, 3), output to input, in pixels."""
    sign = torch.where(_chosen(count, p, device) & _coin(count, device), -1.0, 1.0)
    flip = _scaling(sign, torch.ones_like(sign))
    turns = torch.randint(0, 4, (count,), device=device) * _chosen(count, p, device)
    shift = (torch.rand(count, 2, device=device) * 2 - 1) * size / 8
    shift = shift.round() * _chosen(count, p, device)[:, None]
    turned = _rotation(turns * (math.pi / 2)).round()
    return _translation(shift) @ turned @ flip


def blitted(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Moves whole pixels; edges are mirrored.

    Args:
        pictures: (B, C, R, R).
        matrix: (B, 3, 3) from output to input, in pixels from the centre.
    """
    return _sampled(pictures, matrix, pictures.shape[-1], "nearest")


# Geometry -----------------------------------------------------------------------------------------------------------


def draw_geometry(count: int, p: float, device: torch.device | str = "cpu") -> Tensor:
    """Draws scale, rotation, aspect, rotation and shift: (count, 3, 3), output to input, in units of the side.

    Rotation before and after the change of aspect each have a probability of 1 - sqrt(1 - p), so that together they
    have p. Spreads are the paper's: 2^(0.2 n) for scale and aspect, any angle, 0.125 n of the side.
    """
    matrix = torch.eye(3, device=device).expand(count, 3, 3)
    zoom = torch.exp2(0.2 * torch.randn(count, device=device))
    zoom = torch.where(_chosen(count, p, device), zoom, torch.ones_like(zoom))
    matrix = matrix @ _scaling(1 / zoom, 1 / zoom)
    each = 1 - math.sqrt(max(0.0, 1 - p))
    matrix = matrix @ _maybe_rotation(count, each, device)
    aspect = torch.exp2(0.2 * torch.randn(count, device=device))
    aspect = torch.where(_chosen(count, p, device), aspect, torch.ones_like(aspect))
    matrix = matrix @ _scaling(1 / aspect, aspect)
    matrix = matrix @ _maybe_rotation(count, each, device)
    shift = 0.125 * torch.randn(count, 2, device=device) * _chosen(count, p, device)[:, None]
    return matrix @ _translation(shift)


def warped(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Resamples pictures between two wavelet filters of twice the side.

    The filter is orthonormal: up and down again without a movement between gives the pictures back.

    Args:
        pictures: (B, C, R, R).
        matrix: (B, 3, 3) from output to input, in units of the side, from the centre.
    """
    kind, size, half = pictures.dtype, pictures.shape[-1], len(_SYM6) // 2
    filtered = _filtered_up(functional.pad(pictures.float(), [half] * 4, mode="reflect"))
    span, wide = size + 2 * half, 2 * size + 2 * len(_SYM6)
    scale = torch.full((len(matrix),), 2.0 * size, device=matrix.device)  # pixels of the doubled picture a side
    in_pixels = _scaling(scale, scale) @ matrix.float() @ _scaling(1 / scale, 1 / scale)
    assert filtered.shape[-1] == 2 * span
    moved = _sampled(filtered, in_pixels, wide, "bilinear")
    down = _filtered_down(moved)
    cut = (down.shape[-1] - size) // 2
    return down[..., cut : cut + size, cut : cut + size].to(kind)


def _filtered_up(pictures: Tensor) -> Tensor:
    """Doubles the side with the wavelet's filter, one way after the other."""
    for kernel, stride, pad in _separate(pictures):
        pictures = functional.conv_transpose2d(pictures, kernel, None, stride, pad, groups=pictures.shape[1])
    return pictures


def _filtered_down(pictures: Tensor) -> Tensor:
    """Halves the side with the same filter: the transpose of `_filtered_up`."""
    for kernel, stride, pad in _separate(pictures):
        pictures = functional.conv2d(pictures, kernel, None, stride, pad, groups=pictures.shape[1])
    return pictures


def _separate(pictures: Tensor) -> list[tuple[Tensor, tuple[int, int], tuple[int, int]]]:
    """Returns kernel, stride and padding of the filter along rows and along columns."""
    taps, pad = torch.tensor(_SYM6, device=pictures.device), len(_SYM6) // 2 - 1
    channels = pictures.shape[1]
    rows, columns = taps.view(1, 1, -1, 1), taps.view(1, 1, 1, -1)
    return [
        (rows.expand(channels, -1, -1, -1), (2, 1), (pad, 0)),
        (columns.expand(channels, -1, -1, -1), (1, 2), (0, pad)),
    ]


# Colour -------------------------------------------------------------------------------------------------------------


def draw_colour(count: int, p: float, channels: int, device: torch.device | str = "cpu") -> Tensor:
    """Draws brightness, contrast, and for colour luma flip, hue and saturation: (count, 4, 4) on (R, G, B, 1).

    For grey pictures only brightness and contrast: an inverted part is no part.
    """
    eye = torch.eye(4, device=device)
    matrix = eye.repeat(count, 1, 1)
    matrix[:, :3, 3] = (0.2 * torch.randn(count, device=device) * _chosen(count, p, device))[:, None]
    contrast = torch.exp2(0.5 * torch.randn(count, device=device))
    contrast = torch.where(_chosen(count, p, device), contrast, torch.ones_like(contrast))
    factors = torch.stack([contrast, contrast, contrast, torch.ones_like(contrast)], dim=1)
    matrix = torch.diag_embed(factors) @ matrix
    if channels == 1:
        return matrix
    axis = torch.tensor([_LUMA, _LUMA, _LUMA, 0.0], device=device)
    grey = torch.outer(axis, axis)
    flip = (_chosen(count, p, device) & _coin(count, device)).float()[:, None, None]
    matrix = (eye - 2 * grey * flip) @ matrix
    angle = (torch.rand(count, device=device) * 2 - 1) * math.pi * _chosen(count, p, device)
    matrix = _about_grey(angle) @ matrix
    saturation = torch.exp2(torch.randn(count, device=device))
    saturation = torch.where(_chosen(count, p, device), saturation, torch.ones_like(saturation))
    one = torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0], device=device))
    return (one + grey + (eye - one - grey) * saturation[:, None, None]) @ matrix


def recoloured(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Applies colour matrices (B, 4, 4) to pictures (B, C, R, R); a grey one takes the row sums of the first row."""
    matrix = matrix.to(pictures.dtype)
    if pictures.shape[1] == 1:
        return pictures * matrix[:, 0, :3].sum(dim=1).view(-1, 1, 1, 1) + matrix[:, 0, 3].view(-1, 1, 1, 1)
    mixed = torch.einsum("bij,bjhw->bihw", matrix[:, :3, :3], pictures)
    return mixed + matrix[:, :3, 3, None, None]


def _about_grey(angle: Tensor) -> Tensor:
    """Returns rotations (B, 4, 4) of colours about the grey axis (Rodrigues)."""
    cross = torch.zeros(4, 4, device=angle.device)
    cross[:3, :3] = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) * _LUMA
    sine, rest = angle.sin().view(-1, 1, 1), (1 - angle.cos()).view(-1, 1, 1)
    return torch.eye(4, device=angle.device) + sine * cross + rest * (cross @ cross)


# Parts --------------------------------------------------------------------------------------------------------------


def _sampled(pictures: Tensor, matrix: Tensor, side: int, mode: str) -> Tensor:
    """Samples outputs of a side; the matrix (B, 3, 3) goes from output to input pixels, both from the centre."""
    span = pictures.shape[-1]
    to_pixels = torch.tensor([side / 2, side / 2, 1.0], device=pictures.device)
    to_unit = torch.tensor([2 / span, 2 / span, 1.0], device=pictures.device)
    theta = (torch.diag(to_unit) @ matrix.float() @ torch.diag(to_pixels))[:, :2]
    grid = functional.affine_grid(theta, [len(pictures), pictures.shape[1], side, side], align_corners=False)
    return functional.grid_sample(pictures.float(), grid, mode=mode, padding_mode="reflection", align_corners=False).to(
        pictures.dtype
    )


def _chosen(count: int, p: float, device: torch.device | str) -> Tensor:
    return torch.rand(count, device=device) < p


def _coin(count: int, device: torch.device | str) -> Tensor:
    return torch.rand(count, device=device) < 0.5


def _maybe_rotation(count: int, p: float, device: torch.device | str) -> Tensor:
    return _rotation((torch.rand(count, device=device) * 2 - 1) * math.pi * _chosen(count, p, device))


def _rotation(angle: Tensor) -> Tensor:
    zero, one = torch.zeros_like(angle, dtype=torch.float32), torch.ones_like(angle, dtype=torch.float32)
    rows = [torch.cos(angle), -torch.sin(angle), zero, torch.sin(angle), torch.cos(angle), zero, zero, zero, one]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _translation(shift: Tensor) -> Tensor:
    matrix = torch.eye(3, device=shift.device).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix
