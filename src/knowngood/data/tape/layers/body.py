"""The moulded body: a dark streaked plate with frayed edges, a pale thin outline and a ghost of its lower edge."""

from __future__ import annotations

import numpy as np

from knowngood.data.tape.scene import F32, Box, Scene
from knowngood.data.tape.texture import field, grain, streaks

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
