"""What verbs that can run on a cluster share: a quiet terminal, and where their folder has to be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from knowngood.cli.output import at_work
from knowngood.errors import ConfigError
from knowngood.files import check_writable
from knowngood.scale.config import ClusterConfig


@contextmanager
def at_work_on(config: ClusterConfig) -> Iterator[None]:
    """Shows progress as `at_work` does; a cluster's messages stay off the terminal or go to stderr."""
    if config.engine == "local":
        with at_work():
            yield
        return
    with _quiet(), at_work(), redirect_stdout(sys.stderr):
        yield


def check_folder(config: ClusterConfig, out: Path | None, endings: tuple[str, ...] = ()) -> None:
    """Looks whether --out can be written, and names a folder where a cluster writes one.

    Args:
        config: Where the work is done.
        out: Value of --out.
        endings: Of the file that is written without a cluster; none where that is a folder too.

    Raises:
        ConfigError: It is missing, or has the name of a file, or of no such file.
        StorageError: It cannot be written.
    """
    if config.engine != "local" and (out is None or out.suffix.lower() in (".csv", ".parquet")):
        raise ConfigError(
            f"--engine {config.engine} writes a folder of Parquet files, and "
            + ("no --out says where." if out is None else f"{out} is named like one file."),
            fix="--out scores" if out is None else f"--out {out.with_suffix('')}",
        )
    alone = config.engine == "local" and bool(endings)
    if alone and out is not None and out.suffix.lower() not in endings:
        ends = f"ends in {out.suffix!r}" if out.suffix else "has no ending"
        raise ConfigError(f"--out {out} {ends}.", expected=" or ".join(endings), fix=f"--out {out}{endings[0]}")
    if out is not None:
        check_writable(out, folder=not alone)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what Ray's C++ writes past Python to stderr off the terminal; its logs have it too."""
    before, kept = sys.stderr, os.dup(2)
    with open(os.devnull, "wb") as nowhere, os.fdopen(kept, "w", buffering=1) as ours:
        if before is sys.__stderr__:
            sys.stderr = ours
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            ours.flush()
            os.dup2(kept, 2)
            sys.stderr = before
