"""Draws one unit: its picture, the truth about its pixels, and its twin without defects."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.data.tape.abnormal import ABNORMAL, displaced, out_of_focus
from knowngood.data.tape.config import TapeConfig
from knowngood.data.tape.defects import DEFECTS
from knowngood.data.tape.families import FAMILIES, Family
from knowngood.data.tape.labels import Plan, plan_unit
from knowngood.data.tape.later import glitched, tin_particles
from knowngood.data.tape.layers.optics import expose, light_field, line_jitter, read_out, scanned, sensor_noise
from knowngood.data.tape.lots import Lot, Machine, lot_of, machine_of
from knowngood.data.tape.scene import F32, U8, Frame, Scene
from knowngood.data.tape.streams import Streams
from knowngood.data.tape.texture import box_alpha

Mask = npt.NDArray[np.bool_]
LEAD, BODY, TAPE, FLOOR = 255, 128, 64, 0  # grey levels of the map of parts
_MIDDLES = {"sod": ((112.0, 118.0), (105.5, 126.0)), "sot23": ((136.0, 140.0), (131.0, 143.0))}


@dataclass(frozen=True)
class DrawnDefect:
    """One defect on the picture.

    Attributes:
        kind: Its type.
        severity: From 0 to 1.
        mask: (H, W) bool, where the picture differs from its twin.
        box: Around the mask, (x0, y0, x1, y1), pixels, half-open.
    """

    kind: str
    severity: float
    mask: Mask
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Drawn:
    """One unit.

    Attributes:
        image: (H, W) uint8.
        twin: (H, W) uint8, the same without defects; the image itself where there are none.
        parts: (H, W) uint8: 255 lead, 128 body, 64 tape and walls, 0 floor.
        defects: Those that can be seen, the worst first.
        plan: What the unit is and how it was labelled.
        lot: Name.
        machine: Name.
        product: Name.
    """

    image: U8
    twin: U8
    parts: U8
    defects: tuple[DrawnDefect, ...]
    plan: Plan
    lot: str
    machine: str
    product: str


def draw_unit(index: int, split: str, config: TapeConfig) -> Drawn:
    """Draws one unit; depends on seed, split and index alone.

    Args:
        index: From 0.
        split: "train" or "test".
        config: Of the set.
    """
    return draw_planned(plan_unit(index, split, config), index, split, config)


def draw_planned(plan: Plan, index: int, split: str, config: TapeConfig) -> Drawn:
    """Draws a unit of which it is decided what it is, for example one with a defect of our choice.

    Args:
        plan: What it is.
        index: From 0; with split and seed it decides everything else.
        split: "train" or "test".
        config: Of the set.
    """
    streams, drift = Streams(config.seed, split, index), config.drift_of(split)
    lot, machine = lot_of(plan.lot, plan.family, config, drift), machine_of(plan.machine, config, drift)
    family = FAMILIES.get(plan.family)()
    scene = _scene(family, plan, lot, machine, streams)
    family.draw_pocket(scene, streams)
    scene.under_part = scene.image.copy()
    family.draw_part(scene, streams)
    if drift:
        tin_particles(scene, drift, streams.of("tin"))
    focus = 1.0
    if plan.abnormal:
        rng = streams.of("abnormal picture")
        scene.image = ABNORMAL[plan.abnormal](scene, rng)
        focus = out_of_focus(rng) if plan.abnormal == "blurred" else 1.0
    camera = _Camera(family, lot, machine, streams, focus, drift)
    sound = camera.exposed(scene.image)
    spoiled, defects = _spoil(scene, plan, sound, camera, streams)
    twin = camera.read(sound)
    image = camera.read(spoiled) if defects else twin
    parts = np.zeros_like(image) if plan.abnormal in ("burnt_out", "empty_frame") else _parts(scene)
    return Drawn(image, twin, parts, defects, plan, lot.name, machine.name, family.product(scene))


class _Camera:
    """The same light, focus and noise for a unit and its twin."""

    def __init__(
        self, family: Family, lot: Lot, machine: Machine, streams: Streams, focus: float, drift: float
    ) -> None:
        size = family.height, family.width
        self.machine, self.focus, self.drift, self.streams = machine, focus, drift, streams
        self.light = light_field(*size, lot, machine, streams.of("light"))
        self.noise = sensor_noise(*size, streams.of("noise"), family.softness)
        self.jitter = line_jitter(*size, streams.of("scan"), family.scan)

    def exposed(self, image: F32) -> F32:
        exposed = expose(image, self.light, self.machine, self.focus)
        return np.minimum(scanned(exposed, self.jitter), np.float32(262))

    def read(self, exposed: F32) -> U8:
        if self.drift:
            exposed = glitched(exposed, self.drift, self.streams.of("glitch"))
        return read_out(exposed, self.noise, self.machine)


def _scene(family: Family, plan: Plan, lot: Lot, machine: Machine, streams: Streams) -> Scene:
    size = family.height, family.width
    rng = streams.of("place")
    pocket_at, body_at = _MIDDLES[plan.family]
    shift_x, shift_y, turn, part_x, part_y, part_turn = np.clip(rng.standard_normal(6), -3, 3).tolist()
    x, y = machine.dx + 2.0 * shift_x, machine.dy + 3.0 * shift_y
    tilt = machine.tilt + 0.006 * turn
    pocket = Frame(pocket_at[0] + x, pocket_at[1] + y, tilt, family.width, family.height)
    at = body_at[0] + x + 3.5 * part_x, body_at[1] + y + 3.5 * part_y
    part = Frame(*at, tilt + 0.042 * part_turn, family.width, family.height)
    blank = np.zeros(size, np.float32)
    tape = np.zeros(size, np.bool_)
    scene = Scene(blank, pocket, part, lot, plan.family, marking=blank.copy(), tape=tape, scan=family.scan)
    return displaced(scene, streams.of("cell")) if plan.abnormal == "wrong_cell" else scene


def _spoil(
    scene: Scene, plan: Plan, sound: F32, camera: _Camera, streams: Streams
) -> tuple[F32, tuple[DrawnDefect, ...]]:
    """Draws one defect after the other; each keeps only the pixels where it can be seen."""
    spoiled, found = sound, []
    for number, (kind, severity) in enumerate(plan.defects):
        image = DEFECTS.get(kind)().draw(scene, severity, streams.of(f"defect {number}"))
        after = camera.exposed(image)
        before = camera.exposed(scene.image) if number else sound
        mask = visible(np.minimum(after, 255), np.minimum(before, 255))
        box = _box_of(mask)
        if box is not None:
            spoiled = np.where(mask, after, spoiled)
            found.append(DrawnDefect(kind, severity, mask, box))
        scene.image = image
    return spoiled, tuple(found)


def visible(after: F32, before: F32) -> Mask:
    """Says where a defect can be seen: a clean outline around what differs by more than a share of the most.

    Args:
        after: (H, W) float32 with the defect, without noise.
        before: The same without it.

    Returns:
        (H, W) bool; small islands are left out, small holes are filled.
    """
    difference = np.abs(after - before)
    threshold = min(max(0.08 * float(difference.max()), 0.9), 3.0)
    rough = (difference > threshold).astype(np.uint8)
    rough = cv2.morphologyEx(rough, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(rough, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    keep = areas >= max(5.0, 0.004 * float(areas[1:].max())) if count > 1 else np.zeros(1, np.bool_)
    keep[0] = False
    return np.asarray(keep[labels])


def _box_of(mask: Mask) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _parts(scene: Scene) -> U8:
    parts = np.where(scene.tape, np.uint8(TAPE), np.uint8(FLOOR))
    _, v = scene.pocket.grid
    parts[np.abs(v + np.float32(0.01 * scene.height)) > 0.40 * scene.height] = TAPE
    at = scene.part.window(scene.body, 2)
    parts[at][box_alpha(scene.part, scene.body, at) > 0.5] = BODY
    for lead in scene.leads:
        at = scene.part.window(lead.box, 2)
        parts[at][box_alpha(scene.part, lead.box, at) > 0.5] = LEAD
    return parts
