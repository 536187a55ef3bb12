"""What the names of photographs say of units: which part of a name counts the photographs of one part.

`part_0012_cam1.png` and `part_0012_cam2.png` differ in one number, and without it they form a group; so do
`wafer3_die1` and `wafer3_die2`, which are different parts. Names therefore only propose: a proposal is a part of the
names whose removal makes many small groups, and `knowngood.data.units` tests it on the pixels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

MOST_OF_ONE = 24  # photographs of one part that a name may count
_FEWEST = 3  # groups that make a proposal
_SHARE = 0.05  # of the photographs that a proposal has to group; fewer are a chance of the names
_WHOLE = 0.8  # share of the groups that have the most frequent size, from which names alone are worth telling
_MOST_POSITIONS = 8
# Words that number photographs of one part, and not parts: they make a proposal worth telling of.
_VIEWS = frozenset(
    re.findall(
        r"\w+",
        "cam camera kamera exp exposure expo belichtung side seite view ansicht shot aufnahme light licht illum angle "
        "winkel rot rotation pose focus fokus channel kanal top bottom front back left right oben unten rep repeat "
        "retake reshoot",
    )
)
# "unit 7 (2)", "unit 7 - copy", "A17-2"
_ENDINGS = (r"(?i:[ _\-.]*\(\d+\)|[ _\-]+(?:copy|kopie)(?:[ _]?\(?\d+\)?)?)$", r"[_\-.]\d{1,2}$")
_PIECE = re.compile(r"\d+|[^\W\d_]+|[\W_]+")


@dataclass(frozen=True)
class Proposal:
    """Groups that names make when one part of them is left out.

    Attributes:
        groups: int64 (N,), equal numbers are photographs of one unit if the proposal holds.
        names_a_view: Whether a word of the names says that the left-out part counts photographs ("cam", "exposure"),
            and nearly every unit has the same number of them.
        regex: What `--unit-from` needs for these groups; empty where no single group of a regex gives them.
    """

    groups: npt.NDArray[np.int64]
    names_a_view: bool
    regex: str


def proposals(names: Sequence[str]) -> list[Proposal]:
    """Returns what may count the photographs of a part, the proposal that groups most photographs first.

    Args:
        names: Of N images within their set, "/" between folders.
    """
    found = [*_by_position(names), *_by_trailing_index(names)]
    found = [one for one in found if _is_plausible(one.groups)]
    unique = {
        tuple(one.groups.tolist()): one for one in sorted(found, key=lambda one: (one.names_a_view, bool(one.regex)))
    }
    return sorted(unique.values(), key=lambda one: -int((np.bincount(one.groups)[one.groups] > 1).sum()))


def rows_by(groups: npt.NDArray[np.int64]) -> dict[int, list[int]]:
    """Returns the rows of each group with two or more of them."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups.tolist()):
        rows[group].append(row)
    return {group: members for group, members in rows.items() if len(members) > 1}


def _pieces(name: str) -> tuple[tuple[str, ...], list[str]]:
    """Returns the folders of a name, and digits, words and separators of its stem."""
    path = PurePosixPath(name)
    return path.parts[:-1], _PIECE.findall(path.stem)


def _kind(piece: str) -> str:
    return "#" if piece.isdigit() else "a" if piece[0].isalpha() else piece


def _by_position(names: Sequence[str]) -> Iterator[Proposal]:
    """Leaves out one or two pieces of names of one shape, with or without the folders."""
    shapes: dict[tuple[str, ...], list[int]] = defaultdict(list)
    split = [_pieces(name) for name in names]
    for row, (folders, pieces) in enumerate(split):
        shapes[(str(len(folders)), *map(_kind, pieces))].append(row)
    for rows in shapes.values():
        if len(rows) >= 2 * _FEWEST:
            places, stems = zip(*(split[row] for row in rows), strict=True)
            yield from _of_shape(names, rows, places, stems)


def _of_shape(
    names: Sequence[str], rows: Sequence[int], folders: Sequence[tuple[str, ...]], stems: Sequence[list[str]]
) -> Iterator[Proposal]:
    count = range(len(stems[0]))
    values = [{own[k] for own in stems} for k in count]
    # what counts the photographs of a part has few values: 1 to 6, not 1 to 900
    vary = [k for k in count if 1 < len(values[k]) <= MOST_OF_ONE][:_MOST_POSITIONS]
    for out in (chosen for size in (1, 2) for chosen in combinations(vary, size)):
        if not any(stems[0][k].isdigit() or _names_view(values[k]) for k in out):
            continue
        kept = [k for k in count if k not in out]
        view = any(_view_before(stems[0], k) or _names_view(values[k]) for k in out)
        regex = _regex(stems, kept)
        own = [tuple(stem[k] for k in kept) for stem in stems]
        yield _proposal(names, rows, [*zip(folders, own, strict=True)], view, regex)
        yield _proposal(names, rows, own, view, regex)
    if len({place[-1:] for place in folders}) > _FEWEST and len(folders[0]) > 1:  # a folder a unit below the class
        yield _proposal(names, rows, folders, False, "^(.*)/")


def _by_trailing_index(names: Sequence[str]) -> Iterator[Proposal]:
    """Leaves out "(2)", "- copy" or "-2" at the end of names, which the first photograph of a part may lack."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    for ending in _ENDINGS:
        for with_folders in (True, False):
            own = stems if with_folders else [PurePosixPath(stem).name for stem in stems]
            keys, there = [re.sub(ending, "", stem) for stem in own], set(own)
            if any(key != stem and key in there for key, stem in zip(keys, own, strict=True)):
                regex = rf"([^/]+?)(?:{ending[:-1]})?\.[^./]*$"
                yield _proposal(names, list(range(len(names))), keys, False, regex)


def _proposal(names: Sequence[str], rows: Sequence[int], keys: Sequence[object], view: bool, regex: str) -> Proposal:
    numbers: dict[object, int] = {}
    groups = np.arange(len(names), dtype=np.int64) + len(names)
    for row, key in zip(rows, keys, strict=True):
        groups[row] = numbers.setdefault(key, len(numbers))
    _, groups = np.unique(groups, return_inverse=True)
    sizes = np.bincount(groups)
    sizes = sizes[sizes > 1]
    whole = bool(len(sizes)) and int(np.bincount(sizes).max()) >= _WHOLE * len(sizes)
    return Proposal(groups.astype(np.int64), view and whole, regex)


def _is_plausible(groups: npt.NDArray[np.int64]) -> bool:
    sizes = np.bincount(groups)
    sizes = sizes[sizes > 1]
    return len(sizes) >= _FEWEST and sizes.max() <= MOST_OF_ONE and sizes.sum() >= _SHARE * len(groups)


def _names_view(words: Iterable[str]) -> bool:
    return all(word.lower() in _VIEWS for word in words)


def _view_before(pieces: Sequence[str], place: int) -> bool:
    """Returns whether the word before a piece is one like "cam": "cam1", "exp_2"."""
    before = [piece for piece in pieces[max(0, place - 2) : place] if piece[0].isalpha()]
    return bool(before) and before[-1].lower() in _VIEWS


def _regex(pieces: Sequence[Sequence[str]], kept: Sequence[int]) -> str:
    """Returns a regex whose first group is the kept pieces, where they follow one another and hold a number."""
    while kept and not pieces[0][kept[-1]][0].isalnum():
        kept = kept[:-1]
    names_one = [k for k in kept if len({p[k] for p in pieces}) > 1]
    if not names_one or list(range(names_one[0], names_one[-1] + 1)) != [
        k for k in kept if names_one[0] <= k <= names_one[-1]
    ]:
        return ""
    first, last = names_one[0], names_one[-1]
    before, own = (_patterns(pieces, range(start, end)) for start, end in ((0, first), (first, last + 1)))
    return f"(?:^|/){before}({own})"


def _patterns(pieces: Sequence[Sequence[str]], places: Sequence[int]) -> str:
    return "".join(_pattern([own[k] for own in pieces]) for k in places)


def _pattern(values: Sequence[str]) -> str:
    if len(set(values)) == 1:
        return re.escape(values[0])
    return r"\d+" if values[0].isdigit() else r"[^\W\d_]+"
