"""How every verb answers: one JSON document or a readable table on stdout, everything else on stderr, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knowngood.errors import KnownGoodError
from knowngood.progress import reporting_to

if TYPE_CHECKING:
    from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

USERS_MISTAKE, OURS, INTERRUPTED = 2, 1, 130


def guarded(app: Callable[[], Any]) -> None:
    """Runs the command line; turns errors into messages and exit codes (2 the user's, 1 ours)."""
    try:
        app()
    except KnownGoodError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": {"what": error.what, "expected": error.expected, "fix": error.fix}}))
        typer.echo(f"knowngood: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("\nknowngood: stopped; the same command goes on from what is saved.", err=True)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception:
        import traceback

        traceback.print_exc()
        typer.echo("knowngood: this is a mistake of ours; please report it with the lines above.", err=True)
        raise SystemExit(OURS) from None


@contextmanager
def at_work() -> Iterator[None]:
    """Shows the progress of what is called inside on stderr."""
    from knowngood.cli.showing import reporter_for

    reporter = reporter_for(sys.stderr)
    with reporter, reporting_to(reporter):
        yield


def answer_json(document: Any) -> None:
    """Prints the one JSON document of a verb."""
    print(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True, default=str))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; columns whose cells are numbers stand to the right."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = [["" if cell is None else cell for cell in row] for row in rows]
    table: Table = Table(title=escape(title), title_justify="left", title_style="bold", header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float)) or row[index] == "" for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_shown(cell)) for cell in row))
    Console(file=sys.stdout).print(table)


def _shown(cell: object) -> str:
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
