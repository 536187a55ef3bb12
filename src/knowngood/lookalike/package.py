"""The moulded body: a dark streaked plate with frayed edges, a pale thin outline and a ghost of its lower edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from knowngood.lookalike.scene import F32, Box, Lead, Scene
from knowngood.lookalike.surface import box_alpha, field, grain, profile, streaks

At = tuple[slice, slice]


def draw_body(scene: Scene, level: float, rng: np.random.Generator) -> None:
    """Covers the floor with the body.

    Args:
        scene: To draw on; its `body` says where.
        level: Grey level of the mould compound.
        rng: Stream of the layer.
    """
    x0, y0, x1, y1 = scene.body
    ghost = (
        x0 - 3.0,
        y0 + float(rng.uniform(-1.5, 1.5)),
        x1 + float(rng.uniform(4, 7)),
        y1 + float(rng.uniform(1, 3)),
    )
    at = scene.part.window((x0 - 8, y0 - 8, x1 + 8, y1 + 8))
    height, width = scene.image[at].shape
    wander = field(rng, height, width, 7, 9)
    frayed = _frayed(scene, at, rng)
    if scene.lot.double_edge:
        edge = _line(_outside(scene, ghost, at) - frayed) * np.clip(wander * 0.5 + 0.3, 0, 1)
        scene.image[at] += edge * np.float32(scene.lot.outline * 0.8)
    scene.image[at] += _flash(scene, at, wander, rng)
    outside = _outside(scene, scene.body, at) + frayed
    alpha = np.clip(np.float32(0.5) - outside / np.float32(1.2), 0, 1)
    scene.image[at] += (_surface(scene, (height, width), rng) + np.float32(level) - scene.image[at]) * alpha
    flash = np.clip(wander - np.float32(0.4), 0, 1) * np.float32(0.5)
    breaks = np.clip(np.float32(0.75) + np.float32(0.4) * field(rng, height, width, 14, 24) + flash, 0.1, 1.6)
    sides = _side_weights(scene, at, rng)
    scene.image[at] += _line(outside) * breaks * sides * np.float32(scene.lot.outline)


def _surface(scene: Scene, shape: tuple[int, int], rng: np.random.Generator) -> F32:
    """Mould compound: clouds, grains that shine, and the streaks of the scan; grey levels around 0."""
    height, width = shape
    surface = field(rng, height, width, 4, 6) * np.float32(0.9)
    surface += streaks(rng, height, width, 8) * np.float32(1.5 * scene.scan)
    surface += rng.standard_normal((height, 1), dtype=np.float32) * np.float32(0.5 * scene.scan)
    surface += grain(rng, height, width, 1.7) * np.float32(1.2)
    y, x, bright = rng.random((3, height * width // 40), dtype=np.float32)
    np.add.at(surface, ((y * (height - 1)).astype(np.intp), (x * (width - 1)).astype(np.intp)), 5 + 24 * bright**2)
    return surface


def _frayed(scene: Scene, at: At, rng: np.random.Generator) -> F32:
    """How far the outline lies inside its box, pixels: the long edges are moulded unevenly, the short ones less."""
    _, v = scene.part.grid
    height, width = v[at].shape
    long = field(rng, 2, width, 2, max(3, width // 5)) * np.float32(0.34)
    long += field(rng, 2, width, 2, max(3, width // 24)) * np.float32(0.3)
    short = rng.standard_normal((height, 1), dtype=np.float32) * np.float32(0.12)
    amount = np.float32(0.4 + 0.6 * scene.scan)
    return np.asarray((np.where(v[at] < 0, long[0], long[1]) + short) * amount, np.float32)


def _flash(scene: Scene, at: At, wander: F32, rng: np.random.Generator) -> F32:
    """Thin ragged film of mould compound that sticks out along the long edges."""
    u, v = scene.part.grid
    x0, y0, x1, y1 = scene.body
    height, width = wander.shape
    ragged = field(rng, 1, width, 1, max(4, width // 6)) * np.float32(1.6) + np.float32(2.6)
    beyond = np.maximum(np.float32(y0) - v[at], v[at] - np.float32(y1))
    film = np.clip(ragged - beyond, 0, 1) * ((u[at] > x0) & (u[at] < x1 + 4))
    film *= 1 + streaks(rng, height, width, 7) * np.float32(0.35)
    return np.asarray(film * np.clip(wander + np.float32(0.15), 0, 1.5) * np.float32(11), np.float32)


def _outside(scene: Scene, box: Box, at: At) -> F32:
    """How far each pixel lies outside a box of the part, pixels; negative inside."""
    u, v = scene.part.grid
    x0, y0, x1, y1 = box
    dx = np.abs(u[at] - np.float32((x0 + x1) / 2)) - np.float32((x1 - x0) / 2)
    dy = np.abs(v[at] - np.float32((y0 + y1) / 2)) - np.float32((y1 - y0) / 2)
    return np.asarray(np.maximum(dx, dy), np.float32)


def _line(outside: F32) -> F32:
    """A line one pixel wide where `outside` is 0."""
    return np.asarray(np.clip(1 - np.abs(outside), 0, 1), np.float32)


def _side_weights(scene: Scene, at: At, rng: np.random.Generator) -> F32:
    """The light comes from the sides, so left and right edges shine more than the long ones."""
    u, v = scene.part.grid
    x0, y0, x1, y1 = scene.body
    left, right, top, bottom = rng.uniform([0.7, 0.7, 0.3, 0.2], [1.3, 1.3, 1.0, 0.8])
    x, y = u[at], v[at]
    weights = np.where(y < (y0 + y1) / 2, np.float32(top), np.float32(bottom))
    weights = np.where(x < x0 + 2, np.float32(left), weights)
    return np.where(x > x1 - 2, np.float32(right), weights)


def cathode_lines(
    scene: Scene, band: Box, count: int, thickness: float, rng: np.random.Generator
) -> tuple[tuple[slice, slice], F32]:
    """Returns where the lines lie and what they add.

    Args:
        scene: Gives the part's frame and the lot's level.
        band: From the first line's middle to the last one's, in the part's frame.
        count: Number of lines.
        thickness: Of a line, pixels.
        rng: Stream of the layer.

    Returns:
        Rows and columns of the image, and grey levels to add there, float32.
    """
    x0, y0, x1, y1 = band
    at = scene.part.window(band, 3)
    u, v = scene.part.grid
    height, width = u[at].shape
    pitch = (y1 - y0) / (count - 1)
    over_left, over_right = rng.uniform(0.0, 3.0), rng.uniform(-1.0, 1.5)
    waver = field(rng, height, width, 2, 5) * np.float32(0.12)
    place = (v[at] + waver - np.float32(y0)) / np.float32(pitch)
    nearest = np.clip(np.round(place), 0, count - 1)
    distance = np.abs(place - nearest) * np.float32(pitch)
    rough = grain(rng, height, width, 1.4) * np.float32(0.16) + streaks(rng, height, width, 6) * np.float32(0.12)
    lines = np.clip(np.float32(thickness / 2 + 0.5) + rough - distance, 0, 1)
    ends = np.clip(u[at] - np.float32(x0 - over_left), 0, 1) * np.clip(np.float32(x1 + over_right) - u[at], 0, 1)
    strength = rng.uniform(0.85, 1.1, count).astype(np.float32)[nearest.astype(np.int32)]
    beads = 1 + np.float32(0.22) * streaks(rng, height, width, 3) + np.float32(0.14) * streaks(rng, height, width, 11)
    haze = np.clip(1 - np.maximum(np.maximum(np.float32(y0) - v[at], v[at] - np.float32(y1)), 0) / 3, 0, 1)
    level = np.float32(scene.lot.line_level)
    return at, (lines * strength * beads + haze * np.float32(0.10)) * ends * level


@dataclass(frozen=True)
class LeadStyle:
    """How a family's leads look.

    Attributes:
        stops: (position from the tip, 0, to the body, 1; grey level of the metal), rising.
        foot_end: Position where the foot ends.
        knee: Where the saturated knee begins and ends.
        banding: Grey levels that bands across the foot differ by.
        grain: Strength of the metal's grain, as a share.
    """

    stops: tuple[tuple[float, float], ...]
    foot_end: float
    knee: tuple[float, float]
    banding: float
    grain: float


def draw_lead(scene: Scene, lead: Lead, style: LeadStyle, rng: np.random.Generator) -> None:
    """Draws one lead over what is there.

    Args:
        scene: To draw on.
        lead: Where.
        style: How.
        rng: Stream of the layer; draws the same number of values whatever the lead is.
    """
    x0, y0, x1, y1 = lead.box
    at = scene.part.window(lead.box, 3)
    u, v = scene.part.grid
    height, width = scene.image[at].shape
    length = y1 - y0
    along = (
        (v[at] - np.float32(y0)) / np.float32(length) if lead.tip < 0 else (np.float32(y1) - v[at]) / np.float32(length)
    )
    ragged = field(rng, height, width, 9, 1) * np.float32(0.35)
    narrow = float(rng.uniform(-1.0, 1.0))
    shift = float(rng.normal(0, 0.012))
    wavy = field(rng, height, width, 3, 5) * np.float32(0.014) + grain(rng, height, width, 2) * np.float32(0.007)
    metal = _metal(along + np.float32(shift) + wavy, style, scene.lot.foot, (height, width), rng)
    metal *= 1 + streaks(rng, height, width, 12) * np.float32(0.04 + 0.05 * scene.scan)
    alpha = _silhouette(scene, lead, at, narrow, ragged)
    light = 1 + np.float32(rng.normal(0, 0.05)) * (u[at] - np.float32((x0 + x1) / 2)) / np.float32((x1 - x0) / 2)
    scene.image[at] += (metal * light - scene.image[at]) * alpha


def _silhouette(scene: Scene, lead: Lead, at: tuple[slice, slice], narrow: float, ragged: F32) -> F32:
    """The plate is a little wider or narrower than the knee, and its sides are not quite straight."""
    x0, y0, x1, y1 = lead.box
    middle = (y0 + y1) / 2 + 2.0 * lead.tip
    foot = (x0 + narrow, y0, x1 - narrow, middle) if lead.tip < 0 else (x0 + narrow, middle, x1 - narrow, y1)
    knee = (x0, middle, x1, y1) if lead.tip < 0 else (x0, y0, x1, middle)
    both = np.maximum(box_alpha(scene.part, foot, at, 1.0, 2.5), box_alpha(scene.part, knee, at))
    return np.asarray(np.clip(both * (1 + ragged * np.float32(0.3)), 0, 1), np.float32)


def _metal(along: F32, style: LeadStyle, foot: float, shape: tuple[int, int], rng: np.random.Generator) -> F32:
    height, width = shape
    level = profile(along, style.stops, (-0.1, 1.1))
    is_foot = np.clip((np.float32(style.foot_end) - along) * 5 + np.float32(0.5), 0, 1)
    start, end = style.knee
    in_knee = np.clip((along - np.float32(start)) * 10, 0, 1) * np.clip((np.float32(end) - along) * 10, 0, 1)
    level *= 1 + is_foot * np.float32(foot * float(np.exp(rng.normal(0, 0.12))) - 1)
    bands = field(rng, height, width, max(4, height // 2), 2) + field(rng, height, width, max(4, height // 2), 5)
    plate = field(rng, height, width, 5, 6) * np.float32(0.8) + field(rng, height, width, 3, 2)
    level += is_foot * (bands * np.float32(style.banding) + plate * np.float32(style.banding * 0.7))
    brushed = field(rng, height, width, 2, max(4, width // 2))
    fine = grain(rng, height, width, 1.5)
    level *= 1 + np.float32(style.grain) * (fine * np.float32(0.9) + brushed * np.float32(0.5))
    brightness = np.float32(rng.uniform(0.96, 1.2))
    level += in_knee * (brightness * np.float32(60) - 64)
    return np.maximum(level, 30)
