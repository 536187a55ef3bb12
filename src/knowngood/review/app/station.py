"""The station's work apart from the web: inspect, file, look, replay."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from knowngood.decide.threshold import ACCEPT, Thresholds, decide
from knowngood.errors import DataError, ImageError, UnsignedError
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import HeatMap
from knowngood.review.app.deep_features import DeepFeatures
from knowngood.review.app.doubt import doubt_of
from knowngood.review.app.inspecting import Inspector, Prepared, largest
from knowngood.review.app.settings import Settings
from knowngood.review.app.shelf import Shelf, bytes_at
from knowngood.review.store.inspections import Box, Filed, Row
from knowngood.review.store.record import Record

_LOOKED = 64_000_000  # bytes of maps that are remembered
_FRESH = 2.0  # seconds after which another station's new revision is seen
_NAMES = 200  # letters of a unit's or lot's name


@dataclass(frozen=True)
class Job:
    """A photograph to inspect.

    Attributes:
        data: Encoded bytes.
        image: Name of the file, as it was sent.
        unit: Name of the part; that of the file without ending if None.
        lot: Batch, if known.
        machine: Where it was shot, if known.
        source: "api", "kserve", "watch" or "data".
        who: Sent it.
        place: Where the bytes lie already; None when they were sent.
        label: 0 or 1 where a data set says it.
    """

    data: bytes
    image: str
    unit: str | None = None
    lot: str | None = None
    machine: str | None = None
    source: str = "api"
    who: str = ""
    place: str | None = None
    label: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What was found and filed.

    Attributes:
        number: Of the inspection in the record.
        filed: What stands there.
        revision: Hash of the recipe as it was served.
    """

    number: int
    filed: Filed
    revision: str


class Station:
    """A recipe, a record, and the work between them.

    Args:
        recipe: To serve.
        record: To file in.
        settings: Limits.

    Raises:
        UnsignedError: No revision of this recipe may be served.
    """

    def __init__(self, recipe: Recipe, record: Record, settings: Settings) -> None:
        self.inspector = Inspector(recipe, any_product=settings.any_product)
        self.features = DeepFeatures(self.inspector.embedder.made_by)
        self.record = record
        self.settings = settings
        self.shelf = Shelf(settings.shelf)
        self.progress: tuple[int, int] = (0, 0)  # photographs of the data set: done, all
        self._looked: OrderedDict[str, HeatMap | None] = OrderedDict()
        self._looking = threading.Lock()
        self._bytes = 0
        record.revisions.add(recipe.manifest, settings.user)
        record.revisions.add(recipe.manifest, settings.user)
        self.last: Row = self._to_serve()  # the revision that was served last, which may have been refused since
        self._asked_at = time.monotonic()

    @property
    def weights(self) -> str:
        """Hash of the recipe's tensors."""
        return self.inspector.recipe.manifest.weights_sha256

    @property
    def revision(self) -> Row:
        """The revision that is served now; what another station was told is seen after two seconds.

        Raises:
            UnsignedError: The last one that might be served was refused.
        """
        if time.monotonic() - self._asked_at > _FRESH:
            self.last = self._to_serve()
            self._asked_at = time.monotonic()
        return self.last

    def move_threshold(self, accept_below: float, reject_from: float, who: str, why: str) -> Row:
        """Adds a revision with other cuts; it is served when it is approved, or at once where nobody has to."""
        row = self.record.revisions.change(self.last, accept_below, reject_from, who, why)
        self.look_again()
        return row

    def look_again(self) -> None:
        """Asks the record anew what is served, without waiting until the old answer is too old."""
        self._asked_at = float("-inf")

    def served(self) -> Row | None:
        """Returns the revision that is served now, or None where the last one was refused."""
        try:
            return self.revision
        except UnsignedError:
            return None

    def _to_serve(self) -> Row:
        row = self.record.revisions.to_serve(self.weights, unsigned=self.settings.unsigned)
        if row is None:
            raise UnsignedError(
                f"Nobody has approved a revision of {self.inspector.name} on this record, and it is not its first.",
                fix="Serve it with --unsigned --data GOLDEN, compare and approve it on the page Recipes; "
                "or give it a record of its own with --db.",
            )
        return row

    def inspect(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Inspects photographs and files them in one transaction; one that cannot be read is filed with its error."""
        revision = self.revision
        cuts = Thresholds(revision["accept_below"], revision["reject_from"])
        prepared: list[Prepared | str] = [self._prepared(job) for job in jobs]
        readable = [(job, one) for job, one in zip(jobs, prepared, strict=True) if not isinstance(one, str)]
        scores: Iterator[float] = iter(())
        if readable:
            found, features = self.inspector.score_and_embed([one for _, one in readable])
            self.features.add([hashlib.sha256(job.data).hexdigest() for job, _ in readable], features)
            scores = iter(found)
        rows = []
        for job, one in zip(jobs, prepared, strict=True):
            digest = hashlib.sha256(job.data).hexdigest()
            row = Filed(
                unit=tidy(job.unit) or tidy(PurePath(job.image).stem) or digest[:12],
                image=job.image,
                sha256=digest,
                revision_id=revision["id"],
                accept_below=cuts.accept_below,
                reject_from=cuts.reject_from,
                defect_score=None,
                decision=None,
                lot=tidy(job.lot),
                machine=tidy(job.machine),
                source=job.source,
                who=job.who,
            )
            if isinstance(one, str):
                rows.append(replace(row, error=one, doubt=1.0, reason="cannot be read"))
                continue
            score = next(scores)
            decision = str(decide([score], cuts, [one.reason])[0])
            row = replace(row, defect_score=score, decision=decision, input_reason=one.reason)
            row = replace(row, brightness=one.brightness, contrast=one.contrast, sharpness=one.sharpness)
            doubt, reason = doubt_of(score, cuts, job.label, one.reason)
            rows.append(replace(row, doubt=doubt, reason=reason))
        rows = self._with_regions(jobs, rows)
        images = [self._kept(job, row) for job, row in zip(jobs, rows, strict=True)]
        numbers = self.record.inspections.file(rows, images)
        return [Outcome(n, row, revision["hash"]) for n, row in zip(numbers, rows, strict=True)]

    def bytes_of(self, sha256: str) -> bytes:
        """Returns the bytes of a photograph of the record.

        Raises:
            DataError: They are not to be had.
        """
        return bytes_at(self.record.inspections.place_of(sha256), sha256)

    def looked(self, row: Row, data: bytes) -> HeatMap | None:
        """Returns where the recipe looks in a photograph, remembered for a while."""
        with self._looking:
            if row["sha256"] in self._looked:
                return self._looked[row["sha256"]]
        looked = self.inspector.look([data], [row["image"]])[0]
        self._remember(row["sha256"], looked)
        return looked

    def replay(self, row: Row) -> Row:
        """Repeats an inspection of the record with the cuts of its time, and says whether it agrees.

        Returns:
            then, now (score and decision each), agrees, and why not when it could not be repeated.
        """
        then = {"defect_score": row["defect_score"], "decision": row["decision"]}
        told = {
            "inspection": row["id"],
            "unit": row["unit"],
            "at": row["at"],
            "revision": row["revision"],
            "then": then,
        }
        if row["weights_sha256"] != self.weights:
            why = f"another recipe made it: {row['recipe']}, revision {row['revision'][:12]}"
            return told | {"now": None, "agrees": None, "why": why}
        try:
            one = self.inspector.prepare(self.bytes_of(row["sha256"]), row["image"], self.settings.max_pixels)
        except ImageError as error:
            return told | {"now": None, "agrees": row["error"] is not None, "why": error.what}
        except DataError as error:
            return told | {"now": None, "agrees": None, "why": error.what}
        score = self.inspector.score([one])[0]
        cuts = Thresholds(row["accept_below"], row["reject_from"])
        decision = str(decide([score], cuts, [one.reason])[0])
        near = (
            row["defect_score"] is not None and abs(score - row["defect_score"]) < 1e-4
        )  # what a batch's company adds
        why = "" if near else "the score has changed"
        if row["source"] == "out-of-fold":
            why = "then by networks that had not trained on it, now by the recipe, which has"
        agrees = near and decision == row["decision"]
        return told | {"now": {"defect_score": score, "decision": decision}, "agrees": agrees, "why": why}

    def _prepared(self, job: Job) -> Prepared | str:
        try:
            if len(job.data) > self.settings.max_mb * 1_000_000:
                return f"It has {len(job.data):,} bytes; at most {self.settings.max_mb} MB are taken."
            return self.inspector.prepare(job.data, tidy(job.image) or "image", self.settings.max_pixels)
        except ImageError as error:
            return error.what

    def _kept(self, job: Job, row: Filed) -> tuple[str, str | None, int]:
        place = job.place
        wanted = self.settings.keep == "all" or row.doubt is not None
        if place is None and wanted:
            place = str(self.shelf.put(row.sha256, job.data))
        return row.sha256, place, len(job.data)

    def _with_regions(self, jobs: Sequence[Job], rows: list[Filed]) -> list[Filed]:
        """Looks at what was sent and not accepted; a data set's images are looked at when a person does."""
        places = [
            n
            for n, (job, row) in enumerate(zip(jobs, rows, strict=True))
            if row.decision not in (None, ACCEPT) and job.place is None
        ]
        if not places:
            return rows
        found = self.inspector.look([jobs[n].data for n in places], [jobs[n].image for n in places])
        boxed = list(rows)
        for n, looked in zip(places, found, strict=True):
            self._remember(rows[n].sha256, looked)
            boxed[n] = replace(rows[n], region=largest(looked))
        return boxed

    def _remember(self, digest: str, looked: HeatMap | None) -> None:
        with self._looking:
            self._bytes += _size(looked) - (_size(self._looked.pop(digest)) if digest in self._looked else 0)
            self._looked[digest] = looked
            while self._bytes > _LOOKED:
                self._bytes -= _size(self._looked.popitem(last=False)[1])


def _size(looked: HeatMap | None) -> int:
    """Returns the bytes that a remembered map takes, about."""
    return 200 if looked is None else looked.values.nbytes + sum(region.mask.nbytes for region in looked.regions)


def tidy(name: str | None) -> str | None:
    """Returns a name without control characters and of bearable length; None where nothing is left."""
    if name is None:
        return None
    return "".join(c for c in name if c.isprintable()).strip()[:_NAMES] or None


def box_of(region: Sequence[int] | None) -> Box | None:
    """Returns four whole numbers as a box."""
    return None if region is None else (int(region[0]), int(region[1]), int(region[2]), int(region[3]))
