"""How every verb answers: one JSON document or a readable table on stdout, everything else on stderr, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from knowngood.errors import KnownGoodError
from knowngood.progress import reporting_to

if TYPE_CHECKING:
    from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

USERS_MISTAKE, OURS, INTERRUPTED = 2, 1, 130
# click's ClickException, which typer has under no public name of its own
_UsageErrors: type[Exception] = typer.BadParameter.__mro__[2]


def guarded(app: Callable[..., Any]) -> None:
    """Runs the command line; turns errors into messages and exit codes (2 the user's, 1 ours)."""
    wants_json = "--json" in sys.argv
    try:
        # typer's own way prints usage errors in colour but keeps them to itself, so a script gets them by exception
        code = app(standalone_mode=not wants_json)
        raise SystemExit(code if isinstance(code, int) else 0)
    except _UsageErrors as error:
        message = error.format_message()  # type: ignore[attr-defined]
        _tell(KnownGoodError(message, fix=f"{_verb()} --help"), wants_json)
        raise SystemExit(USERS_MISTAKE) from None
    except KnownGoodError as error:
        _tell(error, wants_json)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception:
        import traceback

        traceback.print_exc()
        typer.echo("knowngood: this is a mistake of ours; please report it with the lines above.", err=True)
        raise SystemExit(OURS) from None


def _tell(error: KnownGoodError, as_json: bool) -> None:
    if as_json:
        answer_json({"error": {"what": error.what, "expected": error.expected, "fix": error.fix}})
    typer.echo(f"knowngood: {error}", err=True)


def _verb() -> str:
    return " ".join(["knowngood", *(word for word in sys.argv[1:2] if not word.startswith("-"))])


@contextmanager
def at_work() -> Iterator[None]:
    """Shows the progress of what is called inside on stderr; Ctrl-C ends it without a traceback."""
    from knowngood.cli.showing import reporter_for

    reporter = reporter_for(sys.stderr)
    try:
        with reporter, reporting_to(reporter):
            yield
    except KeyboardInterrupt:  # here, since typer takes it for itself further out
        typer.echo("\nknowngood: stopped; the same command goes on from what is saved.", err=True)
        raise typer.Exit(INTERRUPTED) from None


def answer_json(document: Any) -> None:
    """Prints the one JSON document of a verb."""
    print(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True, default=str))


def show_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[int] = ()
) -> None:
    """Prints a table; columns whose cells are numbers, and those in `right`, stand to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = [["" if cell is None else cell for cell in row] for row in rows]
    table: Table = Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float)) or row[index] == "" for row in rows)
        longest = max(map(len, name.split()), default=0)  # a heading may break between words, never inside one
        side: Literal["right", "left"] = "right" if numeric or index in right else "left"
        table.add_column(name, justify=side, overflow="fold", min_width=longest)
    for row in rows:
        table.add_row(*(escape(_shown(cell)) for cell in row))
    Console(file=sys.stdout).print(table)


def show_made(title: str, counts: Mapping[str, Mapping[str, int]], notes: Iterable[str]) -> None:
    """Prints how many images of each split a made set has, and what its reader should know."""
    rows = [(name, *numbers.values()) for name, numbers in counts.items()]
    show_table(title, ("", "good", "bad", "of them generated"), rows, right=range(1, 4))
    for sentence in notes:
        typer.echo(sentence)


def show_folders(facts: Mapping[str, Any]) -> None:
    """Prints what each folder, or each label of a table, was taken for, and how many files were passed over.

    Args:
        facts: `folders` (name, label, images, masks, decided), `passed_over` and `passed_over_examples`; runs of an
            older knowngood have none of them.
    """
    folders, passed_over = facts.get("folders", ()), facts.get("passed_over", {})
    rows = [(one_line(f["name"]) or '""', f["label"], f["images"], f["masks"], f["decided"]) for f in folders]
    if rows:
        show_table("What the folders hold", ("folder or label", "taken as", "images", "masks", "decided by"), rows)
    if passed_over:
        examples = facts["passed_over_examples"]
        left = [(why, count, "\n".join(map(one_line, examples[why]))) for why, count in passed_over.items()]
        show_table("Passed over", ("why", "files", "for instance"), left)


def percent(share: float | None) -> str:
    """Returns a share as people read it: 0.0125 is "1.2 %"."""
    return "" if share is None else f"{100 * share:.1f} %"


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return "\n".join(one_line(line) for line in str(cell).split("\n"))  # these line breaks are ours


def one_line(name: str) -> str:
    """Returns a file's name with its line breaks and control characters shown, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name)
