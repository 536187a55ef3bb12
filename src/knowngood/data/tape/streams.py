"""One random stream for each thing that is drawn, so that adding a defect moves nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


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
