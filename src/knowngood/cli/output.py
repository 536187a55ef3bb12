"""Progress on stderr: a bar with an ETA on a terminal, plain lines with an ETA in a log."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from knowngood.cli.suggesting import suggestion
from knowngood.errors import KnownGoodError
from knowngood.progress import reporting_to

if TYPE_CHECKING:
    from rich.table import Table


class Bars:
    """Progress bars on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        return self.progress.add_task(escape(title), total=total, completed=done, note="")

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        self.progress.update(TaskID(task), advance=steps, note=escape(note))

    def finish(self, task: int) -> None:
        self.progress.remove_task(TaskID(task))

    def say(self, message: str) -> None:
        self.console.print(escape(message), highlight=False)

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()


@dataclass
class _Task:
    title: str
    total: int | None
    done: int
    before: int  # done by an earlier run: it says nothing about the rate of this one
    began: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)


class Lines:
    """One line every so often, for logs."""

    EVERY = 15.0  # seconds between lines of one task

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.tasks: dict[int, _Task] = {}
        self.next = 0

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        self.next += 1
        self.tasks[self.next] = _Task(title, total, done, done)
        return self.next

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        one = self.tasks[task]
        one.done += steps
        now = time.monotonic()
        if now - one.shown >= self.EVERY:
            one.shown = now
            self.say(f"{one.title}: {one.done}{_rest(one, now)}{'  ' + note if note else ''}")

    def finish(self, task: int) -> None:
        one = self.tasks.pop(task)
        spent = time.monotonic() - one.began
        if spent >= 1:
            self.say(f"{one.title}: {one.done} done in {spent:.0f} s")

    def say(self, message: str) -> None:
        print(message, file=self.stream, flush=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def reporter_for(stream: TextIO) -> Bars | Lines:
    """Returns bars for a terminal, lines for anything else."""
    return Bars(stream) if stream.isatty() else Lines(stream)


def _rest(task: _Task, now: float) -> str:
    if not task.total or task.done <= task.before:
        return ""
    left = (now - task.began) / (task.done - task.before) * max(0, task.total - task.done)
    return f" of {task.total}, {left:.0f} s left"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

USERS_MISTAKE, OURS, INTERRUPTED, TERMINATED = 2, 1, 130, 143
# click's ClickException, which typer has under no public name of its own
_UsageErrors: type[Exception] = typer.BadParameter.__mro__[2]


def guarded(app: Callable[..., Any]) -> None:
    """Runs the command line; turns errors into messages and exit codes.

    They are 2 for the user's mistakes, 1 for ours, 130 after Ctrl-C and 143 after SIGTERM, which ends a command in the
    same way: what is half done is put away, what runs beside it is ended.
    """
    wants_json = "--json" in sys.argv
    try:
        with _ended_by_signal():
            code = app(standalone_mode=False, prog_name="knowngood")
        raise SystemExit(code if isinstance(code, int) else 0)
    except _UsageErrors as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
            typer.echo(error.format_message(), err=True)  # type: ignore[attr-defined]
        else:
            _tell(KnownGoodError(_usage(error), fix=suggestion(error, sys.argv[1:])), wants_json)
        raise SystemExit(USERS_MISTAKE) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(_stopped()) from None
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


def _usage(error: Any) -> str:
    """Returns what is wrong with what was typed, without the library's own suggestion."""
    if str(error.message).startswith(("No such option", "No such command")):
        return str(error.message).partition(" Did you mean")[0]
    return str(error.format_message())


class _Signals:
    """Which signal ends the command, once one has come."""

    code = INTERRUPTED


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Has SIGTERM interrupt the block as Ctrl-C does, and nothing interrupt it twice."""
    _Signals.code = INTERRUPTED
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupted(_: int, __: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what ends is not to be ended again
        _Signals.code = TERMINATED
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped() -> int:
    """Says that the command was stopped, and returns its exit code."""
    typer.echo("\nknowngood: stopped; the same command goes on from what is saved.", err=True)
    return _Signals.code


@contextmanager
def at_work() -> Iterator[None]:
    """Shows the progress of what is called inside on stderr; Ctrl-C and SIGTERM end it without a traceback."""

    reporter = reporter_for(sys.stderr)
    try:
        with reporter, reporting_to(reporter):
            yield
    except KeyboardInterrupt:  # here, since typer takes it for itself further out
        raise typer.Exit(_stopped()) from None


def end_for_errors(errors: int, photographs: int, most: int) -> None:
    """Ends with exit code 1 where more photographs than `most`, or all of them, could not be read.

    Call it last: rows and answer are out by then.
    """
    if errors and (errors > most or errors == photographs):
        which = f"{errors} of {photographs} photographs" if errors < photographs else "No photograph"
        typer.echo(f"knowngood: {which} could {'not ' if errors < photographs else ''}be read (exit code 1).", err=True)
        raise typer.Exit(OURS)


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


def percent_range(interval: Sequence[float] | None) -> str:
    """Returns an interval of shares as people read it: "1.2 % to 3.4 %"; nothing for none."""
    return f"{percent(interval[0])} to {percent(interval[1])}" if interval else ""


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return "\n".join(one_line(line) for line in str(cell).split("\n"))  # these line breaks are ours


def one_line(name: str) -> str:
    """Returns a file's name with its line breaks and control characters shown, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name)
