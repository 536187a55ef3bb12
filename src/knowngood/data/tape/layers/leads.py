"""Tinned leads: a textured foot, a dark groove where the lead bends away, a knee that saturates the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from knowngood.data.tape.scene import F32, Lead, Scene
from knowngood.data.tape.texture import box_alpha, field, grain, profile, streaks


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
