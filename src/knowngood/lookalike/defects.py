"""Defect types: a class draws one; one line registers another. Counts are of the contest's second batch."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from knowngood.lookalike.families import FAMILIES
from knowngood.lookalike.scene import F32, Box, Lead, Scene, on_lead, sample_box
from knowngood.lookalike.shapes import blob, contrast, curve, lines, pixels_of, size_of, wandering, wedge
from knowngood.lookalike.surface import box_alpha, field, grain
from knowngood.registry import Registry


class Defect(Protocol):
    """One defect type. Implementations are plain classes without arguments."""

    summary: str  # what it stands for on the line, one sentence for the docs
    count: int  # how many a real batch had; sets the proportions
    whole: bool  # whether it changes the whole part, so that no second defect goes with it

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Draws one defect on a unit.

        Args:
            scene: The unit; must not be changed.
            severity: From 0, nearly invisible, to 1, glaring.
            rng: Stream of this defect alone.

        Returns:
            (H, W) float32, the scene's image with the defect.
        """
        ...


DEFECTS: Registry[type[Defect]] = Registry(
    "defect type",
    "knowngood.tape_defects",
    {
        "chipping": "knowngood.lookalike.defects:Chipping",
        "foreign_material": "knowngood.lookalike.defects:ForeignMaterial",
        "scratch": "knowngood.lookalike.defects:Scratch",
        "lead_glue": "knowngood.lookalike.defects:LeadGlue",
        "lead_defect": "knowngood.lookalike.defects:LeadDefect",
        "empty_pocket": "knowngood.lookalike.defects:EmptyPocket",
        "marking_defect": "knowngood.lookalike.defects:MarkingDefect",
        "device_flip": "knowngood.lookalike.defects:DeviceFlip",
        "pocket_damage": "knowngood.lookalike.defects:PocketDamage",
    },
)


class Chipping:
    """A bright rough wedge flush with the outline, or a dark gap with a bright rim."""

    summary = "Mould compound broken off at a corner or an edge: the fresh break shines, or the corner is missing."
    count = 3681
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Breaks a piece off the body."""
        box = FAMILIES.get(scene.family)().placed(sample_box("chipping", rng), scene)
        box = _on_body(_wider(box), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        cover = wedge(rng, height, width, _corner(box, scene))
        outside = 1 - box_alpha(scene.part, scene.body, at, 2.0)
        small = height * width < 0.2 * (scene.body[2] - scene.body[0]) * (scene.body[3] - scene.body[1])
        missing = rng.random() < 0.35 and small
        flakes = np.clip(grain(rng, height, width, 7) * np.float32(0.5) + np.float32(0.38), 0, 1)
        cover *= 1 - outside * (np.float32(0.85) if missing else 1 - flakes)
        for lead in scene.leads:
            cover *= 1 - box_alpha(scene.part, lead.box, at, 1.5)
        image = scene.image.copy()
        texture = (
            1 + np.float32(0.20) * grain(rng, height, width, 1.5) + np.float32(0.22) * field(rng, height, width, 7, 9)
        )
        amount = contrast(severity, 5.0, 105.0)
        if missing:
            edge = np.abs(cv2.GaussianBlur(cover, (0, 0), 1.2) - cover) * 2
            gap = np.minimum(scene.under_part[at] - 4, image[at] - min(amount, 30.0) * np.float32(0.5))
            image[at] += (gap - image[at]) * cover * np.float32(min(1.0, amount / 14))
            image[at] += edge * np.float32(amount) * texture
        else:
            image[at] += cover * np.float32(amount) * texture * (1 - image[at] / np.float32(420))
        return image


def _wider(box: Box) -> Box:
    """Makes up for the thin ends of a wedge, which cannot be seen when it is faint."""
    x0, y0, x1, y1 = box
    return x0 - 0.02 * (x1 - x0), y0 - 0.04 * (y1 - y0), x1 + 0.02 * (x1 - x0), y1 + 0.04 * (y1 - y0)


def _on_body(box: Box, scene: Scene) -> Box:
    """Cuts a box to the body and a narrow rim: people draw boxes wider than the break."""
    x0, y0, x1, y1 = scene.part.bounds(scene.body)
    left, right = max(box[0], x0 - 12), min(box[2], x1 + 12)
    top, bottom = max(box[1], y0 - 13), min(box[3], y1 + 13)
    return (left, top, right, bottom) if right - left > 8 and bottom - top > 8 else box


def _corner(box: Box, scene: Scene) -> tuple[int, int]:
    """Which corner or edge of the body the box is nearest to, as signs."""
    part = scene.part
    c, s = np.cos(part.angle), np.sin(part.angle)
    x, y = (box[0] + box[2]) / 2 - part.x, (box[1] + box[3]) / 2 - part.y
    u, v = (x * c + y * s) / scene.body[2], (y * c - x * s) / scene.body[3]
    wide = (box[2] - box[0]) / (scene.body[2] - scene.body[0])
    if wide > 0.62:
        return 0, (1 if v >= 0 else -1)
    if abs(u) > 0.5:
        return int(np.sign(u)), int(np.sign(v)) if abs(v) > 0.12 else 0
    return 0, (1 if v >= 0 else -1)


class ForeignMaterial:
    """A fuzzy grey blob, a bright curly fibre, a spray of thin lines, or a dark speck."""

    summary = "Something that does not belong there lies on the part: dust, a fibre, a splash of compound or tin."
    count = 1952
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Lays something on the part."""
        box = FAMILIES.get(scene.family)().placed(sample_box("foreign_material", rng), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        slim = max(height, width) / min(height, width)
        kind = rng.random() * (1.0 if slim < 2.6 else 0.75)
        image = scene.image.copy()
        if kind < 0.34:
            steps = int(rng.integers(9, 22))
            cover = curve(
                wandering(rng, steps, float(rng.uniform(0.35, 0.9))), height, width, float(rng.uniform(1.5, 2.8))
            )
            cover *= np.clip(1 + np.float32(0.25) * field(rng, height, width, 4, 6), 0.4, 1.4)
            image[at] += cover * np.float32(contrast(severity, 9.0, 195.0))
        elif kind < 0.48:
            image[at] += _splash(rng, height, width) * np.float32(contrast(severity, 8.0, 130.0))
        elif kind < 0.94:
            cover = blob(rng, height, width, 0.35, float(rng.uniform(1.5, 5)))
            fuzz = (
                np.float32(0.85)
                + np.float32(0.09) * grain(rng, height, width, 2.0)
                + np.float32(0.2) * field(rng, height, width, 6, 8)
            )
            level = np.float32(scene.lot.brightness * 45 + contrast(severity, 6.0, 85.0))
            veil = np.float32(min(0.9, 0.12 + severity))  # what lies below shows through thin material
            target = level * fuzz
            lift = np.maximum(target - image[at], np.float32(3)) * veil
            image[at] += np.where(image[at] > target, (target - image[at]) * veil * np.float32(0.7), lift) * cover
        else:
            cover = blob(rng, height, width, 0.3, 5.0)
            image[at] *= 1 - cover * np.float32(min(0.75, 0.10 + 0.6 * severity))
        return image


def _splash(rng: np.random.Generator, height: int, width: int) -> F32:
    """Thin lines that fan out, with drops at random; reaches all four sides."""
    corners = np.array([[0.5, 0.5], [width - 0.5, height - 0.5]])
    if rng.random() < 0.5:
        corners[:, 1] = corners[::-1, 1]
    paths = [corners]
    for _ in range(int(rng.integers(2, 6))):
        start, end = rng.random((2, 2)) * np.array([width, height])
        paths.append(np.stack([start, start + (end - start) * rng.uniform(0.3, 1)]))
    cover = lines(paths, height, width, float(rng.uniform(1.0, 1.8)))
    for x, y, radius in rng.random((int(rng.integers(2, 9)), 3)):
        cv2.circle(cover, (int(x * width), int(y * height)), 1 + int(radius * 2), 0.9, -1, cv2.LINE_AA)
    return np.clip(cover * (np.float32(0.9) + np.float32(0.2) * grain(rng, height, width, 2)), 0, 1.2)


class Scratch:
    """A bundle of thin bright strokes along one direction, or a small torn patch."""

    summary = "The surface was scraped: a thin bright smear across body and marking, or a small torn patch."
    count = 749
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Scrapes the body."""
        box = FAMILIES.get(scene.family)().placed(sample_box("scratch", rng), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        image = scene.image.copy()
        texture = 1 + np.float32(0.25) * grain(rng, height, width, 1.4)
        if height * width < 5000 and rng.random() < 0.55:
            torn = blob(rng, height, width, 0.6, 3.5)
            relief = np.float32(0.55) + np.float32(0.35) * field(
                rng, height, width, max(3, height // 5), max(3, width // 5)
            )
            image[at] += torn * relief * texture * np.float32(contrast(severity, 7.0, 85.0))
        else:
            image[at] += _smear(rng, height, width) * texture * np.float32(contrast(severity, 8.0, 110.0))
        return image


def _smear(rng: np.random.Generator, height: int, width: int) -> F32:
    """Strokes side by side from one corner of the box to the other."""
    ends = np.array([[0.7, 0.7], [width - 0.7, height - 0.7]])
    if rng.random() < 0.5:
        ends[:, 1] = ends[::-1, 1]
    middle = ends.mean(axis=0) + rng.normal(0, 0.10, 2) * np.array([width, height])
    spine = np.stack([ends[0], middle, ends[1]])
    paths = [spine]
    normal = np.array([height, width], float) * (1 if ends[0, 1] > ends[1, 1] else -1) * np.array([1, -1])
    normal /= np.linalg.norm(normal)
    spread = min(5.0, 0.14 * min(height, width))
    for _ in range(int(rng.integers(1, 6))):
        a, b = np.sort(rng.random(2))
        steps = np.linspace(a, b, 5)[:, None]
        first = (1 - steps) ** 2 * spine[0] + 2 * steps * (1 - steps) * spine[1] + steps**2 * spine[2]
        paths.append(first + normal * rng.normal(0, spread))
    cover = lines([spine], height, width, float(rng.uniform(1.2, 2.4)))
    return np.asarray(np.maximum(cover, lines(paths[1:], height, width, 1.0) * np.float32(0.7)), np.float32)


class LeadGlue:
    """A patch that covers plate and groove and widens the lead."""

    summary = "Glue or mould compound on a lead: its plate is covered or widened, its groove is filled."
    count = 625
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Smears glue on one lead."""
        (x0, y0, x1, y1), _ = on_lead(sample_box("lead_glue", rng), scene)
        box = x0 + 0.8, y0 + 0.8, x1 - 0.8, y1 - 0.8  # soft focus widens what is drawn
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        cover = blob(rng, height, width, 0.3, 7.0)
        texture = (
            1 + np.float32(0.10) * grain(rng, height, width, 1.6) + np.float32(0.14) * field(rng, height, width, 5, 5)
        )
        image = scene.image.copy()
        level = np.float32(rng.choice([rng.uniform(120, 165), rng.uniform(180, 235)]))
        amount = np.float32(min(1.0, contrast(severity, 0.12, 1.2)))
        beside = image[at] < 65  # glue beside the lead is thinner and stays darker
        target = np.where(beside, np.minimum(level, np.float32(60 + 110 * amount)), level) * texture
        image[at] += (target - image[at]) * cover * amount
        return image


class LeadDefect:
    """One lead changes its shape or brightness; large boxes mean that all leads do."""

    summary = "A lead is bent, notched, broadened, too dark, too bright, or missing."
    count = 254
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Spoils one lead, or all of them."""
        sampled = sample_box("lead_defect", rng)
        box, lead = on_lead(sampled, scene)
        if sampled[2] - sampled[0] > 95:
            wide = FAMILIES.get(scene.family)().placed(sampled, scene)
            return _spattered(_several(scene, wide, severity, rng), wide, severity, rng)
        at_lead = scene.part.bounds(lead.box)
        smaller = box[2] - box[0] < at_lead[2] - at_lead[0] + 1 or box[3] - box[1] < at_lead[3] - at_lead[1] + 1
        if smaller:
            return _notched(scene, box, severity, rng)
        return _reshaped(scene, lead, _around(at_lead, box), severity, rng)


def _several(scene: Scene, box: Box, severity: float, rng: np.random.Generator) -> F32:
    image = scene.image.copy()
    darker = rng.random() < 0.6
    amount = min(0.8, contrast(severity, 0.05, 0.8))
    factor = 1 - amount if darker else 1 + 1.2 * amount
    missing = rng.random() < 0.3 and severity > 0.5
    for lead in scene.leads:
        x0, y0, x1, y1 = scene.part.bounds(lead.box)
        if not (box[0] < (x0 + x1) / 2 < box[2] and box[1] - 4 < y0 and y1 < box[3] + 4):
            continue
        at = scene.part.window(lead.box, 4)
        cover = box_alpha(scene.part, lead.box, at, 1.5)
        target = scene.under_leads[at] if missing else image[at] * np.float32(factor)
        image[at] += (target - image[at]) * cover
    return image


def _spattered(image: F32, box: Box, severity: float, rng: np.random.Generator) -> F32:
    """Throws drops of solder over a box, some at each of its sides."""
    at = pixels_of(box, *image.shape)
    height, width = size_of(at)
    places = rng.random((14, 2))
    places[0, 0], places[1, 0], places[2, 1], places[3, 1] = 0, 1, 0, 1
    drops = np.zeros((height, width), np.float32)
    for (x, y), radius in zip(places, rng.uniform(1.6, 3.4, len(places)), strict=True):
        middle = radius + x * (width - 1 - 2 * radius), radius + y * (height - 1 - 2 * radius)
        cv2.circle(drops, (int(middle[0] * 16), int(middle[1] * 16)), int(radius * 16), 1.0, -1, cv2.LINE_8, 4)
    image[at] += drops * np.float32(contrast(severity, 7.0, 150.0))
    return image


def _notched(scene: Scene, box: Box, severity: float, rng: np.random.Generator) -> F32:
    image = scene.image.copy()
    at = pixels_of(box, scene.height, scene.width)
    cover = blob(rng, *size_of(at), 0.25, 8.0)
    amount = np.float32(min(1.0, contrast(severity, 0.06, 1.1)))
    dark = scene.under_leads[at] * np.float32(0.9)
    pale = np.maximum(image[at], 62.0) + np.float32(14) * field(rng, *size_of(at), 6, 6) + np.float32(18)
    target = np.where(np.abs(dark - image[at]) > 12, dark, pale)
    image[at] += (target - image[at]) * cover * amount
    return image


def _around(inner: Box, box: Box) -> Box:
    """Moves a box so that it holds another one where it is large enough to."""
    moved = []
    for axis in (0, 1):
        low, high = box[axis], box[axis + 2]
        shift = min(0.0, inner[axis] - low) + max(0.0, inner[axis + 2] - high)
        if high - low < inner[axis + 2] - inner[axis]:
            shift = 0.0
        moved.append((low + shift, high + shift))
    return moved[0][0], moved[1][0], moved[0][1], moved[1][1]


def _reshaped(scene: Scene, lead: Lead, box: Box, severity: float, rng: np.random.Generator) -> F32:
    """Takes the lead out and lays it back stretched to the box and sheared."""
    at = scene.part.window(lead.box, 1)
    cover = box_alpha(scene.part, lead.box, at, 1.0)
    old = scene.image[at]
    x0, y0, x1, y1 = lead.box
    place = (x0 - 2, y0 - 2, x1 + 2, y1 + 2)
    around = scene.part.window(place, 2)
    here = pixels_of(box, scene.height, scene.width)
    height, width = size_of(here)
    bent = float(rng.uniform(-0.5, 0.5)) * width * 0.6
    ground = np.array([[0, 0], [old.shape[1], 0], [0, old.shape[0]]], np.float32)
    narrow = width - abs(bent)
    left = max(0.0, bent)
    goal = np.array([[left, 0], [left + narrow, 0], [left - bent, height]], np.float32)
    turn = cv2.getAffineTransform(ground, goal)
    metal = cv2.warpAffine(old, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(cover, turn, (width, height), flags=cv2.INTER_LINEAR)
    image = scene.image.copy()
    amount = np.float32(min(1.0, contrast(severity, 0.08, 5.0)))
    image[around] += (scene.under_leads[around] - image[around]) * box_alpha(scene.part, place, around) * amount
    image[here] += (metal * np.float32(rng.uniform(0.8, 1.1)) - image[here]) * mask * amount
    return image


class MarkingDefect:
    """The laser wrote badly."""

    summary = "The laser marking is faint, doubled, smeared, broken, or characters are missing."
    count = 175
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Spoils the characters inside a box."""
        box = _on_text(FAMILIES.get(scene.family)().placed(sample_box("marking_defect", rng), scene), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        image = scene.image.copy()
        amount = np.float32(min(1.0, contrast(severity, 0.10, 1.2)))
        ink = _ink(scene)
        kind = rng.random()
        if kind < 0.60:  # written twice, the second time at another place and size
            text = ink[pixels_of(scene.marking_box, scene.height, scene.width)]
            second = cv2.resize(_cut(text), (width, height), interpolation=cv2.INTER_AREA)
            image[at] += second * amount * np.float32(0.95) - ink[at] * amount * np.float32(rng.uniform(0.0, 0.8))
        elif kind < 0.97:  # smeared across the whole height of the box
            soot = np.clip(cv2.blur(ink[at], (max(3, width // 12), height)) * np.float32(2.0), 11, 60)
            cloud = np.clip(np.float32(0.9) + np.float32(0.2) * field(rng, height, width, 4, 7), 0.4, 1.4)
            speckle = 1 + np.float32(0.2) * grain(rng, height, width, 1.6)
            image[at] += (soot * cloud * speckle - ink[at] * np.float32(rng.uniform(0.3, 0.9))) * amount
        else:  # faint, broken or missing
            holes = np.clip(field(rng, height, width, 5, 9) * np.float32(2.5) + np.float32(rng.uniform(0.2, 3)), 0, 1)
            image[at] -= ink[at] * holes * amount
        return image


def _ink(scene: Scene) -> F32:
    """The characters alone: cathode lines lie outside the marking's box."""
    ink = np.zeros_like(scene.marking)
    at = pixels_of(scene.marking_box, scene.height, scene.width)
    ink[at] = scene.marking[at]
    return ink


def _cut(text: F32) -> F32:
    rows, columns = np.flatnonzero(text.max(axis=1) > 8), np.flatnonzero(text.max(axis=0) > 8)
    if not len(rows) or not len(columns):
        return text
    return np.ascontiguousarray(text[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _on_text(box: Box, scene: Scene) -> Box:
    """Diodes carry their text above the middle of the body: the box goes with the text."""
    if scene.family == "sot23":
        return box[0] + 0.5, box[1] + 1, box[2] - 0.5, box[3] - 1  # soft focus widens what is drawn
    _, y0, _, y1 = scene.marking_box
    middle = (y0 + y1) / 2 + ((box[1] + box[3]) / 2 - scene.part.y + 10) * 0.5
    half = (box[3] - box[1]) * 0.3
    return box[0], middle - half, box[2], middle + half


class EmptyPocket:
    """The floor with its round ejector mark and cloudy highlights."""

    summary = "No part in the pocket: the floor shows its round mark, and light clouds over the bare plastic."
    count = 203
    whole = True

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Takes the part away."""
        image = scene.under_part.copy()
        height, width = image.shape
        u, v = scene.pocket.grid
        radius = np.float32(0.18 * min(height, width) * rng.uniform(0.9, 1.1))
        ring = np.abs(np.hypot(u - np.float32(rng.normal(-3, 3)), v - np.float32(rng.normal(2, 3))) - radius)
        light = np.clip(np.float32(1.3) - ring, 0, 1) * np.clip(
            1 + field(rng, height, width, 4, 4) * np.float32(0.5), 0.3, 1.5
        )
        image += light * np.float32(rng.uniform(14, 30))
        inside = (np.abs(u) < 0.43 * width) & (np.abs(v) < 0.40 * height)
        cloud = np.clip(field(rng, height, width, 4, 5) - np.float32(0.3), 0, 3)
        away = np.clip((np.hypot(u / width, v / height) - np.float32(0.2)) * 5, 0, 1)
        glare = cloud * away * np.float32(rng.uniform(10, 45)) * (1 + np.float32(0.06) * grain(rng, height, width, 2))
        image += cv2.GaussianBlur(np.where(inside, glare + np.float32(6), 0).astype(np.float32), (0, 0), 2.0)
        return image


class DeviceFlip:
    """The underside: no marking, a round ejector mark, flat dim leads."""

    summary = "The part lies upside down: its underside shows no marking, and its leads lie flat and dim."
    count = 135
    whole = True

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Turns the part over."""
        image = scene.image - scene.marking
        at = scene.part.window(scene.body, 2)
        height, width = image[at].shape
        u, v = scene.part.grid
        surface = (
            np.float32(4)
            + field(rng, height, width, 5, 7) * np.float32(2.5)
            + grain(rng, height, width, 2) * np.float32(1.5)
        )
        image[at] += surface * box_alpha(scene.part, scene.body, at, 2.0)
        radius = np.float32(min(scene.body[3], scene.body[2]) * rng.uniform(0.34, 0.46))
        ring = np.abs(np.hypot(u - np.float32(rng.normal(0, 3)), v - np.float32(rng.normal(0, 2))) - radius)
        image += np.clip(np.float32(1.4) - ring, 0, 1) * np.float32(rng.uniform(16, 30))
        for lead in scene.leads:
            spot = scene.part.window(lead.box, 2)
            cover = box_alpha(scene.part, lead.box, spot, 1.2)
            rows, columns = image[spot].shape
            flat = np.float32(rng.uniform(75, 125)) * (1 + np.float32(0.12) * field(rng, rows, columns, 5, 4))
            flat += grain(rng, rows, columns, 1.5) * np.float32(7)
            image[spot] += (flat - image[spot]) * cover * np.float32(0.92)
        return image


class PocketDamage:
    """Bright creases and cloudy glare around the part."""

    summary = "The pocket of the tape is dented or torn: bright creases and glare around the part."
    count = 5
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Dents the pocket."""
        box = FAMILIES.get(scene.family)().placed(sample_box("pocket_damage", rng), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        free = 1 - np.float32(0.75) * box_alpha(scene.part, scene.body, at, 3.0)
        amount = np.float32(contrast(severity, 7.0, 110.0))
        creases = np.zeros((height, width), np.float32)
        for _ in range(3):
            bent = curve(wandering(rng, 5, 0.5), height, width, float(rng.uniform(1.2, 2.4)))
            creases = np.maximum(creases, bent * np.float32(rng.uniform(0.4, 1)))
        glare = blob(rng, height, width, 0.5, 2.0) * np.clip(
            field(rng, height, width, 5, 5) * np.float32(0.3) + np.float32(0.35), 0.12, 1
        )
        image = scene.image.copy()
        image[at] += (creases + glare * np.float32(0.5)) * free * amount
        return image
