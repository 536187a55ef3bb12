"""Lead defect: a lead that is bent, notched, broadened, of the wrong brightness, or missing."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.families import FAMILIES
from knowngood.data.tape.places import sample_box
from knowngood.data.tape.placing import on_lead
from knowngood.data.tape.scene import F32, Box, Lead, Scene
from knowngood.data.tape.shapes import blob, contrast, pixels_of, size_of
from knowngood.data.tape.texture import box_alpha, field


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
