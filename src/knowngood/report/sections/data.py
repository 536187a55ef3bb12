"""What went in: images by split and defect, examples, source and terms."""

from __future__ import annotations

import polars as pl

from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary
from knowngood.report.sections.pictures import pictures

_EXAMPLES = 8
_ORDER = ("train", "val", "calibration", "test")


def data_at_a_glance(run: RunSummary) -> Section | None:
    """Makes the table of counts and shows a few good and bad images."""
    counts = run.data.get("counts") or _counted(run.scores)
    splits = sorted(counts, key=lambda s: _ORDER.index(s) if s in _ORDER else len(_ORDER))
    kinds: dict[str, int] = {}
    for split in splits:
        for kind, number in counts[split].items():
            kinds[kind] = kinds.get(kind, 0) + number
    bads = sorted((kind for kind in kinds if kind != "good"), key=lambda kind: -kinds[kind])
    rows = [(kind, [counts[s].get(kind, 0) for s in splits], kinds[kind]) for kind in ["good", *bads] if kind in kinds]
    shown = run.shown
    body = render(
        "sections/data.html",
        splits=splits,
        rows=rows,
        totals=[sum(counts[s].values()) for s in splits],
        total=sum(kinds.values()),
        data=run.data,
        good=pictures(_spread(shown.filter(pl.col("label") == 0))),
        bad=pictures(_one_of_each(shown.filter(pl.col("label") == 1))),
    )
    return Section("data", "The data at a glance", body)


def _counted(scores: pl.DataFrame) -> dict[str, dict[str, int]]:
    kind = pl.when(pl.col("label") == 0).then(pl.lit("good")).otherwise(pl.col("defect").fill_null("bad"))
    table = scores.filter(pl.col("label").is_not_null()).group_by(pl.col("split"), kind.alias("kind")).len()
    counts: dict[str, dict[str, int]] = {}
    for split, name, number in table.sort("split", "kind").iter_rows():
        counts.setdefault(split or "no split", {})[name] = number
    return counts


def _spread(rows: pl.DataFrame) -> pl.DataFrame:
    """Takes examples evenly over the scores: neither the easiest nor the hardest alone."""
    if rows.height <= _EXAMPLES:
        return rows.sort("score")
    places = [round((i + 0.5) * rows.height / _EXAMPLES - 0.5) for i in range(_EXAMPLES)]
    return rows.sort("score")[places]


def _one_of_each(rows: pl.DataFrame) -> pl.DataFrame:
    """Takes the middle one of each defect, the most frequent first, then fills up."""
    named = rows.with_columns(pl.col("defect").fill_null("bad")).sort("score", "image")
    frequent = named["defect"].value_counts(sort=True)["defect"].to_list()[:_EXAMPLES]
    if not frequent:
        return named
    each, more = divmod(_EXAMPLES, len(frequent))
    parts = []
    for number, kind in enumerate(frequent):
        of_kind = named.filter(pl.col("defect") == kind)
        take = min(each + (number < more), of_kind.height)
        parts.append(of_kind[[round((i + 0.5) * of_kind.height / take - 0.5) for i in range(take)]])
    return pl.concat(parts)
