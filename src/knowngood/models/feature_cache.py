"""Features kept on disk by the content of the photograph and by everything that made them.

Shards are written whole under names of their own, so a killed run keeps what it had, two runs can fill one cache,
and a changed photograph costs one row.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from knowngood.files import cache_folder, whole_file

FORMAT = 1  # part of every key: raised when the same inputs would give other features

Rows = npt.NDArray[np.float32]


class FeatureCache:
    """Feature rows of one way of making them.

    Args:
        made_by: Everything that decides a row besides the photograph: network, weights, sizes, stages (JSON types).
        folder: Where the shards are; the user's cache by default.
    """

    def __init__(self, made_by: object, folder: Path | None = None) -> None:
        key = hashlib.sha256(json.dumps([FORMAT, made_by], sort_keys=True).encode()).hexdigest()[:24]
        self.folder = (folder or cache_folder("features")) / key
        self._places: dict[str, tuple[Path, int]] = {}
        self._read: set[Path] = set()

    def missing(self, digests: Sequence[str | None]) -> npt.NDArray[np.int64]:
        """Returns the indices of photographs whose features are not kept (None is never kept)."""
        self._look()
        return np.array([i for i, digest in enumerate(digests) if digest not in self._places], np.int64)

    def add(self, digests: Sequence[str | None], rows: Rows) -> None:
        """Keeps rows (N, D) under the SHA-256 of their photographs.

        Raises:
            StorageError: The cache's disk is full.
        """
        named = [i for i, digest in enumerate(digests) if digest is not None]
        if not named:
            return
        keys = np.frombuffer(b"".join(bytes.fromhex(str(digests[i])) for i in named), np.uint8).reshape(-1, 32)
        with whole_file(self.folder / f"{secrets.token_hex(8)}.safetensors") as scratch:
            save_file({"keys": keys, "rows": np.ascontiguousarray(rows[named], np.float32)}, scratch)

    def take(self, digests: Sequence[str | None]) -> dict[int, Rows]:
        """Returns index to row (D,) for the photographs that are kept."""
        self._look()
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for index, digest in enumerate(digests):
            if digest in self._places:
                path, row = self._places[digest]
                wanted.setdefault(path, []).append((index, row))
        found: dict[int, Rows] = {}
        for path, pairs in wanted.items():
            with safe_open(path, framework="np") as handle:
                rows = handle.get_tensor("rows")
            found |= {index: rows[row] for index, row in pairs}
        return found

    def _look(self) -> None:
        for path in sorted(self.folder.glob("*.safetensors")) if self.folder.is_dir() else []:
            if path in self._read:
                continue
            self._read.add(path)
            try:
                with safe_open(path, framework="np") as handle:
                    keys = handle.get_tensor("keys")
            except (SafetensorError, OSError):
                path.unlink(missing_ok=True)  # damaged: its rows are computed again
                continue
            self._places |= {bytes(key).hex(): (path, row) for row, key in enumerate(keys)}
