"""One seed for each thing that is drawn by PyTorch, so that thing k can be drawn again without those before it."""

from __future__ import annotations

import numpy as np


def seed_of(*parts: int) -> int:
    """Returns a seed, 0 .. 2^63 - 1, that belongs to these numbers in this order; others give an independent one.

    Args:
        *parts: At least 0 each, for example the seed of a set and the number of an image.
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
