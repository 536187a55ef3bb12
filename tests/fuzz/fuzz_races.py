"""Races at one record: two clients at one unit, two verdicts at once, an approval and a decision at once.

Each side has connections of its own, and both begin at a barrier. A race has failed when

- an image is handed to two holders, or to none though it waits;
- of two verdicts of two holders both are taken, or none, or the record has another number of rows than were
  acknowledged; or the same request sent twice adds two rows;
- an inspection is filed with thresholds that are not those of its revision, or with a decision that does not follow
  from them; or a revision is served on which a person's last word was no.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_tables import WrongError


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Does works at the same moment; returns what each returned or raised."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(place: int, work: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            results[place] = work()
        except BaseException as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(n, work)) for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Races:
    """Races at a record; see the module.

    Args:
        folder: Empty.
        seed: Of the kinds.
        run: Folder of a finished run of train.
        photographs: Files that the recipe can score.
        address: Of an empty record.
    """

    def __init__(self, folder: Path, seed: int, run: Path, photographs: list[Path], address: str) -> None:
        from knowngood.recipe.session import open_session
        from knowngood.review.settings import Settings
        from knowngood.review.station import Station
        from knowngood.review.store.record import Record

        self.seed, self.folder = seed, folder
        self.images = [file.read_bytes() for file in photographs]
        self.sides = [Record(address) for _ in range(2)]
        self.record = Record(address)
        settings = Settings(shelf=folder / "images", user="ann", allow_own_approval=True)
        self.station = Station(open_session(run), self.record, settings)
        self.count = 0
        self.said = 0

    def end(self) -> None:
        """Closes all connections."""
        for record in (*self.sides, self.record):
            record.close()

    def attack(self, number: int) -> tuple[str, str]:
        """Runs one race; see `Tables.attack`."""
        dice = random.Random(f"{self.seed}:{number}")
        kind = dice.choice(list(_KINDS))
        try:
            _KINDS[kind](self, dice)
        finally:
            self._clear()
        return kind, "accepted"

    def _clear(self) -> None:
        """Settles what waits still, so that the next race begins with an empty queue."""
        from knowngood.review.store.verdicts import NewVerdict

        for holder in ("tab0", "tab1"):
            self.record.queue.give_back(holder)
        for row in self.record.queue.take("last", 1000):
            self.record.verdicts.add(NewVerdict(row["id"], "good", "ann"), "last")
            self.said += 1

    def _waiting(self) -> int:
        """Files one more image that waits in the queue; returns its number."""
        from knowngood.review.store.inspections import Filed

        self.count += 1
        revision = self.station.last
        row = Filed(
            f"u{self.count}", f"u{self.count}.png", f"{self.count:064x}", revision["id"], revision["accept_below"],
            revision["reject_from"], 0.5, "review", priority=1.5, reason="review band",
        )  # fmt: skip
        return int(self.record.inspections.file([row])[0])

    def two_at_one_unit(self, dice: random.Random) -> None:
        """Two windows ask for the next image, and there is one."""
        number = self._waiting()
        taken = at_once(*(lambda s=side, h=f"tab{n}": s.queue.take(h) for n, side in enumerate(self.sides)))
        for one in taken:
            if isinstance(one, BaseException):
                raise one
        holders = [n for n, rows in enumerate(taken) if rows]
        if len(holders) > 1 or sum(map(len, taken)) != 1:
            raise WrongError(f"image {number} was handed to {holders}")

    def two_verdicts(self, dice: random.Random) -> None:
        """The holder of an image and somebody else speak at once, or the same request comes twice."""
        from knowngood.errors import ConflictError
        from knowngood.review.store.verdicts import NewVerdict

        number = self._waiting()
        self.record.queue.take("tab0")
        same = dice.random() < 0.5
        keys = [f"k{number}", f"k{number}" if same else f"m{number}"]
        holders = ["tab0", "tab0" if same or dice.random() < 0.5 else "tab1"]
        words = [NewVerdict(number, word, "ann", key=key) for word, key in zip(("good", "bad"), keys, strict=True)]
        told = at_once(
            *(lambda s=s, w=w, h=h: s.verdicts.add(w, h) for s, w, h in zip(self.sides, words, holders, strict=True))
        )
        numbers = [one for one in told if isinstance(one, int)]
        for one in told:
            if isinstance(one, BaseException) and not isinstance(one, ConflictError):
                raise one
        rows = self.record.verdicts.of_inspection(number)
        self.said += len(rows)
        if len(rows) != 1 or set(numbers) != {rows[0]["id"]} or (same and len(numbers) != 2):
            raise WrongError(f"two verdicts at once: {told}, and the record has {rows}")
        if not same and len(numbers) != 1:
            raise WrongError(f"two verdicts of two requests were acknowledged: {told}")

    def approval_and_decision(self, dice: random.Random) -> None:
        """Photographs are decided while another revision is approved, and the one that is served refused."""
        from knowngood.metrics.thresholds import Thresholds, decide
        from knowngood.review.station import Job

        low = round(dice.uniform(0.0, 0.5), 3)
        old = self.station.last
        new = self.sides[0].revisions.change(old, low, round(dice.uniform(low, 1.0), 3), "bob", "a race")
        jobs = [Job(self.images[n % len(self.images)], f"r{self.count}-{n}.png") for n in range(2)]

        def approve() -> None:
            self.sides[0].revisions.sign(old["id"], new["id"], agrees=True, result={}, who="eve", why="")
            self.sides[1].revisions.sign(old["id"], old["id"], agrees=False, result={}, who="eve", why="")
            self.station.refresh_revision()

        told = at_once(lambda: self.station.inspect(jobs), approve)
        for one in told:
            if isinstance(one, BaseException):
                raise one
        for outcome in told[0]:
            row = self.record.inspections.one(outcome.number)
            assert row is not None
            revision = self.record.revisions.one(row["revision_id"])
            assert revision is not None
            cuts = (revision["accept_below"], revision["reject_from"])
            if row["revision_id"] not in (old["id"], new["id"]) or (row["accept_below"], row["reject_from"]) != cuts:
                raise WrongError(f"inspection {outcome.number} has thresholds that are not its revision's: {row}")
            expected = str(decide([row["defect_score"]], Thresholds(*cuts), [row["input_reason"]])[0])
            if row["decision"] != expected:
                raise WrongError(f"inspection {outcome.number} is {row['decision']}, by its revision {expected}")
        if self.station.revision["id"] != new["id"]:
            raise WrongError(f"revision {self.station.revision['id']} is served; {new['id']} is approved")

    def two_words_on_a_revision(self, dice: random.Random) -> None:
        """One person approves a revision while another refuses it: what is served follows from the last word."""
        old = self.station.last
        new = self.sides[0].revisions.change(old, 0.1, 0.9, "bob", "a race")
        at_once(
            *(
                lambda s=s, a=a, w=w: s.revisions.sign(old["id"], new["id"], agrees=a, result={}, who=w, why="")
                for s, a, w in zip(self.sides, (True, False), ("eve", "dan"), strict=True)
            )
        )
        row = next(row for row in self.record.revisions.everything() if row["id"] == new["id"])
        if len(row["signoffs"]) != 2:
            raise WrongError(f"two words were said on revision {new['id']}, the record has {row['signoffs']}")
        agreed = bool(row["signoffs"][-1]["agrees"])
        self.station.refresh_revision()
        if (self.station.revision["id"] == new["id"]) is not agreed:
            raise WrongError(
                f"the last word on revision {new['id']} is {agreed}; {self.station.revision['id']} is served"
            )

    def check(self) -> None:
        """Looks whether the record has exactly the verdicts that were acknowledged.

        Raises:
            WrongError: It has not.
        """
        if (count := len(self.record.verdicts.everything())) != self.said:
            raise WrongError(f"{self.said} verdicts were acknowledged, the record has {count}")


_KINDS: dict[str, Callable[[Races, random.Random], None]] = {
    "two clients at one unit": Races.two_at_one_unit,
    "two verdicts at once": Races.two_verdicts,
    "approval and decision at once": Races.approval_and_decision,
    "two words on a revision": Races.two_words_on_a_revision,
}
