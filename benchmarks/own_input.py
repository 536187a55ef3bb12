"""A run and photographs for the benchmarks of the review station, made when none are given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from knowngood.data.loading import load

TAPE = "tape:train=600,test=200,seed=0"


def run_and_photographs(run: str | None, photographs: str | None, folder: Path) -> tuple[Path, list[Path]]:
    """Returns a run and photographs: those that were given, else a quick training on look-alike parts.

    Args:
        run: Folder of a run, or None.
        photographs: Folder of photographs, or None.
        folder: Where the run is made.
    """
    made = folder / "run"
    if run is None:
        words = [sys.executable, "-m", "knowngood", "train", TAPE, "--out", str(made), "--seed", "0"]
        subprocess.run(words, check=True, stdout=sys.stderr)
    if photographs is None:
        paths = [Path(path) for path in load(TAPE).frame["path"].to_list()]
    else:
        paths = [p for p in Path(photographs).rglob("*") if p.suffix.lower() in (".png", ".jpg")]
    return Path(run) if run is not None else made, sorted(paths)
