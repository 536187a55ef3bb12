"""The deep features that the station has at hand: a row a photograph, in memory, and kept in the user's cache."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from knowngood.errors import StorageError
from knowngood.models.feature_cache import FeatureCache

MOST = 100_000  # rows in memory, 200 MB; the oldest leave first
_SHARD = 512  # rows that are written to the cache at once

Rows = npt.NDArray[np.float32]


class DeepFeatures:
    """Rows by the SHA-256 of their photographs; any thread may ask.

    Args:
        made_by: Everything that decides a row besides the photograph, see `FeatureCache`.
    """

    def __init__(self, made_by: object) -> None:
        self._cache = FeatureCache(made_by)
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, Rows] = OrderedDict()
        self._unkept: dict[str, Rows] = {}

    def add(self, digests: Sequence[str], rows: Rows) -> None:
        """Takes rows (N, D) in; they are on the disk after `flush`, or when there are many."""
        with self._lock:
            for digest, row in zip(digests, rows, strict=True):
                if digest not in self._rows and np.isfinite(row).all():
                    self._unkept[digest] = row
                    self._remember(digest, row)
            full = len(self._unkept) >= _SHARD
        if full:
            self.flush()

    def lacking(self, digests: Sequence[str]) -> list[str]:
        """Returns those that have no row yet, neither in memory nor in the cache."""
        with self._lock:
            wanted = [digest for digest in dict.fromkeys(digests) if digest not in self._rows]
            for place, row in self._cache.take(wanted).items() if wanted else ():
                self._remember(wanted[place], row)
            return [digest for digest in wanted if digest not in self._rows]

    def of(self, digests: Sequence[str]) -> tuple[list[int], Rows]:
        """Returns the places of those that are in memory, and their rows (M, D) in that order."""
        with self._lock:
            found = [(place, self._rows[d]) for place, d in enumerate(digests) if d in self._rows]
        rows = np.stack([row for _, row in found]) if found else np.empty((0, 0), np.float32)
        return [place for place, _ in found], rows

    def flush(self) -> None:
        """Writes what the cache lacks; a full disk costs the rows, not the station."""
        with self._lock:
            digests, rows = list(self._unkept), list(self._unkept.values())
            self._unkept.clear()
            if rows:
                with contextlib.suppress(StorageError, OSError):
                    self._cache.add(digests, np.stack(rows))

    def _remember(self, digest: str, row: Rows) -> None:
        self._rows[digest] = row
        while len(self._rows) > MOST:
            self._rows.popitem(last=False)
