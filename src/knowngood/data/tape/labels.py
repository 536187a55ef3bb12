"""What a unit is, before anything is drawn: good or bad, with which defects, how it was labelled, where it was shot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from knowngood.data.tape.abnormal import ABNORMAL, UNUSABLE
from knowngood.data.tape.config import TapeConfig
from knowngood.data.tape.defects import DEFECTS
from knowngood.data.tape.streams import Streams, stream

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
