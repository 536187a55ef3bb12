"""What the record's photographs are together: neighbours, map, copies, strangeness. Made beside the work, in turns."""

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
_EVERY = 5.0  # seconds between two looks at the record
_SLOWLY = 30.0  # seconds between two looks while only verdicts come
_CHUNK = 16  # photographs between two looks whether somebody sends any
_PIECE = 1024  # photographs after which what is there is shown
_QUIET, _PATIENCE = 0.3, 2.0  # seconds since the last inspection that is waited for, and for how long


@dataclass(frozen=True)
class View:
    """What is known at one moment.

    Attributes:
        known: Labelled photographs with features; None before the first look.
        labelled: How many labelled photographs there are, with features or without.
        strange: "lot" and "machine" to inspection to distance, see `strangeness`.
        copies: Groups of copies; None before they were looked for.
        left_out: Photographs of data sets in which no copies were looked for, because there are too many.
    """

    known: Known | None = None
    labelled: int = 0
    strange: dict[str, dict[int, float]] = field(default_factory=dict)
    copies: list[Copies] | None = None
    left_out: int = 0


class Overview(Worker):
    """Keeps a view of the record fresh; photographs that are sent always go first.

    Args:
        station: Whose record and network.
        every: Seconds between two looks.
    """

    def __init__(self, station: Station, every: float = _EVERY) -> None:
        super().__init__("overview", every)
        self.station = station
        self.view = View()
        self.progress = (0, 0)  # photographs without features yet: done, all
        self._seen: tuple[int, ...] = (-1,)
        self._copied: frozenset[tuple[str, str, str]] = frozenset()
        self._broken: set[str] = set()
        self._looked_at = float("-inf")

    def step(self) -> None:
        """Looks once, where something came."""
        if self._worth_a_look():
            self.look()

    def stop(self, timeout: float = 10.0) -> None:
        """Ends it, and keeps the features that were made."""
        super().stop(timeout)
        self.station.features.flush()

    def _worth_a_look(self) -> bool:
        """Says whether something came, or enough time has gone by since the last look: verdicts alone can wait."""
        state = self.station.record.state()
        if (state[0], state[2:4]) == (self._seen[0], self._seen[2:4]) and time.monotonic() - self._looked_at < _SLOWLY:
            return False
        self._looked_at = time.monotonic()
        return True

    def look(self) -> None:
        """Looks once: makes the features that are missing, and a new view where the record has changed."""
        record, scoring = self.station.record, self.station.scoring
        state = record.state()
        if state == self._seen:
            self.station.features.flush()
            return
        labelled = record.labels.scored(scoring)[-MOST:]
        lots: list[Row] = []
        if state[0] != self._seen[0]:  # else what is said of lots has not changed
            lots = [row for row in record.inspections.by_lot() if row["lot"] or row["machine"]][-MOST:]
        wanted = [row["sha256"] for row in (*labelled, *lots)]
        lacking = [d for d in self.station.features.lacking(wanted) if d not in self._broken]
        self._show(labelled, lots)
        self.progress = (0, len(lacking))
        for start in range(0, len(lacking), _CHUNK):
            if self.done.is_set():
                return
            self._give_way()
            self._embed(lacking[start : start + _CHUNK])
            self.progress = (min(start + _CHUNK, len(lacking)), len(lacking))
            if start % _PIECE == _PIECE - _CHUNK:
                self._show(labelled, lots)
        if lacking:
            self._show(labelled, lots)
        self._look_for_copies()
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
        why = f"No other photograph is known to be {' or '.join(lacks)} without doubt." if lacks else ""
        return found, why

    def _why_nothing(self) -> str:
        done, everything = self.progress
        if done < everything:
            return f"Photographs are being compared: {done} of {everything}."
        if self.view.known is None:
            return "The known photographs are being looked at."
        if self.view.labelled:
            return "Every labelled photograph that is still there waits in the queue itself; judge some first."
        return "No photograph has a label yet: serve with --data, or judge some."

    def _features_of(self, row: Row) -> Rows | None:
        for _ in range(2):
            _, rows = self.station.features.of([row["sha256"]])
            if len(rows):
                return np.asarray(rows[0], np.float32)
            if self.station.features.lacking([row["sha256"]]):
                self._embed([row["sha256"]])
        return None

    def _show(self, labelled: Sequence[Row], lots: Sequence[Row]) -> None:
        places, rows = self.station.features.of([row["sha256"] for row in labelled])
        doubted = self.station.record.queue.waiting()
        known = Known([labelled[place] for place in places], rows, doubted)
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

    def _give_way(self) -> None:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() - self.station.inspector.scored_at < _QUIET and time.monotonic() < until:
            if self.done.wait(0.05):
                return

    def _look_for_copies(self) -> None:
        rows = self.station.record.labels.photographs(self.station.scoring)
        names = frozenset((row["data"], row["image"], row["sha256"]) for row in rows)
        if names == self._copied and self.view.copies is not None:
            return
        left_out = max(0, len(rows) - MOST)
        self.view = replace(self.view, copies=copies_of(rows[:MOST]), left_out=left_out)
        self._copied = names
