"""The photographs that are to be scored, listed in parts, from any place that plain `predict` reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from knowngood.errors import DataError
from knowngood.progress import track
from knowngood.recipe.engine.archives import members
from knowngood.recipe.engine.items import Item, item_at, stream
from knowngood.recipe.engine.remote import is_url
from knowngood.scale.parts import list_of

_LISTED = {"image": pl.String(), "place": pl.Binary(), "member": pl.Int64()}


def listed(images: str | Path | Sequence[str | Path], part_size: int) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yields the list of each part, and how many photographs it has.

    Args:
        images: As in `knowngood.predict`.
        part_size: Photographs a part.

    Raises:
        DataError: There is no photograph.
    """
    items = track(stream(images, contents=False).items, "list")
    while some := list(islice(items, part_size)):
        rows = [(one.name, _stored(one.place), one.member) for one in some]
        yield pl.DataFrame(rows, schema=_LISTED, orient="row"), len(rows)


def items_of(out: Path, number: int) -> Iterator[Item]:
    """Yields the photographs of a part.

    Args:
        out: Folder of the parts.
        number: Of the part, from 0.

    Raises:
        DataError: An archive, or the list itself, cannot be read here.
    """
    rows = list_of(out, number).rows()
    at = 0
    while at < len(rows):
        name, where, member = rows[at]
        place = os.fsdecode(where)
        if member is None:
            yield item_at(name, place)
            at += 1
            continue
        for number_there, (_, read) in enumerate(members(Path(place), member), member):
            if number_there == rows[at][2]:
                yield Item(rows[at][0], read, place, number_there)
                at += 1
                if at == len(rows) or rows[at][1] != where or rows[at][2] is None:
                    break
        else:
            raise DataError(
                f"The archive {place} has fewer photographs than were listed.", fix="--fresh lists it anew."
            )


def _stored(place: str | Path) -> bytes:
    """Returns a place so that every machine and every file name is served: absolute, as bytes."""
    return os.fsencode(place if is_url(place) else os.path.abspath(place))
