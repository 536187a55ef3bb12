"""The station: a recipe, its record, and what is done with a photograph that arrives."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from knowngood.errors import DataError, ImageError, RecipeError, StorageError, UnsignedError
from knowngood.metrics.thresholds import ACCEPT, REJECT, REVIEW, Thresholds, decide
from knowngood.recipe.bundle import ERROR, Prediction, Recipe
from knowngood.recipe.session import Session
from knowngood.review.inspector import DeepFeatures, Explanation, Inspector, Prepared
from knowngood.review.settings import Settings
from knowngood.review.shelf import Shelf, bytes_at
from knowngood.review.store.deciding import Decider
from knowngood.review.store.inspections import Box, Filed, Row
from knowngood.review.store.record import Record
from knowngood.review.workers import Worker


def review_priority(
    score: float, cuts: Thresholds, label: int | None = None, reason: str | None = None
) -> tuple[float | None, str]:
    """Returns the priority of a review and its reason; None and "" where no review is needed.

    A label that the score contradicts comes first (above 2), then the review band (1 to 2, its middle highest), then
    rejected units (0 to 1), nearest to the threshold first, because good units are lost there.

    Args:
        score: In 0..1.
        cuts: Of the recipe.
        label: 0 or 1 of a data set, or None.
        reason: Why a review is needed whatever the score, such as "not this product: ..."; priority 2.
    """
    if reason is not None:
        return 2.0, reason.partition(":")[0]
    low, high = cuts.accept_below, cuts.reject_from
    decision = str(decide([score], cuts)[0])
    if label is not None and label != (decision != ACCEPT) and decision != REVIEW:
        return 2 + abs(label - score), "suspected label: bad?" if label == 0 else "suspected label: good?"
    if decision == REVIEW:
        return 2 - abs(score - (low + high) / 2) / max((high - low) / 2, 1e-12), "review band"
    if decision == REJECT and label is None:
        return 1 - (score - high) / max(1 - high, 1e-12), "rejected"
    return None, ""


log = logging.getLogger("knowngood.review")

_MAP_CACHE = 64_000_000  # bytes of maps
_FRESH = 2.0  # seconds after which another station's new revision is seen
NAMES, FILES, _WORDS = 200, 400, 1000  # letters of a unit's or lot's name, of a file's, of an error


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
        label: 0 or 1 of a data set, or None.
        error: Why there are no bytes, where there are none.
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
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of one photograph.

    Attributes:
        number: Of the inspection in the record.
        filed: What stands there.
        revision: Hash of the recipe as it was served.
    """

    number: int
    filed: Filed
    revision: str


class Station:
    """A recipe and a record: inspects photographs, adds them to the record, repeats inspections.

    Args:
        session: Of the recipe that is served: its cascade or its export where it has one.
        record: To file in.
        settings: Limits.
        signed_by: Whose signature of the recipe was verified, if one had to be.

    Raises:
        UnsignedError: No revision of this recipe may be served.
    """

    def __init__(self, session: Session, record: Record, settings: Settings, signed_by: str | None = None) -> None:
        self.session = session
        self.inspector = Inspector(session)
        self.features = DeepFeatures(self.inspector.embedder.cache_key)
        self.record = record
        self.settings = settings
        self.shelf = Shelf(settings.shelf)
        self.progress: tuple[int, int] = (0, 0)  # photographs of the data set: done, all
        self.workers: list[Worker] = []  # that have to live for the station to be ready
        self._explained: OrderedDict[str, Explanation | None] = OrderedDict()
        self._explaining = threading.Lock()
        self._bytes = 0
        self.decider = decider_of(session)
        self.scoring = self.decider.scoring  # hash of everything that decides but the cuts
        self.signed_by = signed_by
        if not settings.replay_only:
            record.revisions.add(self.decider, settings.user, signed_by)
        self.last: Row = (
            {} if settings.replay_only else self._to_serve()
        )  # the revision that was served last, which may have been refused since
        self._asked_at = time.monotonic()

    @property
    def revision(self) -> Row:
        """The revision that is served now; a change by another station is seen after two seconds.

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
        self.refresh_revision()
        return row

    def refresh_revision(self) -> None:
        """Makes the next use of `revision` read the record, without waiting for the two seconds."""
        self._asked_at = float("-inf")

    def served(self) -> Row | None:
        """Returns the revision that is served now, or None where the last one was refused."""
        try:
            return self.revision
        except UnsignedError:
            return None

    def _to_serve(self) -> Row:
        row = self.record.revisions.to_serve(self.scoring, allow_unapproved=self.settings.allow_unapproved)
        if row is None:
            raise UnsignedError(
                f"Nobody has approved {self.inspector.name} as it lies on the disk{self._since_approved()}, "
                "and it is not the first recipe of this record.",
                fix="Serve it with --allow-unapproved --data GOLDEN, compare and approve it on the page Recipes; or "
                "put the files of an approved revision back; or give it a record of its own with --db.",
            )
        return row

    def _since_approved(self) -> str:
        """Returns what of a recipe has changed since its last approved revision, in words; nothing without one."""
        row = self.record.revisions.approved_relative(self.decider)
        changed = [] if row is None else Decider.of_row(row).differences(self.decider)
        if row is None or not changed:
            return ""
        more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        return f" (changed since revision {row['id']}, which is approved: {', '.join(changed[:6])}{more})"

    def inspect(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Inspects photographs and adds them to the record; an error of one is recorded with it and affects no other.

        Returns:
            An outcome a job, in order.

        Raises:
            UnsignedError: Nothing may be served now.
            StorageError: The disk or the record takes nothing now; nothing was filed.
        """
        revision = self.revision
        cuts = Thresholds(revision["accept_below"], revision["reject_from"])
        digests = [hashlib.sha256(job.data).hexdigest() for job in jobs]
        prepared: list[Prepared | str] = [self._prepared(job) for job in jobs]
        scores = self._scored(prepared, digests)
        rows = [
            self._row(job, digest, one, score, revision, cuts)
            for job, digest, one, score in zip(jobs, digests, prepared, scores, strict=True)
        ]
        rows = self._with_regions(jobs, prepared, rows)
        images = [self._kept(job, row) for job, row in zip(jobs, rows, strict=True)]
        return [Outcome(n, row, revision["hash"]) for n, row in self._filed(rows, images)]

    def _row(
        self, job: Job, digest: str, one: Prepared | str, score: float | str | None, revision: Row, cuts: Thresholds
    ) -> Filed:
        """Returns what is filed of one photograph: with its decision, or with the reason why there is none."""
        row = Filed(
            unit=tidy(job.unit) or tidy(PurePath(job.image).stem) or digest[:12],
            image=tidy(job.image, FILES) or "image",
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
        if isinstance(one, str) or not isinstance(score, float):
            error = one if isinstance(one, str) else str(score)
            return replace(row, error=tidy(error, _WORDS), priority=1.0, reason="cannot be read")
        decision = str(decide([score], cuts, [one.reason])[0])
        row = replace(row, defect_score=score, decision=decision, input_reason=one.reason)
        row = replace(row, brightness=one.brightness, contrast=one.contrast, sharpness=one.sharpness)
        priority, reason = review_priority(score, cuts, job.label, one.reason)
        return replace(row, priority=priority, reason=reason)

    def _scored(self, prepared: Sequence[Prepared | str], digests: Sequence[str]) -> list[float | str | None]:
        """Returns the score of each that could be prepared, or why it has none; None for the others."""
        places = [n for n, one in enumerate(prepared) if isinstance(one, Prepared)]
        scores: list[float | str | None] = [None] * len(prepared)
        if not places:
            return scores
        members = [one for one in prepared if isinstance(one, Prepared)]
        try:
            found, features = self.inspector.score_and_embed(members)
        except Exception as error:
            if len(places) == 1:
                log.warning("a photograph cannot be scored", exc_info=error)
                scores[places[0]] = f"It cannot be scored: {type(error).__name__}."
                return scores
            for n in places:  # the guilty one alone has no score
                scores[n] = self._scored([prepared[n]], [digests[n]])[0]
            return scores
        for n, score in zip(places, found, strict=True):
            scores[n] = score if math.isfinite(score) else "It cannot be scored: the recipe gives no number."
        if features is not None:
            self.features.add([digests[n] for n in places], features)
        return scores

    def _filed(self, rows: Sequence[Filed], images: Sequence[tuple[str, str | None, int]]) -> list[tuple[int, Filed]]:
        """Adds rows in one transaction, or one by one where the record refuses one of them."""
        try:
            return list(zip(self.record.inspections.file(rows, images), rows, strict=True))
        except StorageError:
            raise
        except Exception as error:
            log.warning("the record refuses a row", exc_info=error)
            if len(rows) == 1:
                plain = replace(rows[0], image=rows[0].sha256, unit=rows[0].sha256[:12], lot=None, machine=None)
                plain = replace(plain, defect_score=None, decision=None, region=None, brightness=None, contrast=None)
                error_row = "The record refuses what came with this photograph: names, lot or machine."
                plain = replace(plain, sharpness=None, error=error_row, priority=1.0, reason="cannot be filed")
                return [(self.record.inspections.file([plain], [(images[0][0], None, images[0][2])])[0], plain)]
        return [self._filed([row], [image])[0] for row, image in zip(rows, images, strict=True)]

    def bytes_of(self, sha256: str) -> bytes:
        """Returns the bytes of a photograph of the record.

        Raises:
            DataError: They are not to be had.
        """
        return bytes_at(self.record.inspections.place_of(sha256), sha256)

    def explained(self, row: Row, data: bytes) -> Explanation | None:
        """Returns the map of a photograph from the cache or anew; None where the recipe draws no maps.

        Raises:
            ImageError: The photograph cannot be read.
        """
        with self._explaining:
            if row["sha256"] in self._explained:
                return self._explained[row["sha256"]]
        one = self.inspector.prepare(data, row["image"], self.settings.max_pixels)
        prediction = Prediction(row["image"], row["defect_score"], row["decision"], row["input_reason"])
        explained = next(self.inspector.draw([one], [prediction]))
        self._cache_map(row["sha256"], explained)
        return explained

    def replay(self, row: Row) -> Row:
        """Repeats an inspection of the record with its own thresholds, and compares the results.

        Returns:
            then, now (score and decision each), agrees, and why not when it could not be repeated.
        """
        then = {"defect_score": row["defect_score"], "decision": row["decision"]}
        result = {
            "inspection": row["id"],
            "unit": row["unit"],
            "at": row["at"],
            "revision": row["revision"],
            "signed_by": row["signed_by"],
            "then": then,
        }
        if row["scoring"] != self.scoring:
            same = "the same weights, decided otherwise" if row["weights_sha256"] == self._weights else row["recipe"]
            why = f"another recipe made it: {same}, revision {row['revision'][:12]}"
            return result | {"now": None, "agrees": None, "why": why}
        try:
            one = self.inspector.prepare(self.bytes_of(row["sha256"]), row["image"], self.settings.max_pixels)
        except ImageError as error:
            return result | {"now": None, "agrees": row["error"] is not None, "why": error.what}
        except DataError as error:
            return result | {"now": None, "agrees": None, "why": error.what}
        except Exception as error:  # what stopped it then stops it now
            return result | {"now": None, "agrees": row["error"] is not None, "why": type(error).__name__}
        score = self.inspector.score([one])[0]
        cuts = Thresholds(row["accept_below"], row["reject_from"])
        decision = str(decide([score], cuts, [one.reason])[0])
        # Equal to the last bit here; another machine, or knowngood 0.1, rounds otherwise.
        near = row["defect_score"] is not None and abs(score - row["defect_score"]) < 1e-4
        why = "" if near else "the score has changed"
        if row["source"] == "out-of-fold":
            why = "then by networks that had not trained on it, now by the recipe, which has"
        agrees = near and decision == row["decision"]
        return result | {"now": {"defect_score": score, "decision": decision}, "agrees": agrees, "why": why}

    @property
    def _weights(self) -> str:
        return self.inspector.recipe.manifest.weights_sha256

    def _prepared(self, job: Job) -> Prepared | str:
        if job.error is not None:
            return job.error
        if len(job.data) > self.settings.max_mb * 1_000_000:
            return f"It has {len(job.data):,} bytes; at most {self.settings.max_mb} MB are taken."
        try:
            return self.inspector.prepare(job.data, tidy(job.image, FILES) or "image", self.settings.max_pixels)
        except ImageError as error:
            return error.what
        except Exception as error:  # a photograph that breaks what reads it costs itself only
            log.warning("a photograph cannot be prepared", exc_info=error)
            return f"It cannot be brought to the network's size: {type(error).__name__}."

    def _kept(self, job: Job, row: Filed) -> tuple[str, str | None, int]:
        place = job.place
        wanted = bool(job.data) and (self.settings.keep == "all" or row.priority is not None)
        if place is None and wanted:
            place = str(self.shelf.put(row.sha256, job.data))
        return row.sha256, place, len(job.data)

    def _with_regions(self, jobs: Sequence[Job], prepared: Sequence[Prepared | str], rows: list[Filed]) -> list[Filed]:
        """Adds regions to photographs that were sent and not accepted; others get theirs when a person opens them."""
        wanted = {
            n: one
            for n, (job, one, row) in enumerate(zip(jobs, prepared, rows, strict=True))
            if isinstance(one, Prepared) and row.decision not in (None, ACCEPT) and job.place is None
        }
        boxed = list(rows)
        try:
            found = self.inspector.draw(list(wanted.values()), [_prediction(rows[n]) for n in wanted])
            for n, explained in zip(wanted, found, strict=True):
                self._cache_map(rows[n].sha256, explained)
                boxed[n] = replace(rows[n], region=None if explained is None else explained.box)
        except Exception as error:
            log.warning("photographs cannot be explained", exc_info=error)
            if len(wanted) > 1:
                each = zip(jobs, prepared, rows, strict=True)
                boxed = [self._with_regions([job], [one], [row])[0] for job, one, row in each]
        return boxed

    def _cache_map(self, digest: str, explained: Explanation | None) -> None:
        with self._explaining:
            self._bytes += _size(explained) - (_size(self._explained.pop(digest)) if digest in self._explained else 0)
            self._explained[digest] = explained
            while self._bytes > _MAP_CACHE:
                self._bytes -= _size(self._explained.popitem(last=False)[1])


def _prediction(row: Filed) -> Prediction:
    return Prediction(row.image, row.defect_score, row.decision or ERROR, row.input_reason)


def decider_of(session: Session) -> Decider:
    """Returns everything that a session decides by: the recipe, and the export or cascade with its own thresholds.

    Raises:
        RecipeError: The folder of the recipe is no longer what was loaded.
    """
    found = _in_folder(session.recipe)
    return found if session.certificate is None else found.by_graph(session.label, session.threshold)


def _in_folder(recipe: Recipe) -> Decider:
    if recipe.folder is None:
        return Decider.of_manifest(recipe.manifest)
    try:
        found = Decider.in_folder(recipe.folder)
    except (OSError, ValueError) as error:
        raise RecipeError(f"The recipe {recipe.manifest.name} cannot be read again: {error}.") from error
    same = ("weights_sha256", "created", "name", "threshold")
    now = recipe.manifest.document()
    if any(found.document.get(name) != now.get(name) for name in same):
        raise RecipeError(
            f"The recipe {recipe.manifest.name} was changed while it was loaded.",
            fix="Wait for what writes it, and start again.",
        )
    return found


def _size(explained: Explanation | None) -> int:
    """Returns the bytes that a remembered map takes, about."""
    return 200 if explained is None else explained.nbytes


def tidy(name: str | None, most: int = NAMES) -> str | None:
    """Returns a name as the record takes it, or None where nothing is left of it.

    Spaces of any kind become a space, and what cannot be printed goes: control characters, halves of surrogate pairs. A
    name that is too long ends in a hash of the whole, so that two of them stay two.

    Args:
        name: As it was sent.
        most: Letters.
    """
    if name is None:
        return None
    clean = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in name).strip()
    if len(clean) > most:
        clean = f"{clean[: most - 9]}~{hashlib.sha256(clean.encode()).hexdigest()[:8]}"
    return clean or None


def box_of(region: Sequence[int] | None) -> Box | None:
    """Returns four whole numbers as a box."""
    return None if region is None else (int(region[0]), int(region[1]), int(region[2]), int(region[3]))
