"""What a unit is, before anything is drawn: good or bad, with which defects, how it was labelled, where it was shot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from knowngood.lookalike.abnormal import ABNORMAL, UNUSABLE, displaced, glitched, out_of_focus, tin_particles
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.defects import DEFECTS
from knowngood.lookalike.families import FAMILIES, Family
from knowngood.lookalike.lots import Lot, Machine, Streams, lot_of, machine_of, stream
from knowngood.lookalike.scene import F32, U8, Frame, Scene
from knowngood.lookalike.surface import box_alpha, expose, light_field, line_jitter, read_out, scanned, sensor_noise

BORDER = 0.06  # severity from which a fault makes a unit bad
_BLOCK = 1000  # the share of bad units is exact in every block of so many
_BLEMISHED = 0.05  # good units with a fault below the border
_SUREST = 0.9  # even the faintest defect is seen now and then
_SECOND = 0.06  # bad units with a second defect


@dataclass(frozen=True)
class Plan:
    """The truth about one unit and what its label says.

    Attributes:
        family: Name of its package family.
        lot: Number of its lot.
        machine: Number of its machine.
        bad: The truth.
        labelled_bad: What the label says.
        defects: Type and severity of each defect, the worst first; of good units, faults below the border.
        abnormal: Kind of an abnormal picture, or None.
    """

    family: str
    lot: int
    machine: int
    bad: bool
    labelled_bad: bool
    defects: tuple[tuple[str, float], ...]
    abnormal: str | None

    @property
    def severity(self) -> float:
        """Of the worst defect; 0 without any."""
        return max((severity for _, severity in self.defects), default=0.0)


def plan_unit(index: int, split: str, config: TapeConfig) -> Plan:
    """Decides what one unit is; depends on seed, split and index alone, never on how many there are.

    Args:
        index: From 0.
        split: "train" or "test".
        config: Of the set.
    """
    streams = Streams(config.seed, split, index)
    rng = streams.of("origin")
    sod = config.family == "sod" or (config.family == "mixed" and rng.random() < 0.5)
    lot, machine = int(rng.random() * config.lots), int(rng.random() * config.machines)
    abnormal = _abnormal(streams.of("abnormal"), config.abnormal)
    bad = _is_bad(index, split, config)
    defects = _faults(bad, streams.of("defects"), config)
    if abnormal in UNUSABLE:
        bad, defects = True, ()
    label = streams.of("label").random()
    if bad:
        hidden = 0.0 if abnormal in UNUSABLE or not defects else hiding_chance(defects[0][1], config)
        labelled = label >= hidden
    else:
        labelled = bool(defects) and label < min(0.5, 0.1 * config.label_noise / _BLEMISHED)
    return Plan("sod" if sod else "sot23", lot, machine, bad, labelled, defects, abnormal)


def severity_shape(config: TapeConfig) -> tuple[float, float]:
    """Returns the two parameters of the Beta distribution that severities above the border follow."""
    return 1.5 + 2.2 * (1 - config.difficulty), 0.7 + 1.4 * config.difficulty


def hiding_chance(severity: float, config: TapeConfig) -> float:
    """Returns the probability that a bad unit was labelled good: the fainter, the likelier.

    Args:
        severity: Of its worst defect.
        config: Gives label noise and the share of bad units; with them the share of bad units among those labelled
            good comes out as `label_noise`.
    """
    if not 0 < config.bad_rate < 1:
        return 0.0
    noise = config.label_noise
    among_bad = noise * (1 - config.bad_rate) / (config.bad_rate * (1 - noise))
    position = (severity - BORDER) / (1 - BORDER)
    return float(min(_SUREST, _strength(among_bad, *severity_shape(config)) * (1 - position) ** 3))


@lru_cache(maxsize=16)
def _strength(share: float, a: float, b: float) -> float:
    """Returns k for which min(0.9, k (1 - x)^3), averaged over x of Beta(a, b), is the share that is to be hidden."""
    faint = (1 - beta.ppf((np.arange(2000) + 0.5) / 2000, a, b)) ** 3
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(_SUREST, middle * faint).mean() < share else (low, middle)
    return high


def _is_bad(index: int, split: str, config: TapeConfig) -> bool:
    block, place = divmod(index, _BLOCK)
    number = block * _BLOCK + int(_shuffled(config.seed, split, block)[place])
    return int((number + 1) * config.bad_rate + 1e-9) > int(number * config.bad_rate + 1e-9)


@lru_cache(maxsize=16)
def _shuffled(seed: int, split: str, block: int) -> npt.NDArray[np.int64]:
    return stream(seed, split, "block", block).permutation(_BLOCK)


@lru_cache(maxsize=1)
def _types() -> tuple[tuple[str, ...], npt.NDArray[np.float64], frozenset[str]]:
    counts = np.array([kind.count for _, kind in DEFECTS.items()], float)
    return tuple(DEFECTS), counts / counts.sum(), frozenset(name for name, kind in DEFECTS.items() if kind.whole)


def _faults(bad: bool, rng: np.random.Generator, config: TapeConfig) -> tuple[tuple[str, float], ...]:
    names, shares, whole = _types()
    blemished, second = rng.random(2)
    kinds = [names[int(k)] for k in rng.choice(len(names), 2, p=shares)]
    severities = BORDER + (1 - BORDER) * rng.beta(*severity_shape(config), 2)
    if not bad:
        faint = float(BORDER * rng.uniform(0.1, 1.0))
        return ((kinds[0], faint),) if blemished < _BLEMISHED and kinds[0] not in whole else ()
    if kinds[0] in whole:
        return ((kinds[0], float(max(0.7, severities[0]))),)
    found = [(kinds[0], float(severities[0]))]
    if second < _SECOND and kinds[1] not in whole:
        found.append((kinds[1], float(severities[1])))
    return tuple(sorted(found, key=lambda one: -one[1]))


def _abnormal(rng: np.random.Generator, rate: float) -> str | None:
    chance, which = rng.random(2)
    names = tuple(ABNORMAL)
    return names[int(which * len(names))] if chance < rate else None


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
    """Returns where a defect can be seen: a clean outline around what differs by more than a share of the most.

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
