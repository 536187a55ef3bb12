"""The tables of the record. Rows of measurements and verdicts are only ever added; working state is apart from them.

Added to, never changed (triggers of the database hold that): `revisions`, `inspections`, `verdicts`, `signoffs`.
Working state, which nobody audits: `queue` (images and the windows they are assigned to), `sessions`, `beats`.
Where the bytes are: `images`.
The labels of data sets, read again whenever one is loaded: `labels`.

Times are UTC text, ISO 8601 with microseconds, so that they sort as they read, in every database.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    CheckConstraint,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from knowngood.errors import ConfigError, StorageError

ROLES = ("operator", "engineer", "auditor")
GOOD, BAD, UNSURE, DROP, UNDO = "good", "bad", "unsure", "drop", "undo"
VERDICTS = (GOOD, BAD, UNSURE, DROP)
APPEND_ONLY = ("revisions", "inspections", "verdicts", "signoffs")

_Key = Mapped[int]


class Base(DeclarativeBase):
    """Base class of the tables."""


class User(Base):
    """A person, or a machine that sends photographs; the token is kept as a hash only."""

    __tablename__ = "users"
    id: _Key = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[str] = mapped_column(String(32))
    revoked_at: Mapped[str | None] = mapped_column(String(32))
    __table_args__ = (CheckConstraint("role IN ('operator', 'engineer', 'auditor')", name="known_role"),)


class Session(Base):
    """A browser that signed in with a token."""

    __tablename__ = "sessions"
    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[str] = mapped_column(String(32))


class Revision(Base):
    """A recipe as it was served: hashes of everything that decides, its two thresholds, and who changed them."""

    __tablename__ = "revisions"
    id: _Key = mapped_column(Integer, primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)  # its name: seal of the manifest, or the digest
    digest: Mapped[str | None] = mapped_column(String(64), index=True)  # of everything that decides
    scoring: Mapped[str | None] = mapped_column(String(64), index=True)  # of everything that decides but the cuts
    parts: Mapped[str | None] = mapped_column(Text)  # JSON: file to SHA-256; None before files were recorded
    signed_by: Mapped[str | None] = mapped_column(Text)  # whose signature lay beside the recipe
    weights_sha256: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(200))
    accept_below: Mapped[float] = mapped_column(Float(53))
    reject_from: Mapped[float] = mapped_column(Float(53))
    manifest: Mapped[str] = mapped_column(Text)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("revisions.id"))
    who: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(32))
    why: Mapped[str] = mapped_column(Text)


class Image(Base):
    """Where the bytes of a photograph are; other tables refer to them by the hash."""

    __tablename__ = "images"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    place: Mapped[str | None] = mapped_column(Text)  # absolute path, or None where the bytes were not kept
    bytes: Mapped[int] = mapped_column(Integer)
    at: Mapped[str] = mapped_column(String(32))


class Label(Base):
    """The label of one image of a data set."""

    __tablename__ = "labels"
    id: _Key = mapped_column(Integer, primary_key=True)
    data: Mapped[str] = mapped_column(String(400))  # the set
    image: Mapped[str] = mapped_column(Text)  # name within the set
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    label: Mapped[int | None] = mapped_column(Integer)  # 0 good, 1 bad
    defect: Mapped[str | None] = mapped_column(String(80))
    split: Mapped[str | None] = mapped_column(String(16))
    generated: Mapped[int] = mapped_column(Integer, default=0)
    __table_args__ = (UniqueConstraint("data", "image", name="one_row_an_image"),)


class Inspection(Base):
    """The result of a recipe for one photograph, with everything needed to repeat it."""

    __tablename__ = "inspections"
    id: _Key = mapped_column(Integer, primary_key=True)
    unit: Mapped[str] = mapped_column(String(200), index=True)
    image: Mapped[str] = mapped_column(Text)  # name of the file, as it was sent
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    lot: Mapped[str | None] = mapped_column(String(200), index=True)
    machine: Mapped[str | None] = mapped_column(String(200))
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"), index=True)
    defect_score: Mapped[float | None] = mapped_column(Float(53))
    decision: Mapped[str | None] = mapped_column(String(8))
    accept_below: Mapped[float] = mapped_column(Float(53))
    reject_from: Mapped[float] = mapped_column(Float(53))
    region: Mapped[str | None] = mapped_column(Text)  # JSON (x0, y0, x1, y1) of the largest, pixels of the photograph
    brightness: Mapped[float | None] = mapped_column(Float(53))  # mean grey level, 0..255
    contrast: Mapped[float | None] = mapped_column(Float(53))  # standard deviation of the grey levels
    sharpness: Mapped[float | None] = mapped_column(Float(53))  # mean absolute step between neighbours
    error: Mapped[str | None] = mapped_column(Text)  # why it could not be inspected
    input_reason: Mapped[str | None] = mapped_column(Text)  # why a person has to decide whatever the score
    source: Mapped[str] = mapped_column(String(16))  # api, kserve, watch, data, out-of-fold
    who: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(32), index=True)


class Queued(Base):
    """An inspection that a person shall review, and the window that it is assigned to."""

    __tablename__ = "queue"
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id"), primary_key=True)
    priority: Mapped[float] = mapped_column("doubt", Float(53))  # the column keeps the name of version 0.1
    reason: Mapped[str] = mapped_column(String(40))
    passes: Mapped[int] = mapped_column(Integer, default=0)  # how often it was skipped: skipped ones come last
    settled: Mapped[int] = mapped_column(Integer, default=0)
    holder: Mapped[str | None] = mapped_column(String(200))
    held_until: Mapped[str | None] = mapped_column(String(32))
    __table_args__ = (Index("queue_order", "settled", "passes", text("doubt DESC"), "inspection_id"),)


class Verdict(Base):
    """A person's verdict on an inspection; an undo is a row of its own that names the row it undoes."""

    __tablename__ = "verdicts"
    id: _Key = mapped_column(Integer, primary_key=True)
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id"), index=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    verdict: Mapped[str] = mapped_column(String(8))
    defect: Mapped[str | None] = mapped_column(String(80))
    undoes: Mapped[int | None] = mapped_column(ForeignKey("verdicts.id"), unique=True)
    region: Mapped[str | None] = mapped_column(Text)  # the box that was on the screen
    note: Mapped[str | None] = mapped_column(Text)
    key: Mapped[str | None] = mapped_column(String(64), unique=True)  # of the request: sent twice, it counts once
    who: Mapped[str] = mapped_column(String(80), index=True)
    at: Mapped[str] = mapped_column(String(32))
    seconds: Mapped[float | None] = mapped_column(Float(53))  # from the picture to the key
    __table_args__ = (
        CheckConstraint("verdict IN ('good', 'bad', 'unsure', 'drop', 'undo')", name="known_verdict"),
        CheckConstraint("(verdict = 'undo') = (undoes IS NOT NULL)", name="undo_names_a_row"),
    )


class Signoff(Base):
    """A person's word on a new revision, with the requalification that they saw."""

    __tablename__ = "signoffs"
    id: _Key = mapped_column(Integer, primary_key=True)
    old_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"))
    new_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"), index=True)
    agrees: Mapped[int] = mapped_column(Integer)
    own: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # 1: by whom the revision was made
    result: Mapped[str] = mapped_column(Text)  # JSON of the figures
    who: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(32))
    why: Mapped[str] = mapped_column(Text)


class Beat(Base):
    """The last time that a station could write into the record: its sign of life."""

    __tablename__ = "beats"
    station: Mapped[str] = mapped_column(String(80), primary_key=True)
    at: Mapped[str] = mapped_column(String(32))


def now(after: float = 0.0) -> str:
    """Returns the time in UTC, `after` seconds from now, as the tables hold it."""
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=after)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


_UNUSABLE = (
    "locked",
    "busy",
    "full",
    "i/o error",
    "readonly",
    "unable to open",
)  # errors of SQLite about the disk or the file
_MIGRATING = 40_923_761  # number of PostgreSQL's advisory lock: two stations started at once migrate in turn


class Database:
    """One database with the record's tables.

    Args:
        url: "sqlite:///FILE", a path, or "postgresql://...".

    Raises:
        ConfigError: The address is none, or of a database that is not supported.
        StorageError: It cannot be opened.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = address(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            try:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _closed(self.url, str(error)) from error
        more: dict[str, Any] = {} if self.is_sqlite else {"pool_size": 10, "max_overflow": 20}
        self.engine: Engine = create_engine(self.url, pool_pre_ping=not self.is_sqlite, **more)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        try:
            self._migrate()
        except DBAPIError as error:
            raise _closed(self.url, str(error.orig).splitlines()[0]) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yields a transaction that is on the disk when the block ends, and undone when it raises.

        Raises:
            StorageError: The database cannot be written now.
        """
        try:
            with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise _closed(self.url, str(error.orig).splitlines()[0]) from error
        except NoConnectionError as error:
            raise _closed(self.url, "all connections to it are busy") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yields a transaction to read in; it waits for no writer.

        Raises:
            StorageError: The database cannot be read now.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except OperationalError as error:
            why = str(error.orig).splitlines()[0]
            if self.is_sqlite and not any(sign in why.lower() for sign in _UNUSABLE):
                raise  # a mistake of ours, such as a table that is not there
            raise _closed(self.url, why) from error
        except NoConnectionError as error:
            raise _closed(self.url, "all connections to it are busy") from error

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", "knowngood.review.store:migrations")
        config.set_main_option("path_separator", "os")
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATING})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def address(url: str | Path) -> URL:
    """Returns the address of a database; a path is SQLite's.

    Raises:
        ConfigError: It is none.
    """
    words = str(url)
    try:
        made = make_url(words if "://" in words else f"sqlite:///{words}")
        backend = made.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"--db {words}: {error}", expected="a file, sqlite:///FILE or postgresql://...") from error
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"--db {words}: {backend} is not supported.", expected="SQLite or PostgreSQL")
    if backend == "sqlite" and made.database in (None, "", ":memory:"):
        raise ConfigError(f"--db {words} names no file.", expected="a file: the record has to last")
    return made.set(drivername="postgresql+psycopg") if backend == "postgresql" else made


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin in `_begin_sqlite`
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # a writer takes its place at once: one that began as a reader could not become a writer beside another
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _closed(url: URL, why: str) -> StorageError:
    return StorageError(
        f"The record {url.render_as_string(hide_password=True)} cannot be used: {why}.",
        fix="Check --db, the disk, and that the database runs.",
    )
