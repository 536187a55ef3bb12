"""Units: the physical parts behind the photographs. Those of one part never stand on both sides of a division.

A part that is photographed five times is learned by heart from four of them, and the fifth then flatters the test.
Where nobody says which photographs show one part (column `unit`, `--unit-from`), it is looked for: near copies,
isolated clusters of registered photographs, and names with a running index that the pixels confirm. Strong evidence
fills the column `unit`; weak evidence is reported and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from knowngood.data.duplicates import Thumbnails, exact_clusters, near_clusters, thumbnails
from knowngood.data.records import Records, RepeatedParts, source_rows
from knowngood.data.registration import Likeness, alike, all_over, isolated, likeness
from knowngood.data.unit_names import Proposal, proposals, rows_by
from knowngood.errors import ConfigError, DataError
from knowngood.progress import reporter

Ids: TypeAlias = npt.NDArray[np.int64]
Pairs: TypeAlias = list[tuple[int, int]]

MOST = 60_000  # photographs that are registered: a minute for each ten thousand, and 20 kB each
OFF = "none"  # of --unit-from: photographs of one part are not looked for
DIGITS = 16  # of a SHA-256, as the name of a unit that was found
_TESTED = 300  # pairs on which a proposal is tested
_PROPOSALS = 6
_CONFIRMED, _HALF, _NEAR = 0.9, 0.5, 0.25  # share of pairs nearer than a stranger, ratio and size of differences
_LEANING, _FEWEST = 0.75, 10
_SUSPECT_SHARE, _SUSPECT_FEWEST = 0.01, 4  # of the photographs; fewer look-alikes are no reason to speak up
_EXAMPLES, _EXAMPLE_SIZE = 3, 4


def with_units(records: Records, unit_from: str | None = None, *, thumbs: Thumbnails | None = None) -> Records:
    """Fills the column `unit`: as given, or from what the photographs and their names show.

    Every readable photograph without a lot gets a unit; one that is alone, its own. A unit that was found is called by
    the first 16 digits of the smallest SHA-256 in it, so that its name depends neither on the order of the rows nor on
    their labels. A second call changes nothing.

    Args:
        records: (N rows). Rows with a lot are divided by lot and not looked at.
        unit_from: Regex on the names of the images whose group `unit`, or else first group, names the part; a column
            of the records; "none" to look for nothing but near copies; None to look.
        thumbs: Of the same rows with detail, to save decoding again.

    Raises:
        ConfigError: The regex cannot be read.
        DataError: It matches nothing.
    """
    if unit_from not in (None, OFF):
        records = units_named(records, str(unit_from))
    frame = records.frame
    given = frame["unit"].is_not_null().to_numpy()
    sought = (frame["lot"].is_null() & frame["error"].is_null() & ~frame["generated"]).to_numpy() & ~given
    own = records.repeated or _given(records, "given" if given.any() else "none", "column")
    if not sought.any():
        return _noted(replace(records, repeated=own), report=thumbs is None)
    rows = np.flatnonzero(sought)
    part = records.with_frame(frame[rows])
    looked = None if thumbs is None else _of(thumbs, rows)
    if unit_from == OFF:
        found = _Found(near_clusters(part, thumbs=looked), RepeatedParts("off"))
    else:
        found = _found(part, looked or thumbnails(part, detail=len(part) <= MOST))
    units = frame["unit"].to_list()
    for row, name in zip(rows.tolist(), _named(part.frame, found.groups), strict=True):
        units[row] = name
    filled = records.with_frame(frame.with_columns(unit=pl.Series(units, dtype=pl.String)))
    repeated = _both(own, found.repeated) if given.any() else found.repeated
    return _noted(replace(filled, repeated=repeated), report=thumbs is None)


def units_named(records: Records, unit_from: str, column: Sequence[str | None] | None = None) -> Records:
    """Returns the records with the units that a column or a regex on the images' names gives.

    Args:
        records: (N rows).
        unit_from: Name of a column of the manifest or of the records, or a regex.
        column: Its cells (N), where the manifest has a column of that name.

    Raises:
        ConfigError: The regex cannot be read.
        DataError: Nothing matches, or all photographs would be one unit.
    """
    names = records.frame["image"].to_list()
    evidence = "column"
    if column is None and unit_from in ("unit", "lot", "machine", "product"):
        column = records.frame[unit_from].to_list()
    if column is None:
        evidence, column = "regex", _matches(unit_from, names)
    known = [value for value in column if value is not None]
    if not known or (len(set(known)) == 1 and len(known) > 1):
        what = "says nothing of any image" if not known else f"calls all {len(known)} images {known[0]!r}"
        raise DataError(
            f"--unit-from {unit_from!r} {what}; the first is {names[0]!r}." if names else "There are no images.",
            expected="a regex on the names of the images whose first group (or group named unit) names the part, a "
            "column of the manifest, or none",
            fix=r"For part_0012_cam1.png, part_0012_cam2.png give --unit-from '(part_\d+)'.",
        )
    frame = records.frame.with_columns(unit=pl.Series(column, dtype=pl.String))
    done = records.with_frame(frame)
    missing = len(column) - len(known)
    notes = (f"--unit-from names no unit for {missing} of {len(column)} images.",) if missing else ()
    return replace(done, repeated=_given(done, "given", evidence), notes=(*records.notes, *notes))


def groups_of(records: Records) -> Ids:
    """Returns one number (N,) for what is never divided: lots, units and near copies, and copies with their source."""
    made_from = source_rows(records.frame)
    frame = with_units(records).frame
    links = [_numbers(frame["lot"]), _numbers(frame["unit"])]
    rows = np.arange(len(frame))
    own = made_from >= 0
    left, right, nodes = [rows[own]], [made_from[own]], len(frame)
    for numbers in links:
        known = numbers >= 0
        left.append(rows[known])
        right.append(numbers[known] + nodes)
        nodes += int(numbers.max(initial=-1)) + 1
    return _joined(nodes, np.concatenate(left), np.concatenate(right))[: len(frame)]


def identities(records: Records, groups: Ids) -> list[str]:
    """Returns for each group number of `groups` (0 to its maximum) the name by which it is placed.

    It is the smallest among its rows' lots, or units, or contents: labels and the order of the rows do not change it,
    and a photograph that joins a group changes it only if its own name is the smallest.
    """
    content = pl.coalesce(pl.col("sha256").str.slice(0, DIGITS), "image")
    rows = records.frame.select(pl.coalesce("lot", "unit", content).alias("name"), content.alias("own"))
    least = rows.with_columns(group=pl.Series(groups, dtype=pl.Int64)).group_by("group").agg(pl.all().min())
    shared = pl.col("name").is_duplicated()  # groups that divide a lot or a unit must not all fall into one part
    named = least.select("group", pl.when(shared).then(pl.col("name") + " " + pl.col("own")).otherwise("name"))
    found = dict(named.iter_rows())
    return [found.get(group, "") for group in range(int(groups.max(initial=-1)) + 1)]


def kept_together(repeated: RepeatedParts) -> str:
    """Returns the sentence on photographs of one part that are kept on one side; empty where there are none."""
    if repeated.status not in ("found", "given") or not repeated.units:
        return ""
    how = "as their units say" if repeated.status == "given" else f"seen by their {repeated.evidence}"
    return (
        f"{repeated.images} photographs show {repeated.units} parts that were photographed more than once ({how}; for "
        f"instance {_instances(repeated.examples)}). Those of one part are always in one split."
        + ("" if repeated.status == "given" else " --unit-from names units otherwise, or switches this off (none).")
    )


def suspicion(repeated: RepeatedParts) -> str:
    """Returns the warning about photographs that may show the same parts; empty where there are none."""
    if not repeated.suspected_images:
        return ""
    return (
        f"{repeated.suspected_images} photographs may show parts that other photographs show too (for instance "
        f"{_instances(repeated.suspected_examples)}), and they are divided as if each showed its own: if so, the test "
        f"figures are too good. Say which photographs show one part: {repeated.flag}."
    )


@dataclass(frozen=True)
class _Found:
    groups: Ids
    repeated: RepeatedParts


def _found(records: Records, thumbs: Thumbnails) -> _Found:
    """Looks for photographs of one part among rows that can all be read."""
    names = records.frame["image"].to_list()
    offered = [_Test.of(one, names) for one in proposals(names)[:_PROPOSALS]]
    asked = {pair for test in offered for pair in (*test.pairs, *test.strangers)}
    if len(names) > MOST:
        reporter().say(f"{len(names)} photographs are too many to register: near copies alone are kept together")
    found = likeness(thumbs.detail if len(names) <= MOST else [None] * len(names), asked)
    exact, near = exact_clusters(records), near_clusters(records, thumbs=thumbs)
    pixels = _union([exact, all_over(found, _union([near, isolated(found, len(names))]))])
    known = {(int(i), int(j)): float(d) for (i, j), d in zip(found.pairs, found.difference, strict=True)}
    tested = [(test.proposal, test.support(known)) for test in offered]
    confirmed = [one for one, support in tested if support == "confirmed"]
    groups = _union([pixels, *(one.groups for one in confirmed)])
    doubtful = next((one for one, support in tested if support == "leaning" and _adds(one, groups)), None)
    evidence = [name for name, there in (("names", confirmed), ("pixels", _repeats(pixels))) if there]
    return _Found(groups, _summary(names, groups, ", ".join(evidence), found, doubtful))


@dataclass(frozen=True)
class _Test:
    """Pairs of a proposal, and for each the pair of its first photograph with one of the next group."""

    proposal: Proposal
    pairs: Pairs
    strangers: Pairs

    @classmethod
    def of(cls, proposal: Proposal, names: Sequence[str]) -> _Test:
        groups = sorted(rows_by(proposal.groups).values(), key=lambda rows: _natural(names[rows[0]]))
        pairs, strangers = [], []
        for number, rows in enumerate(groups):
            following = groups[(number + 1) % len(groups)]
            for place in range(len(rows) - 1):
                other = following[min(place + 1, len(following) - 1)]
                pairs.append(_ordered(rows[place], rows[place + 1]))
                strangers.append(_ordered(rows[place], other))
        step = max(1, len(pairs) // _TESTED)
        return cls(proposal, pairs[::step], strangers[::step])

    def support(self, difference: Mapping[tuple[int, int], float]) -> str:
        """Returns whether pixels confirm the proposal: "confirmed", "leaning" or "" for no."""
        both = [
            (difference[own], difference[other])
            for own, other in zip(self.pairs, self.strangers, strict=True)
            if own in difference and other in difference
        ]
        if both:
            own, other = np.array(both).T
            share, ratio = float(np.mean(own < other)), float(np.median(own) / max(np.median(other), 1e-6))
            if len(both) >= _SUSPECT_FEWEST and share >= _CONFIRMED and ratio <= _HALF and np.median(own) <= _NEAR:
                return "confirmed"
            if len(both) >= _FEWEST and share >= _LEANING:
                return "leaning"
        return "leaning" if self.proposal.names_a_view else ""


def _summary(
    names: Sequence[str], groups: Ids, evidence: str, found: Likeness, doubtful: Proposal | None
) -> RepeatedParts:
    """Returns what was found as counts, examples and the option that acts on it."""
    kept = list(rows_by(groups).values())
    pairs = alike(found)
    pairs = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]
    if len(np.unique(pairs)) < max(_SUSPECT_FEWEST, _SUSPECT_SHARE * len(names)):
        pairs = pairs[:0]
    suspected, rows, examples, flag = groups, np.unique(pairs), [], "--unit-from REGEX|COLUMN"
    if len(pairs):
        suspected = _union([groups, _joined(len(names), pairs[:, 0], pairs[:, 1])])
        examples = [[names[i], names[j]] for i, j in pairs[:: max(1, len(pairs) // _EXAMPLES)].tolist()]
    if doubtful is not None:
        suspected = _union([suspected, doubtful.groups])
        grouped = [row for members in rows_by(doubtful.groups).values() for row in members]
        rows = np.union1d(rows, np.array(grouped, np.int64))
        examples = [[names[i] for i in members] for members in rows_by(doubtful.groups).values()]
        flag = f"--unit-from '{doubtful.regex}'" if doubtful.regex else flag
    status = "found" if kept else "suspected" if len(rows) else "none"
    return RepeatedParts(
        status=status,  # type: ignore[arg-type]
        units=len(kept),
        images=sum(map(len, kept)),
        evidence=evidence,
        examples=_shortened([[names[row] for row in members] for members in sorted(kept, key=len, reverse=True)]),
        suspected_images=len(rows),
        suspected_examples=_shortened(examples),
        flag=flag if len(rows) else "",
        suspected=dict(zip(names, suspected.tolist(), strict=True)) if len(rows) else {},
    )


def _given(records: Records, status: str, evidence: str) -> RepeatedParts:
    frame = records.frame.filter(pl.col("unit").is_not_null())
    groups = rows_by(_numbers(frame["unit"]))
    names = frame["image"].to_list()
    return RepeatedParts(
        status=status,  # type: ignore[arg-type]
        units=len(groups),
        images=sum(map(len, groups.values())),
        evidence=evidence if frame.height else "",
        examples=_shortened([[names[row] for row in members] for members in groups.values()]),
    )


def _both(given: RepeatedParts, found: RepeatedParts) -> RepeatedParts:
    """Puts together what was given for some photographs and found among the others."""
    return replace(
        found,
        status="given",
        units=given.units + found.units,
        images=given.images + found.images,
        evidence=", ".join(filter(None, [given.evidence, found.evidence])),
        examples=(*given.examples, *found.examples)[:_EXAMPLES],
    )


def _noted(records: Records, *, report: bool) -> Records:
    """Adds what the reader of the set should know to its notes, and reports it, once."""
    assert records.repeated is not None
    sentences = [kept_together(records.repeated), suspicion(records.repeated)]
    new = [one for one in sentences if one and one not in records.notes]
    for sentence in new if report else ():
        reporter().say(sentence)
    return replace(records, notes=(*records.notes, *new))


def _matches(regex: str, names: Sequence[str]) -> list[str | None]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise ConfigError(
            f"--unit-from {regex!r} is no regex that can be read: {error}.",
            expected=r"for example '(part_\d+)_cam', a column of the manifest, or none",
        ) from error
    group: str | int = next(iter(pattern.groupindex), 1 if pattern.groups else 0)
    group = "unit" if "unit" in pattern.groupindex else group
    found = [pattern.search(name) for name in names]
    return [None if match is None else match[group] or None for match in found]


def _named(frame: pl.DataFrame, groups: Ids) -> list[str]:
    """Returns the name of each row's unit: the first digits of the smallest SHA-256 in it."""
    digests = frame.select(pl.coalesce(pl.col("sha256").str.slice(0, DIGITS), "image")).to_series().to_list()
    least: dict[int, str] = {}
    for group, digest in zip(groups.tolist(), digests, strict=True):
        least[group] = min(digest, least.get(group, digest))
    return [least[group] for group in groups.tolist()]


def _of(thumbs: Thumbnails, rows: Ids) -> Thumbnails:
    return Thumbnails(
        thumbs.pixels[rows],
        tuple(thumbs.errors[row] for row in rows),
        tuple(thumbs.shapes[row] for row in rows),
        tuple(thumbs.detail[row] for row in rows) if thumbs.detail else (),
    )


def _numbers(values: pl.Series) -> Ids:
    """Returns equal numbers from 0 for equal values; -1 for null."""
    return (values.rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy().astype(np.int64)


def _union(many: Sequence[Ids]) -> Ids:
    """Returns groups (N,) that join whatever one of several groupings joins."""
    rows, left, right, nodes = np.arange(len(many[0])), [], [], len(many[0])
    for groups in many:
        left.append(rows)
        right.append(groups + nodes)
        nodes += int(groups.max(initial=-1)) + 1
    return _joined(nodes, np.concatenate(left), np.concatenate(right))[: len(rows)]


def _joined(nodes: int, left: Ids, right: Ids) -> Ids:
    graph = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _repeats(groups: Ids) -> bool:
    return bool(len(groups)) and bool((np.bincount(groups) > 1).any())


def _adds(proposal: Proposal, groups: Ids) -> bool:
    """Returns whether a proposal joins photographs that are not in one group already."""
    return any(len(set(groups[members].tolist())) > 1 for members in rows_by(proposal.groups).values())


def _ordered(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece) if piece.isdigit() else -1, piece) for piece in re.findall(r"\d+|\D+", name)]


def _shortened(groups: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(members[:_EXAMPLE_SIZE]) for members in groups[:_EXAMPLES])


def _instances(examples: Sequence[Sequence[str]]) -> str:
    return "; ".join(", ".join(members[:3]) for members in examples[:2])
