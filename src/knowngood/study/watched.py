"""The photographs that a training is watched on: read before it, filmed through it, shown after it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowngood.data.images import decode
from knowngood.errors import DataError, ImageError
from knowngood.explain.film import Film, read_film
from knowngood.progress import reporter
from knowngood.recipe.predicting import pictures
from knowngood.report.film import Watched, film_section, write_film
from knowngood.report.heat import Pixels
from knowngood.report.page import Section

MOST = 16
FOLDER = "watch"


@dataclass(frozen=True)
class Audience:
    """The watched photographs.

    Attributes:
        names: Of their files.
        photographs: (H, W) or (H, W, 3) uint8 each.
    """

    names: tuple[str, ...]
    photographs: tuple[Pixels, ...]

    def film(self, folder: Path, *, goes_on: bool) -> Film:
        """Returns what keeps their maps in `folder / "watch"`, emptied unless the training goes on with one there."""
        if not goes_on:
            shutil.rmtree(folder / FOLDER, ignore_errors=True)
        return Film(folder / FOLDER, self.photographs)

    def sections(self, folder: Path, history: Sequence[Mapping[str, float]]) -> list[Section]:
        """Draws the film of a finished training and returns the report's section.

        Args:
            folder: Of the run.
            history: Its epochs.
        """
        place = folder / FOLDER
        frames = read_film(place)
        if not frames:
            return []
        kept = max(history, key=lambda row: row["val_auroc"])["epoch"]
        film = Watched(self.names, self.photographs, frames, int(kept))
        write_film(film, place)
        return [film_section(film, place)]


def audience_of(place: Path | None) -> Audience | None:
    """Reads the photographs that are to be watched; of more than 16 it takes 16 over the whole list.

    Raises:
        DataError: There is none, or none can be read.
    """
    if place is None:
        return None
    paths = pictures([place])
    if len(paths) > MOST:
        reporter().say(f"{place} holds {len(paths)} photographs: {MOST} of them, spread over the list, are watched")
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, MOST).round().astype(int).tolist()]
    names, photographs, troubles = [], [], []
    for path in paths:
        try:
            photographs.append(decode(path))
            names.append(path.name)
        except ImageError as error:
            troubles.append(error.what)
            reporter().say(f"not watched: {error.what}")
    if not photographs:
        raise DataError(f"None of the photographs of --watch can be read; the first says: {troubles[0]}")
    return Audience(tuple(names), tuple(photographs))
