"""Serves a recipe: loads it, opens the record, fills the queue, and answers until it is stopped."""

from __future__ import annotations

import getpass
import ipaddress
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from knowngood.data.images import read_bytes
from knowngood.data.loading import loaded
from knowngood.data.pages import file_of, without_suffix
from knowngood.data.records import Records
from knowngood.errors import ConfigError, ImageError, KnownGoodError, RecipeError
from knowngood.metrics.thresholds import Thresholds, decide
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.folder import place_of
from knowngood.recipe.manifest import decision_digest
from knowngood.recipe.predicting import say_unchecked
from knowngood.recipe.session import AUTO, announce, open_session
from knowngood.review.settings import Settings
from knowngood.review.station import FILES, Job, Station, review_priority, tidy
from knowngood.review.store.inspections import Filed
from knowngood.review.store.record import Record
from knowngood.workflows.runs import unseen

log = logging.getLogger("knowngood.review")
DATABASE = "knowngood-review/record.db"
_CHUNK = 64


def open_station(recipe: str | Path, db: str | Path = DATABASE, *, runtime: str = AUTO, **settings: Any) -> Station:
    """Loads a recipe and opens its record.

    Args:
        recipe: Folder of a recipe, or of the run that made it.
        db: Database of the record: a file, sqlite:///FILE or postgresql://...
        runtime: As in `open_session`: "auto" for the cascade or the fastest export that the recipe has.
        **settings: Fields of `Settings`; shelf is a folder beside the database unless given.

    Raises:
        RecipeError: The recipe cannot be loaded.
        StorageError: The record cannot be opened.
        RecipeError: It is not signed by one of the keys that are required.
        UnsignedError: Nobody has approved a revision of it, and it is not the first of the record.
    """
    place = place_of(recipe)
    before = decision_digest(place)
    keys = settings.get("require_signature")
    signed_by = _signed(place, keys) if keys else None
    loaded = Recipe.load(place)
    if decision_digest(place) != before:
        raise RecipeError(f"The recipe at {place} was changed while it was loaded.", fix="Start again.")
    any_product = bool(settings.get("any_product"))
    session = open_session(loaded, runtime, any_product=any_product)
    announce(session)
    say_unchecked(loaded, any_product)
    record = Record(db)
    if settings.get("shelf") is None:
        base = Path(record.database.url.database or ".").parent if record.database.is_sqlite else Path(DATABASE).parent
        settings["shelf"] = base / "images"
    if not settings.get("user"):
        settings["user"] = _name()
    return Station(session, record, Settings(**settings), signed_by)


def approval_notes(station: Station) -> list[str]:
    """Returns notes on the approval of the revision that is served, a sentence each."""
    number, revisions = station.last["id"], station.record.revisions
    newer = revisions.waiting(station.scoring, number)
    notes = [] if revisions.signed(number) else [f"revision {number} is served and nobody has approved it"]
    if newer is not None:
        notes.append(f"revision {newer['id']} waits for a sign-off on the page Recipes; revision {number} is served")
    return notes


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address can be reached from this computer only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(station: Station, host: str) -> None:
    """Checks that the station may listen on a host.

    Raises:
        ConfigError: Others can reach it, and nobody has a token.
    """
    if not is_loopback(host) and not any(row["revoked_at"] is None for row in station.record.people.listed()):
        raise ConfigError(
            f"--host {host} lets other computers in, and nobody has a token yet.",
            fix="knowngood users NAME --role engineer --db DB",
        )


def serve(
    station: Station, host: str = "127.0.0.1", port: int = 8080, *, started: Callable[[], None] | None = None
) -> None:
    """Serves until it is stopped (Ctrl-C, SIGTERM); accepted requests are finished first.

    Args:
        station: To serve.
        host: Address to listen on.
        port: Of it.
        started: Called when the first request can come.
    """
    from knowngood.review.web.factory import make_app

    check_host(station, host)
    server_of(make_app(station), host, port, started=started).run()


def server_of(app: Any, host: str = "127.0.0.1", port: int = 8080, *, started: Callable[[], None] | None = None) -> Any:
    """Returns the uvicorn server of an application, whose connections are within bounds.

    Args:
        app: Of the station.
        host: Address to listen on.
        port: Of it.
        started: Called when the first request can come.
    """
    import uvicorn

    from knowngood.review.web.connections import BoundedProtocol, room_for_connections

    room_for_connections()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=60,
        timeout_keep_alive=30,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if started is not None:
                started()

    return Server(config)


def take_over_run(station: Station, run: Path) -> int:
    """Fills record and queue from the recipe's own run: its images, labels, splits and scores; nothing is scored again.

    Scores of images that it trained on are from networks that had not seen them, where the run has such. Where an
    export or a cascade decides, the scores of the other images are not the run's: `inspect_run` computes them.

    Args:
        station: Of the run's recipe.
        run: Folder of the run.

    Returns:
        How many inspections were added; 0 for a folder that is no run or was taken over before.
    """
    records, scores = run / "records.parquet", run / "scores.parquet"
    if not (records.is_file() and scores.is_file()):
        return 0
    frame = pl.read_parquet(records)
    station.record.labels.take_over(str(run.absolute()), label_rows(frame))
    scored = unseen(pl.read_parquet(scores)).select("image", "score", cs.by_name("reason", require_all=False))
    joined = frame.join(scored, on="image", how="inner")
    if station.session.certificate is not None:
        joined = joined.filter(pl.col("split") == "train")
    known, revision = station.record.inspections.known(station.scoring), station.revision
    cuts = Thresholds(revision["accept_below"], revision["reject_from"])
    added = 0
    rows = [row for row in joined.iter_rows(named=True) if _key(row) not in known and row["score"] is not None]
    for start in range(0, len(rows), 1000):
        chunk = rows[start : start + 1000]
        filed = [_filed(station, row, cuts, revision["id"]) for row in chunk]
        places = [
            (row["sha256"], row["path"], file_of(row["path"]).stat().st_size)
            for row in chunk
            if file_of(row["path"]).is_file()
        ]
        added += len(station.record.inspections.file(filed, places))
    return added


def inspect_run(station: Station, run: Path) -> int:
    """Inspects the images of a run that the recipe did not train on, where an export or a cascade decides.

    Args:
        station: Of the run's recipe.
        run: Folder of the run.

    Returns:
        How many were inspected; 0 where `take_over_run` has taken all of them over.
    """
    place = run / "records.parquet"
    if station.session.certificate is None or not place.is_file():
        return 0
    frame = pl.read_parquet(place).filter(pl.col("split").is_null() | (pl.col("split") != "train"))
    return _inspect(station, Records(frame, "run", run.absolute()).usable().frame)


def inspect_data(
    station: Station,
    data: str | Path | Records,
    source: str | None = None,
    *,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
) -> int:
    """Inspects the photographs of a data set that this recipe has not inspected, and records the labels of all.

    Args:
        station: To inspect with.
        data: As `knowngood.load` takes it.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.

    Returns:
        How many were inspected.
    """
    records = loaded(data, source, good=good, bad=bad)
    if records.licence:
        reporter().say(f"Licence of the data: {records.licence}")
    usable = records.usable().frame
    station.record.labels.take_over(str(records.root), label_rows(usable))
    return _inspect(station, usable)


def _inspect(station: Station, usable: pl.DataFrame) -> int:
    """Inspects the photographs of a table of records that this recipe has not inspected; returns how many."""
    known = station.record.inspections.known(station.scoring)
    rows = [row for row in usable.iter_rows(named=True) if _key(row) not in known]
    station.progress = (0, len(rows))
    for start in range(0, len(rows), _CHUNK):
        station.inspect([_job(row, station.settings.user) for row in rows[start : start + _CHUNK]])
        station.progress = (min(start + _CHUNK, len(rows)), len(rows))
    return len(rows)


def label_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Returns the labels of the readable images of a table, as rows of the record."""
    readable = frame.filter(pl.col("sha256").is_not_null() & pl.col("error").is_null())
    columns = ("image", "sha256", "label", "defect", "split", "generated")
    return readable.select(columns).with_columns(pl.col("generated").cast(pl.Int8)).to_dicts()


def in_background(*works: Callable[[], object]) -> threading.Thread:
    """Runs long work in a thread beside the server, one piece after the other; errors are reported, not raised."""

    def run(all_of: Iterable[Callable[[], object]]) -> None:
        for work in all_of:
            try:
                work()
            except KnownGoodError as error:
                reporter().say(str(error))
            except Exception as error:
                log.exception("work beside the server failed")
                reporter().say(f"work beside the server failed: {type(error).__name__}")

    thread = threading.Thread(target=run, args=(works,), daemon=True, name="data")
    thread.start()
    return thread


def _filed(station: Station, row: dict[str, Any], cuts: Thresholds, revision: int) -> Filed:
    score = float(row["score"])
    found = row.get("reason")  # older runs have no such column
    priority, reason = review_priority(score, cuts, row["label"], found)
    if row["split"] == "train" and reason == "review band":
        priority, reason = None, ""  # of training images only label issues are worth a review
    decision = str(decide([score], cuts, [found])[0])
    return Filed(
        unit=_unit(row) or row["sha256"][:12],
        image=_image(row),
        sha256=row["sha256"],
        revision_id=revision,
        accept_below=cuts.accept_below,
        reject_from=cuts.reject_from,
        defect_score=score,
        decision=decision,
        lot=tidy(row["lot"]),
        machine=tidy(row["machine"]),
        source="out-of-fold" if row["split"] == "train" else "data",
        who=station.settings.user,
        priority=priority,
        reason=reason,
        input_reason=found,
    )


def _job(row: dict[str, Any], who: str) -> Job:
    data, error = b"", None
    try:
        data = read_bytes(row["path"])
    except ImageError:
        error = "It can no longer be read: it is gone, empty or without permission."
    place = row["path"] if error is None else None
    return Job(data, row["image"], _unit(row), row["lot"], row["machine"], "data", who, place, row["label"], error)


def _unit(row: dict[str, Any]) -> str | None:
    """Returns the unit that a data set's image shows: its path below the root, without the ending."""
    return tidy(without_suffix(row["image"]))


def _image(row: dict[str, Any]) -> str:
    """Returns an image's name as the record has it."""
    return tidy(row["image"], FILES) or "image"


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return _image(row), row["sha256"]


def _signed(place: Path, keys: Sequence[Path]) -> str:
    """Returns whose signature stands behind a recipe: the first digits of the key, and when.

    Raises:
        RecipeError: None of these keys has signed it as it lies there.
    """
    from knowngood.recipe.signing import verify

    found = verify(place, keys)
    return f"{found.key[:16]}, {found.signed}"


def _name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for the user
        return "local"
