"""One random stream for each thing that is drawn, so that adding a defect moves nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from knowngood.lookalike.config import TapeConfig


def stream(seed: int, *names: object) -> np.random.Generator:
    """Returns the generator that belongs to a name; any other name gives an independent one.

    Args:
        seed: Seed of the data set.
        *names: What is drawn, for example ("train", 17, "body").
    """
    text = "/".join(map(str, (seed, *names)))
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


@dataclass(frozen=True)
class Streams:
    """The streams of one unit."""

    seed: int
    split: str
    index: int

    def of(self, layer: str) -> np.random.Generator:
        """Returns the generator of one layer of this unit, always from its beginning."""
        return stream(self.seed, self.split, self.index, layer)


# Codes seen in the contest's pictures and image names; others are made of the same characters.
DIODE_CODES = [
    "A6",
    "A7",
    "ZK",
    "JN",
    "L5",
    "VM",
    "AM",
    "AP",
    "ZF",
    "NZ",
    "V3",
    "A8",
    "ZT",
    "ZA",
    "ZH",
    "T6",
    "S2",
    "CD",
    "Z9",
    "E3",
    "A5",
    "W3",
    "K1",
    "JB",
]
SOT_CODES = [
    "5CW",
    "TVW",
    "1FW",
    "WDV",
    "WCM",
    "210",
    "A1W",
    "WH2",
    "LJW",
    "6BW",
    "Z7W",
    "JVW",
    "JSW",
    "W1A",
    "A4W",
    "1BW",
    "WU1",
    "Z3W",
    "2NW",
    "W4T",
    "W2X",
    "7AW",
]
DATE_CODES = ["99", "66", "98", "96", "97", "90", "93"]


@dataclass(frozen=True)
class Lot:
    """What the units of one lot share.

    Attributes:
        name: For the manifest.
        code: Main marking.
        date: The two small digits (SOT23), or the upper line (tall diode).
        font: Which laser wrote it: 0 solid, 1 outline, 2 thin, 3 grainy.
        stretch: Width of the characters, 1 = usual.
        brightness: Of everything, 1 = usual.
        line_level: Grey levels that cathode lines and marking add to the body.
        outline: Grey levels that the body's edge adds.
        foot: Level of the lead's foot, 1 = usual.
        floor: 0 plain, 1 crackled floor.
        variant: Number in [0, 1) that picks the family's variant.
        double_edge: Whether the body shows a second, ghost outline.
    """

    name: str
    code: str
    date: str
    font: int
    stretch: float
    brightness: float
    line_level: float
    outline: float
    foot: float
    floor: int
    variant: float
    double_edge: bool


@dataclass(frozen=True)
class Machine:
    """One camera and its light.

    Attributes:
        name: For the manifest.
        gain: Brightness of its pictures, 1 = usual.
        blur: Sigma of its soft focus, pixels.
        noise: Sigma of its noise, grey levels, at the floor's level.
        dx: Framing: shift of everything, pixels.
        dy: The same, downwards.
        tilt: Turn of everything, radians.
        light: Direction of the unevenness of its light, radians.
        uneven: Its strength.
        dead: (N, 3) row and column as shares of the picture, and level of each dead pixel.
    """

    name: str
    gain: float
    blur: float
    noise: float
    dx: float
    dy: float
    tilt: float
    light: float
    uneven: float
    dead: tuple[tuple[float, float, float], ...]


def lot_of(number: int, family: str, config: TapeConfig, drift: float) -> Lot:
    """Returns a lot; the same number gives the same lot in every set of the seed.

    Args:
        number: From 0.
        family: Name of the package family.
        config: Of the set.
        drift: 0 for the first batch; up to 1 for a batch from another time.
    """
    rng = stream(config.seed, "lot", family, number)
    codes = DIODE_CODES if family == "sod" else SOT_CODES
    code = codes[int(rng.integers(len(codes)))]
    date = DATE_CODES[int(rng.choice(len(DATE_CODES), p=[0.55, 0.12, 0.07, 0.07, 0.07, 0.07, 0.05]))]
    font = int(rng.choice(4, p=[0.45, 0.25, 0.15, 0.15]))
    stretch, brightness = float(rng.normal(1, 0.05)), float(np.exp(rng.normal(0, 0.08)))
    bright_lot = rng.random() < 0.35
    line = float(rng.uniform(70, 100) if bright_lot else rng.uniform(28, 55))
    if family == "sot23":
        line = float(rng.uniform(28, 52))
    outline, foot = float(rng.uniform(20, 42) + 25 * bright_lot), float(np.exp(rng.normal(0, 0.18)))
    floor, variant, double = int(rng.random() < 0.25), float(rng.random()), bool(rng.random() < 0.6)
    later = stream(config.seed, "lot", family, number, "drift")
    if later.random() < drift:  # another laser, other products
        code = codes[int(later.integers(len(codes)))][::-1]
        font = int(later.choice(4))
        floor = int(later.random() < 0.8)
    brightness *= float(np.exp(drift * later.normal(-0.18, 0.10)))
    line *= 1 - 0.3 * drift * float(later.random())
    name = f"L{number:04d}" + ("D" if drift else "")
    return Lot(name, code, date, font, stretch, brightness, line, outline, foot, floor, variant, double)


def machine_of(number: int, config: TapeConfig, drift: float) -> Machine:
    """Returns a machine; the same number gives the same machine in every set of the seed."""
    rng = stream(config.seed, "machine", number)
    later = stream(config.seed, "machine", number, "drift")
    gain = float(np.exp(rng.normal(0, 0.05) + drift * later.normal(0, 0.06)))
    blur = float(rng.uniform(0.55, 0.85) + drift * later.uniform(0.1, 0.5))
    noise = float(rng.uniform(1.75, 2.05) + drift * later.uniform(0, 0.6))
    dx, dy = rng.normal(0, 1.3, 2) + drift * later.normal(0, 4.0, 2)
    tilt, light, uneven = float(rng.normal(0, 0.005)), float(rng.uniform(0, 6.28)), float(rng.uniform(0.02, 0.08))
    count = int(rng.integers(0, 3))
    dead = tuple((float(a), float(b), float(c)) for a, b, c in rng.random((count, 3)))
    name = f"M{number:02d}" + ("D" if drift else "")
    return Machine(name, gain, blur, noise, float(dx), float(dy), tilt, light, uneven, dead)
