"""What is filed and said is found again, whole, in order, and cannot be changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from knowngood.errors import ConfigError, ConflictError, StorageError
from knowngood.recipe.manifest import RecipeManifest
from knowngood.review.store.database import APPEND_ONLY, Base, Database
from knowngood.review.store.deciding import Decider
from knowngood.review.store.inspections import Filed
from knowngood.review.store.record import Record
from knowngood.review.store.verdicts import NewVerdict

FileSome = Callable[..., list[int]]


def test_the_migrations_make_the_tables_that_the_code_speaks_of(record: Record) -> None:
    with record.database.reading() as connection:
        missing = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    told = [one for one in missing if getattr(one[1], "name", "") != "queue_order"]  # SQLite hides which way it sorts
    assert told == []


def test_a_record_is_opened_again_as_it_was_left(url: str, record: Record, file_some: FileSome) -> None:
    numbers = file_some(0.5, region=(1, 2, 3, 4))
    record.verdicts.add(NewVerdict(numbers[0], "bad", "ann", defect="chip"))
    again = Record(url)
    row = again.inspections.one(numbers[0])
    assert row is not None
    assert (row["defect_score"], row["region"], row["reason"]) == (0.5, [1, 2, 3, 4], "review band")
    assert [v["defect"] for v in again.verdicts.everything()] == ["chip"]
    again.close()


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", ["UPDATE {} SET who = 'x'", "DELETE FROM {}"])
def test_the_database_itself_refuses_changes(record: Record, file_some: FileSome, table: str, change: str) -> None:
    number = file_some(0.5)[0]
    record.verdicts.add(NewVerdict(number, "good", "ann"))
    revision = record.revisions.everything()[0]["id"]
    record.revisions.sign(revision, revision, agrees=True, result={}, who="ann", why="")
    with (
        pytest.raises(DBAPIError, match=f"{table} is only ever added to"),
        record.database.engine.connect() as connection,
        connection.begin(),
    ):
        connection.execute(text(change.format(table)))


def test_an_undo_is_a_row_of_its_own(record: Record, file_some: FileSome) -> None:
    number = file_some(0.5)[0]
    assert [row["id"] for row in record.queue.take("tab")] == [number]
    first = record.verdicts.add(NewVerdict(number, "good", "ann"), "tab")
    assert record.queue.take("tab") == []
    undone = record.verdicts.undo("ann", "tab")
    assert undone is not None
    assert undone["id"] == first
    assert [row["id"] for row in record.queue.take("tab")] == [number]
    record.verdicts.add(NewVerdict(number, "bad", "ann", defect="scratch"), "tab")
    rows = record.verdicts.everything()
    assert [(r["verdict"], r["undoes"]) for r in rows] == [("good", None), ("undo", first), ("bad", None)]
    assert [r["verdict"] for r in record.verdicts.standing()] == ["bad"]


def test_one_takes_back_only_what_oneself_said_each_once(record: Record, file_some: FileSome) -> None:
    a, b = file_some(0.5, 0.6)
    record.verdicts.add(NewVerdict(a, "good", "ann"))
    record.verdicts.add(NewVerdict(b, "good", "bob"))
    assert record.verdicts.undo("ann", "tab")["inspection_id"] == a  # type: ignore[index]
    assert record.verdicts.undo("ann", "tab") is None
    assert record.verdicts.undo("eve", "tab") is None
    assert [r["who"] for r in record.verdicts.standing()] == ["bob"]


def test_a_request_that_is_sent_twice_counts_once(record: Record, file_some: FileSome) -> None:
    a, _ = file_some(0.6, 0.5)
    record.queue.take("tab")
    said = NewVerdict(a, "good", "ann", key="k1")
    assert record.verdicts.add(said, "tab") == record.verdicts.add(said, "tab")
    first, second = (record.verdicts.undo("ann", "tab", key="k2") for _ in range(2))
    assert first == second
    assert len(record.verdicts.everything()) == 2


def test_a_request_that_is_sent_twice_at_once_counts_once(url: str, record: Record, file_some: FileSome) -> None:
    numbers = file_some(*[0.5] * 30)
    sides = [Record(url) for _ in range(2)]
    for number in numbers:
        record.queue.take("tab")
        gate, told = threading.Barrier(2), list[object]()

        def say(side: Record, new: NewVerdict, gate: threading.Barrier = gate, told: list[object] = told) -> None:
            gate.wait()
            try:
                told.append(side.verdicts.add(new, "tab"))
            except BaseException as error:
                told.append(error)

        new = NewVerdict(number, "good", "ann", key=f"k{number}")
        threads = [threading.Thread(target=say, args=(side, new)) for side in sides]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (row,) = record.verdicts.of_inspection(number)
        assert told == [row["id"]] * 2
    for side in sides:
        side.close()


def test_wrong_verdicts_are_refused(record: Record, file_some: FileSome) -> None:
    number = file_some(0.5)[0]
    for said in (
        NewVerdict(number, "undo", "ann"),
        NewVerdict(number, "maybe", "ann"),
        NewVerdict(number, "good", "ann", defect="chip"),
    ):
        with pytest.raises(ConfigError, match="verdict"):
            record.verdicts.add(said)
    with pytest.raises(ConfigError, match="no inspection 999"):
        record.verdicts.add(NewVerdict(999, "good", "ann"))
    assert record.verdicts.everything() == []


def test_the_biggest_doubt_is_handed_out_first_and_skipped_ones_last(record: Record, file_some: FileSome) -> None:
    low, high, middle = file_some(0.31, 0.69, 0.5)
    assert [r["id"] for r in record.queue.take("a", 2)] == [high, middle]
    assert record.queue.give_back("a", high, skip=True) == 1
    assert [r["id"] for r in record.queue.take("a", 3)] == [middle, low, high]
    assert record.queue.counts() == {"waiting": 3, "held": 3, "settled": 0}
    assert record.queue.reasons() == [{"reason": "review band", "count": 3}]


def test_a_bigger_doubt_moves_an_image_forward_unless_it_is_settled(record: Record, file_some: FileSome) -> None:
    a, b = file_some(0.5, 0.6)
    unseen = file_some(0.1, priority=None)[0]
    record.verdicts.add(NewVerdict(b, "good", "ann"))
    new = [(a, 3.0, "audit"), (b, 3.0, "audit"), (unseen, 2.0, "audit")]
    assert record.queue.add(new) == 2
    assert record.queue.add(new) == 0
    assert [(r["id"], r["reason"]) for r in record.queue.take("tab", 9)] == [(a, "audit"), (unseen, "audit")]


def test_the_last_known_place_of_a_photograph_counts(record: Record, file_some: FileSome) -> None:
    file_some(0.5)
    for place in ("/old", None, "/new", None):
        record.inspections.file([], [("a" * 64, place, 1)])
    assert record.inspections.place_of("a" * 64) == "/new"


def test_two_holders_never_have_the_same_image(url: str, record: Record, file_some: FileSome) -> None:
    numbers = file_some(*(0.3 + i / 1000 for i in range(120)))
    seen: dict[str, list[int]] = {f"tab{i}": [] for i in range(4)}
    failures: list[BaseException] = []

    def work(holder: str) -> None:
        own = Record(url)
        try:
            while rows := own.queue.take(holder, 2):
                seen[holder].append(rows[0]["id"])
                own.verdicts.add(NewVerdict(rows[0]["id"], "good", holder), holder)
        except BaseException as error:
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(holder,)) for holder in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    judged = [number for rows in seen.values() for number in rows]
    assert sorted(judged) == sorted(numbers)
    assert sorted(v["inspection_id"] for v in record.verdicts.everything()) == sorted(numbers)


def test_what_somebody_else_holds_cannot_be_judged(record: Record, file_some: FileSome) -> None:
    number = file_some(0.5)[0]
    record.queue.take("ann's")
    assert record.queue.take("bob's") == []
    for holder in ("bob's", None):
        with pytest.raises(ConflictError):
            record.verdicts.add(NewVerdict(number, "good", "bob"), holder)
    record.verdicts.add(NewVerdict(number, "good", "ann"), "ann's")
    with pytest.raises(ConflictError, match="no longer"):
        record.verdicts.add(NewVerdict(number, "bad", "ann"), "ann's")


def test_an_image_comes_back_from_a_browser_that_is_gone(url: str, record: Record, file_some: FileSome) -> None:
    number = file_some(0.5)[0]
    short = Record(url, hold_seconds=0.0)
    short.queue.take("gone")
    assert [r["id"] for r in record.queue.take("next")] == [number]
    assert short.queue.keep("gone") == 0
    assert record.queue.give_back("next") == 1
    assert [r["id"] for r in record.queue.take("third")] == [number]
    short.close()


def served(record: Record, made: RecipeManifest) -> dict[str, Any]:
    decider = Decider.of_manifest(made)
    record.revisions.add(decider, "ann")
    found = record.revisions.to_serve(decider.scoring)
    assert found is not None
    return found


def test_a_moved_threshold_is_a_revision_that_is_served_once_it_is_approved(
    url: str, record: Record, make_manifest: Callable[..., RecipeManifest]
) -> None:
    made = make_manifest()
    first = served(record, made)
    assert (first["accept_below"], first["reject_from"]) == (0.3, 0.7)
    second = record.revisions.change(first, 0.2, 0.2, "bob", "an escape at the customer")
    assert (second["parent_id"], second["who"], second["why"]) == (first["id"], "bob", "an escape at the customer")
    assert second["hash"] != first["hash"]
    assert served(record, made) == first
    assert record.revisions.to_serve(first["scoring"], allow_unapproved=True) == second
    record.revisions.sign(first["id"], second["id"], agrees=True, result={}, who="eve", why="")
    again = Record(url)
    assert served(again, made) == second
    saved = RecipeManifest.model_validate_json(second["manifest"])
    assert saved.threshold["threshold"] == 0.2
    assert saved.revision == second["hash"][:12]
    other = Decider.of_manifest(make_manifest(weights_sha256="v" * 64))
    again.revisions.add(other, "ann")
    assert again.revisions.to_serve(other.scoring) is None  # another training, which nobody has approved
    assert [r["id"] for r in again.revisions.everything()][1:] == [second["id"], first["id"]]
    again.close()


def test_the_last_word_decides_which_revision_is_served(
    record: Record, make_manifest: Callable[..., RecipeManifest]
) -> None:
    made = make_manifest()
    first, revisions = served(record, made), record.revisions
    second = revisions.change(first, 0.2, 0.2, "bob", "x")
    third = revisions.change(second, 0.1, 0.1, "bob", "y")

    def say(row: dict[str, Any], agrees: bool) -> dict[str, Any] | None:
        revisions.sign(first["id"], row["id"], agrees=agrees, result={}, who="eve", why="")
        return revisions.to_serve(first["scoring"])

    assert [revisions.signed(row["id"]) for row in (first, second, third)] == [True, False, False]
    waits = revisions.waiting(first["scoring"], first["id"])
    assert waits == third
    assert say(third, False) == first
    waits = revisions.waiting(first["scoring"], first["id"])
    assert waits == second
    assert say(third, True) == third
    assert say(second, True) == second
    assert say(second, False) == third
    assert say(third, False) == first
    assert revisions.waiting(first["scoring"], first["id"]) is None
    assert say(first, False) is None
    assert not revisions.signed(first["id"])
    assert say(first, True) == first


@pytest.mark.parametrize(("low", "high", "why"), [(0.5, 0.2, "x"), (-1, 0.2, "x"), (0.1, 2, "x"), (0.1, 0.2, " ")])
def test_impossible_thresholds_are_refused(
    record: Record, make_manifest: Callable[..., RecipeManifest], low: float, high: float, why: str
) -> None:
    first = served(record, make_manifest())
    with pytest.raises(ConfigError):
        record.revisions.change(first, low, high, "bob", why)
    assert len(record.revisions.everything()) == 1


def test_tokens_are_kept_as_hashes_and_can_be_revoked(record: Record) -> None:
    token = record.people.add("ann", "operator")
    assert record.people.by_token(token).name == "ann"  # type: ignore[union-attr]
    assert record.people.by_token(token + "x") is None
    secret = record.people.sign_in(token)
    assert secret is not None
    assert record.people.by_session(secret).role == "operator"  # type: ignore[union-attr]
    assert record.people.sign_in("kg_forged") is None
    with record.database.reading() as connection:
        kept = str(
            [*connection.execute(text("SELECT * FROM users")), *connection.execute(text("SELECT * FROM sessions"))]
        )
    assert token not in kept
    assert secret not in kept
    assert record.people.revoke("ann")
    assert record.people.by_token(token) is None
    assert record.people.by_session(secret) is None
    assert not record.people.revoke("nobody")


@pytest.mark.parametrize(
    ("name", "role"), [("ann", "king"), ("", "operator"), ("a\nb", "auditor"), ("x" * 81, "auditor")]
)
def test_impossible_people_are_refused(record: Record, name: str, role: str) -> None:
    with pytest.raises(ConfigError):
        record.people.add(name, role)
    record.people.add("bob", "operator")
    with pytest.raises(ConfigError, match="already"):
        record.people.add("bob", "auditor")


def test_the_story_of_a_unit_has_everything_in_order(record: Record, file_some: FileSome) -> None:
    a, b = file_some(0.5, 0.2, unit="4711", lot="L1")
    file_some(0.4, unit="4712", lot="L1")
    record.verdicts.add(NewVerdict(a, "bad", "ann", defect="chip", note="left edge"))
    record.verdicts.undo("ann", "tab")
    record.verdicts.add(NewVerdict(a, "good", "ann"), "tab")
    story = record.inspections.story("4711")
    assert [row["id"] for row in story] == [a, b]
    assert [(v["verdict"], v["undone"]) for v in story[0]["verdicts"]] == [
        ("bad", True),
        ("undo", False),
        ("good", False),
    ]
    assert story[0]["revision"] == record.revisions.everything()[0]["hash"]
    assert {row["unit"] for row in record.inspections.search("471")} == {"4711", "4712"}
    assert [row["id"] for row in record.inspections.search("", "L1", most=1)] == [b + 1]
    assert record.inspections.search("100%_") == []
    assert len(record.inspections.by_lot()) == 2


def test_a_persons_word_goes_before_the_sets(record: Record, file_some: FileSome) -> None:
    numbers = file_some(0.9, 0.1, 0.5, 0.6)
    rows: list[dict[str, Any]] = [record.inspections.one(n) or {} for n in numbers]
    record.labels.take_over(
        "set",
        [
            {
                "image": r["image"],
                "sha256": r["sha256"],
                "label": label,
                "defect": None,
                "split": "test",
                "generated": 0,
            }
            for r, label in zip(rows[:3], (0, 0, 0), strict=True)
        ],
    )
    record.verdicts.add(NewVerdict(numbers[0], "bad", "ann", defect="chip"))
    record.verdicts.add(NewVerdict(numbers[2], "drop", "ann"))
    record.verdicts.add(NewVerdict(numbers[3], "bad", "ann"))
    scoring = record.revisions.everything()[0]["scoring"]
    scored = {row["id"]: (row["label"], row["given"], row["defect"]) for row in record.labels.scored(scoring)}
    assert scored == {numbers[0]: (1, 0, "chip"), numbers[1]: (0, 0, None), numbers[3]: (1, None, "bad")}
    said = [(row["image"], row["verdict"], row["verdict_defect"]) for row in record.verdicts.corrections()]
    assert sorted(said) == sorted([(rows[0]["image"], "bad", "chip"), (rows[2]["image"], "drop", None)])


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense://"])
def test_addresses_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--db"):
        Database(url)


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for url in (f"sqlite:///{tmp_path / 'file' / 'x.db'}", f"postgresql://u:secret@localhost:1/{tmp_path.name}"):
        with pytest.raises(StorageError) as told:
            Database(url)
        assert "secret" not in str(told.value)


def test_nothing_is_filed_when_one_row_cannot_be(record: Record, file_some: FileSome) -> None:
    file_some(0.5)
    good = Filed("u", "u.png", "0" * 64, 1, 0.3, 0.7, 0.5, "review")
    with pytest.raises(DBAPIError):
        record.inspections.file([good, Filed("u", "u.png", "0" * 64, 999, 0.3, 0.7, 0.5, "review")])
    assert len(record.inspections.search()) == 1
