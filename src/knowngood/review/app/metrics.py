"""Figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Figures:
    """Counters of one station; each station has its own, so that two in one process do not add up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.inspections = Counter(
            "knowngood_inspections", "Photographs inspected.", ["decision", "source"], registry=self.registry
        )
        self.refused = Counter("knowngood_refused", "Photographs answered 503.", registry=self.registry)
        self.verdicts = Counter("knowngood_verdicts", "Verdicts of people.", ["verdict"], registry=self.registry)
        self.seconds = Histogram(
            "knowngood_inspect_seconds", "From a request to its answer.", buckets=_SECONDS, registry=self.registry
        )
        self.pending = Gauge("knowngood_pending", "Photographs that wait or are scored.", registry=self.registry)
        self.waiting = Gauge("knowngood_review_waiting", "Images in the queue for people.", registry=self.registry)

    def text(self) -> bytes:
        """Returns all of them in Prometheus' format."""
        return generate_latest(self.registry)
