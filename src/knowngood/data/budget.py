"""The memory that all decoding in this process may take at once, and the settings that raise it.

`KNOWNGOOD_DECODE_MEMORY` ("2GiB", "512MiB", or bytes) is the budget, 1 GiB by default. `KNOWNGOOD_MAX_PIXELS` is the
size of the largest photograph, 100,000,000 pixels by default. Each process has a budget of its own.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from knowngood.errors import ConfigError, ImageError

MEMORY, PIXELS = "KNOWNGOOD_DECODE_MEMORY", "KNOWNGOOD_MAX_PIXELS"
MAX_PIXELS = 100_000_000
DEFAULT_MEMORY = 1 << 30
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def decode_memory() -> int:
    """Returns the budget in bytes.

    Raises:
        ConfigError: `KNOWNGOOD_DECODE_MEMORY` cannot be read.
    """
    text = os.environ.get(MEMORY, "").strip()
    found = _AMOUNT.fullmatch(text)
    if text and (found is None or not float(found[1])):
        raise ConfigError(f"{MEMORY} is {text!r}.", expected="an amount such as 2GiB or 512MiB")
    return int(float(found[1]) * _UNITS[found[2].upper()]) if found else DEFAULT_MEMORY


def max_pixels() -> int:
    """Returns how many pixels a photograph may have.

    Raises:
        ConfigError: `KNOWNGOOD_MAX_PIXELS` cannot be read.
    """
    text = os.environ.get(PIXELS, "").strip().replace(",", "").replace("_", "")
    if text and (not text.isdigit() or not int(text)):
        raise ConfigError(f"{PIXELS} is {text!r}.", expected="a number of pixels such as 200000000")
    return int(text) if text else MAX_PIXELS


class Room:
    """A budget of bytes that threads wait for, first come, first served."""

    def __init__(self) -> None:
        self.used = 0
        self._turn = threading.Condition()
        self._line: deque[object] = deque()

    @contextmanager
    def holding(self, need: int, wish: int, name: str) -> Iterator[None]:
        """Holds room while a photograph is decoded; waits until there is some.

        Args:
            need: Bytes without which it cannot be decoded.
            wish: Bytes with what is done to it afterwards, at least `need`; less is held where the budget is smaller.
            name: How messages call the image.

        Raises:
            ImageError: It needs more than the whole budget.
        """
        total = decode_memory()
        if need > total:
            raise ImageError(
                f"{name!r} is too large to decode: it takes about {need / 2**30:.2f} GiB of memory.",
                expected=f"at most {total / 2**30:.2f} GiB",
                fix=f"Crop it, or allow more with the environment variable {MEMORY}, such as 4GiB.",
            )
        held, place = min(wish, total), object()
        with self._turn:
            self._line.append(place)
            try:
                self._turn.wait_for(lambda: self._line[0] is place and self.used + held <= total)
            finally:
                self._line.remove(place)
                self._turn.notify_all()
            self.used += held
        try:
            yield
        finally:
            with self._turn:
                self.used -= held
                self._turn.notify_all()


ROOM = Room()
