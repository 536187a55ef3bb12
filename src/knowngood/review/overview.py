"""Views over all photographs of the record (neighbours, map, copies, distance of lots), computed in the background."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from knowngood.data.records import BAD, GOOD
from knowngood.review.inspector import Prepared, Rows
from knowngood.review.neighbours import Copies, Known, copies_of, strangeness
from knowngood.review.station import Station
from knowngood.review.store.inspections import Row
from knowngood.review.workers import Worker

MOST = 40_000  # photographs of one view, the newest
_EVERY = 5.0  # seconds between two updates
_SLOWLY = 30.0  # seconds between two updates while only verdicts are added
_CHUNK = 16  # photographs embedded before inspections get a turn
_PIECE = 1024  # photographs after which an intermediate view is published
_QUIET, _PATIENCE = 0.3, 2.0  # seconds without an inspection to wait for, and longest wait


@dataclass(frozen=True)
class View:
    """One consistent view of the record.

    Attributes:
        known: Labelled photographs with features; None before the first update.
        labelled: How many labelled photographs there are, with features or without.
        strange: "lot" and "machine" to inspection to distance, see `strangeness`.
        copies: Groups of copies; None before the first search.
        left_out: Photographs left out of the search for copies, because there are too many.
    """

    known: Known | None = None
    labelled: int = 0
    strange: dict[str, dict[int, float]] = field(default_factory=dict)
    copies: list[Copies] | None = None
    left_out: int = 0


class Overview(Worker):
    """Worker that keeps a view of the record up to date; inspections always have priority.

    Args:
        station: Whose record and network.
        every: Seconds between two updates.
    """

    def __init__(self, station: Station, every: float = _EVERY) -> None:
        super().__init__("overview", every)
        self.station = station
        self.view = View()
        self.progress = (0, 0)  # photographs without features yet: done, all
        self._seen: tuple[int, ...] = (-1,)
        self._copied: frozenset[tuple[str, str, str]] = frozenset()
        self._broken: set[str] = set()
        self._updated_at = float("-inf")

    def step(self) -> None:
        """Updates the view where it is due."""
        if self._is_due():
            self.update()

    def stop(self, timeout: float = 10.0) -> None:
        """Stops the worker and saves the features that were computed."""
        super().stop(timeout)
        self.station.features.flush()

    def _is_due(self) -> bool:
        """Returns whether the record has changed; after verdicts alone, not before `_SLOWLY` seconds have passed."""
        state = self.station.record.state()
        if (state[0], state[2:4]) == (self._seen[0], self._seen[2:4]) and time.monotonic() - self._updated_at < _SLOWLY:
            return False
        self._updated_at = time.monotonic()
        return True

    def update(self) -> None:
        """Computes the missing features, and a new view where the record has changed."""
        record, scoring = self.station.record, self.station.scoring
        state = record.state()
        if state == self._seen:
            self.station.features.flush()
            return
        labelled = record.labels.scored(scoring)[-MOST:]
        lots: list[Row] = []
        if state[0] != self._seen[0]:  # otherwise the lots have not changed
            lots = [row for row in record.inspections.by_lot() if row["lot"] or row["machine"]][-MOST:]
        wanted = [row["sha256"] for row in (*labelled, *lots)]
        lacking = [d for d in self.station.features.lacking(wanted) if d not in self._broken]
        self._publish(labelled, lots)
        self.progress = (0, len(lacking))
        for start in range(0, len(lacking), _CHUNK):
            if self.done.is_set():
                return
            self._wait_for_inspections()
            self._embed(lacking[start : start + _CHUNK])
            self.progress = (min(start + _CHUNK, len(lacking)), len(lacking))
            if start % _PIECE == _PIECE - _CHUNK:
                self._publish(labelled, lots)
        if lacking:
            self._publish(labelled, lots)
        self._find_copies()
        self._seen = state

    def neighbours(self, row: Row) -> tuple[dict[int, Row | None], str]:
        """Returns the nearest known good and bad (0, 1) of an inspection's photograph, and why one is missing."""
        known = self.view.known
        counts = known.counts() if known is not None else {GOOD: 0, BAD: 0}
        if known is None or not any(counts.values()):
            return {GOOD: None, BAD: None}, self._why_nothing()
        features = self._features_of(row)
        if features is None:
            return {GOOD: None, BAD: None}, "This photograph cannot be read again, so nothing is compared with it."
        found = known.nearest(features, row["unit"], row["sha256"], row["lot"])
        lacks = [name for label, name in ((GOOD, "good"), (BAD, "bad")) if found[label] is None]
        why = f"No other photograph has the label {' or '.join(lacks)} and is not in the queue." if lacks else ""
        return found, why

    def _why_nothing(self) -> str:
        done, everything = self.progress
        if done < everything:
            return f"Photographs are being compared: {done} of {everything}."
        if self.view.known is None:
            return "The labelled photographs are being compared."
        if self.view.labelled:
            return "Every labelled photograph that is still there is in the queue itself; give some verdicts first."
        return "No photograph has a label yet: serve with --data, or give some verdicts."

    def _features_of(self, row: Row) -> Rows | None:
        for _ in range(2):
            _, rows = self.station.features.of([row["sha256"]])
            if len(rows):
                return np.asarray(rows[0], np.float32)
            if self.station.features.lacking([row["sha256"]]):
                self._embed([row["sha256"]])
        return None

    def _publish(self, labelled: Sequence[Row], lots: Sequence[Row]) -> None:
        places, rows = self.station.features.of([row["sha256"] for row in labelled])
        queued = self.station.record.queue.waiting()
        known = Known([labelled[place] for place in places], rows, queued)
        self.view = replace(self.view, known=known, labelled=len(labelled))
        places, rows = self.station.features.of([row["sha256"] for row in lots])
        seen = [lots[place] for place in places]
        if seen:
            strange = {group: strangeness(seen, rows, group) for group in ("lot", "machine")}
            self.view = replace(self.view, strange=strange)

    def _embed(self, digests: Sequence[str]) -> None:
        prepared: list[tuple[str, Prepared]] = []
        self.moves()
        for digest in digests:
            try:
                data = self.station.bytes_of(digest)
                most = self.station.settings.max_pixels
                prepared.append((digest, self.station.inspector.prepare(data, digest[:12], most)))
            except Exception:
                self._broken.add(
                    digest
                )  # not kept, gone, damaged, or of a kind that breaks what reads it: asked for once
        if prepared:
            rows = self.station.inspector.embed([one for _, one in prepared])
            self.station.features.add([digest for digest, _ in prepared], rows)

    def _wait_for_inspections(self) -> None:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() - self.station.inspector.scored_at < _QUIET and time.monotonic() < until:
            if self.done.wait(0.05):
                return

    def _find_copies(self) -> None:
        rows = self.station.record.labels.photographs(self.station.scoring)
        names = frozenset((row["data"], row["image"], row["sha256"]) for row in rows)
        if names == self._copied and self.view.copies is not None:
            return
        left_out = max(0, len(rows) - MOST)
        self.view = replace(self.view, copies=copies_of(rows[:MOST]), left_out=left_out)
        self._copied = names
