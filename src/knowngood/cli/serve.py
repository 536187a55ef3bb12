"""knowngood serve, replay, users: the review station, and what belongs to its record."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import typer

from knowngood.cli.options import (
    ADVANCED,
    Bad,
    Good,
    RecipePath,
    RequireSignature,
    Verb,
    check_name,
    data_option,
    to_read,
    with_config,
)
from knowngood.cli.output import Json, answer_json, at_work, show_table
from knowngood.environment import install_command
from knowngood.errors import DataError, MissingExtraError

Db = Annotated[str, typer.Option("--db", help="The record: a file, sqlite:///FILE or postgresql://USER@HOST/NAME.")]
_HERE = "knowngood-review/record.db"


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command(cls=Verb, short_help="Serve a recipe: review station and API.")(serve)
    app.command(cls=Verb, short_help="Repeat old inspections of a unit.")(replay)
    app.command(cls=Verb, short_help="Who may use the review station.")(users)


@with_config
def serve(  # noqa: PLR0913, PLR0917  (an option each)
    recipe: RecipePath,
    data: Annotated[str | None, data_option("Photographs to inspect and to review; the run's own if left out.")] = None,
    audit: Annotated[Path | None, to_read("audit.parquet of `knowngood audit`: what it suspects is queued.")] = None,
    judged: Annotated[
        Path | None, to_read("Folder of `knowngood synthesize judge`: what it would drop is queued.", ADVANCED)
    ] = None,
    good: Good = None,
    bad: Bad = None,
    db: Db = _HERE,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this computer everybody needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
    inbox: Annotated[Path | None, to_read("Folder into which a camera drops photographs.")] = None,
    keep: Annotated[
        Literal["all", "doubtful"],
        typer.Option(help="Which photographs that were sent are kept.", rich_help_panel=ADVANCED),
    ] = "all",
    image_folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the photographs that are kept; beside the record if left out.", rich_help_panel=ADVANCED
        ),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            help="auto, torch, openvino or onnxruntime; auto takes the cascade or the fastest export.",
            rich_help_panel=ADVANCED,
        ),
    ] = "auto",
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Ask for a token on this computer too.", rich_help_panel=ADVANCED)
    ] = False,
    allow_unapproved: Annotated[
        bool,
        typer.Option(
            "--allow-unapproved",
            help="Serve the newest revision though nobody has approved it.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    any_product: Annotated[
        bool,
        typer.Option(
            "--any-product",
            help="Decide by the score alone what does not look like the recipe's photographs.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    allow_own_approval: Annotated[
        bool,
        typer.Option(
            "--allow-own-approval",
            help="Engineers may approve revisions that they made; the record says so.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    require_signature: RequireSignature = None,
    queue_size: Annotated[
        int, typer.Option(min=1, help="Photographs that wait at most; more are answered 503.", rich_help_panel=ADVANCED)
    ] = 128,
) -> None:
    """Serve a recipe: pages where people clear the queue, move the threshold and look units up; an API for machines.

    It listens on this computer only, unless --host says otherwise and somebody has a token (`knowngood users`).
    """
    check_name("runtime", runtime)
    with at_work():
        if image_folder is not None:
            from knowngood.data.loading import refuse_in_data

            refuse_in_data(image_folder, [place for place in (data, inbox) if place is not None])
        serving = _station_code()
        local = serving.is_loopback(host)
        limits: dict[str, Any] = {"keep": keep, "queue_size": queue_size, "allow_unapproved": allow_unapproved}
        limits |= {"batch": min(16, queue_size)}
        limits |= {"any_product": any_product, "allow_own_approval": allow_own_approval}
        limits |= {"require_signature": tuple(require_signature or ())}
        opened = {"runtime": runtime, "shelf": image_folder, "open": local and not tokens}
        station = serving.open_station(recipe, db, **opened, **limits)
        serving.check_host(station, host)
        if inbox is not None and not inbox.is_dir():
            raise DataError(f"There is no folder {inbox}.", fix="Check --inbox.")
        if data is None:
            serving.take_over_run(station, recipe)
        works: list[Callable[[], object]] = []
        if data is None:
            works.append(lambda: serving.inspect_run(station, recipe))
        if data is not None:
            works.append(lambda: serving.inspect_data(station, data, good=good or (), bad=bad or ()))
        if audit is not None:
            from knowngood.review.verdict_files import queue_audit

            works.append(lambda: queue_audit(station.record, audit, station.scoring))
        if judged is not None:
            from knowngood.review.verdict_files import queue_generated, read_judgement

            read_judgement(judged)  # a wrong folder is an error before anything is served
            works.append(lambda: queue_generated(station, judged))
        serving.in_background(*works)
        watcher = None
        if inbox is not None:
            from knowngood.review.inbox import Watcher

            watcher = Watcher(station, inbox)
            station.workers.append(watcher)

        def started() -> None:
            typer.echo(f"knowngood: http://{host}:{port} serves {station.inspector.name}; Ctrl-C ends it", err=True)
            for line in serving.approval_notes(station):
                typer.echo(f"knowngood: {line}", err=True)
            if watcher is not None:
                watcher.start()

        serving.serve(station, host, port, started=started)
        if watcher is not None:
            watcher.stop()
        station.record.close()


def replay(
    recipe: RecipePath,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="Name of the unit, as the record has it.")],
    db: Db = _HERE,
    lot: Annotated[
        str | None, typer.Option(help="Lot of the unit, where several lots have one of this name; '' for none.")
    ] = None,
    json: Json = False,
) -> None:
    """Repeat every inspection of a unit with the cuts of its time, and say whether the recipe still agrees."""
    with at_work():
        station = _station_code().open_station(recipe, db, replay_only=True)
        lots = station.record.inspections.lots_of(unit)
        if not lots or (lot is not None and (lot or None) not in lots):
            raise DataError(f"There is no unit {unit!r} in {db}.", fix="Look for it on the page Units.")
        if lot is None and len(lots) > 1:
            named = ", ".join(repr(one or "") for one in lots)
            raise DataError(f"The lots {named} each have a unit {unit!r}.", fix="Say which with --lot.")
        rows = station.record.inspections.story(unit, lots[0] if lot is None else lot or None)
        found = [station.replay(row) for row in rows]
    if json:
        answer_json({"unit": unit, "agrees": all(one["agrees"] for one in found), "inspections": found})
    else:
        words = {True: "agrees", False: "does not agree", None: "cannot be repeated"}
        listed = [
            (one["inspection"], one["at"][:16], one["then"]["defect_score"], one["then"]["decision"])
            + ((one["now"]["defect_score"], one["now"]["decision"]) if one["now"] else (None, None))
            + (words[one["agrees"]], one["why"])
            for one in found
        ]
        show_table(unit, ("inspection", "when (UTC)", "score", "decision", "score now", "now", "", "why"), listed)
    if not all(one["agrees"] for one in found):
        raise typer.Exit(1)


def users(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Person or machine to add; nothing lists all.")
    ] = None,
    role: Annotated[
        Literal["operator", "engineer", "auditor"],
        typer.Option(help="operator judges images; engineer also moves thresholds and signs; auditor only looks."),
    ] = "operator",
    revoke: Annotated[bool, typer.Option("--revoke", help="Make the token of NAME worthless.")] = False,
    db: Db = _HERE,
    json: Json = False,
) -> None:
    """Add a person and print their token, once; it is kept as a hash only. Without NAME, list everybody."""
    _station_code()
    from knowngood.review.store.record import Record

    record = Record(db)
    if name is None:
        rows = record.people.listed()
        if json:
            answer_json({"users": rows})
            return
        show_table("Users", ("name", "role", "since", "revoked"), [tuple(row.values()) for row in rows])
        return
    if revoke:
        if not record.people.revoke(name):
            raise DataError(f"There is no user {name!r} with a token.", fix="knowngood users")
        answer_json({"revoked": name}) if json else typer.echo(f"The token of {name} is worthless now.")
        return
    token = record.people.add(name, role)
    answer_json({"name": name, "role": role, "token": token}) if json else typer.echo(token)


def _station_code() -> ModuleType:
    """Returns the module that serves.

    Raises:
        MissingExtraError: What it stands on is not installed.
    """
    try:
        for name in ("alembic", "fastapi", "prometheus_client", "python_multipart", "sqlalchemy", "uvicorn"):
            import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"The review station needs the package {error.name}, which is not installed.",
            fix=install_command("review"),
        ) from error
    from knowngood.review import serving

    return serving
