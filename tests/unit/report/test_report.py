"""The report page: complete, self-contained, safe with hostile names, and never stopped by a picture."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import simplejpeg

from knowngood.errors import KnownGoodError, StorageError
from knowngood.metrics.figures import compute_metrics
from knowngood.metrics.thresholds import choose_threshold, decide
from knowngood.report.page import Section, render
from knowngood.report.run import FIRST, SECTIONS, write_report
from knowngood.report.run_summary import UNKNOWN_KIND, RunSummary
from knowngood.wording import percent

HOSTILE = '"><script>alert(1)</script><img src=http://evil.example/x.png onerror=alert(2)>.png'
VOID = {"meta", "img", "br", "wbr", "rect", "line", "circle", "path", "polyline"}


class Outline(HTMLParser):
    """Reads the page as a browser would: tags, attributes, text; checks that tags are nested."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def write_jpeg(path: Path, seed: int, side: int = 64, colour: bool = False) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3 if colour else 1), dtype=np.uint8)
    path.write_bytes(simplejpeg.encode_jpeg(pixels, 90, "RGB" if colour else "GRAY", "420" if colour else "Gray"))
    return str(path)


def a_run(folder: Path, *, each: int = 60, bads: float = 0.3, **changes: Any) -> RunSummary:
    """A run over `each` images of every split, the pictures of `folder` used in turn."""
    rng = np.random.default_rng(0)
    splits = np.repeat(["train", "val", "calibration", "test"], each)
    label = (rng.random(splits.size) < bads).astype(np.uint8)
    score = np.clip(rng.normal(0.3 + 0.4 * label, 0.12), 0.001, 0.999)
    paths = [write_jpeg(folder / f"{i}.jpg", i) for i in range(8)]
    calibration = splits == "calibration"
    budgets = changes.pop("budgets", {})
    threshold = choose_threshold(label[calibration], score[calibration], **budgets)
    metrics: dict[str, Any] = {
        split: compute_metrics(
            label[splits == split], score[splits == split], threshold=threshold.threshold, resamples=20
        ).to_dict()
        for split in ("train", "val", "calibration", "test")
    }
    metrics["threshold"] = threshold.to_dict()
    metrics["data"] = {"source": "folder", "licence": "CC BY-NC-SA 4.0", "notes": ["A note."]}
    metrics["seconds"] = {"training": 61.5}
    metrics["warnings"] = [
        {"code": "few", "message": "Five <images> are in both.", "examples": ["a<b>.png"], "count": 5}
    ]
    scores = pl.DataFrame(
        {
            "image": [f"{split}/unit-{i}.jpg" for i, split in enumerate(splits)],
            "path": [paths[i % 8] for i in range(splits.size)],
            "split": splits,
            "label": label,
            "defect": [("crack", "chip", None)[i % 3] if bad else None for i, bad in enumerate(label)],
            "score": score,
            "decision": decide(score, threshold.pair),
            "lot": [f"lot-{i % 5}" for i in range(splits.size)],
        }
    )
    run = RunSummary(
        title="Inspector",
        command="knowngood train DATA --out RUN",
        created="2026-11-23T20:00:00",
        metrics=metrics,
        history=[{"epoch": i, "train_loss": 1 / (i + 1), "val_auroc": 0.9 + i / 100} for i in range(5)],
        versions={"knowngood": "0.1"},
        seed=7,
        config={"model": "resnet18"},
        scores=scores,
    )
    return replace(run, **changes)


def html_of(run: RunSummary, folder: Path) -> str:
    return write_report(run, folder / "report.html").read_text(encoding="utf-8")


def test_every_section_is_there_and_the_html_is_nested(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    page = html_of(run, tmp_path)
    outline = Outline(page)
    assert outline.open == []
    assert outline.tags.count("section") == len(FIRST) + len(SECTIONS)  # provenance is one more, kinds one less
    for expected in (
        "Five <images> are in both.",
        "knowngood train DATA --out RUN",
        "CC BY-NC-SA 4.0",
        "62 s",
        "crack",
        "lot-3",
        "A note.",
    ):
        assert expected in outline.text, expected
    sentence = run.metrics["threshold"]["sentence"]
    assert sentence in outline.text
    ids = [value for _, name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for _, name, value in outline.attributes if name == "href"}
    assert targets <= set(ids)


def test_the_counts_on_the_page_are_those_of_the_scores(tmp_path: Path) -> None:
    run = a_run(tmp_path, budgets={"escape_budget": 0.2})
    test = run.scores.filter(pl.col("split") == "test")
    for label, decision in ((0, "accept"), (0, "reject"), (1, "accept"), (1, "reject")):
        count = test.filter((pl.col("label") == label) & (pl.col("decision") == decision)).height
        key = f"{'bad' if label else 'good'}-{decision}"
        cell = re.search(rf'href="#{key}">\s*<span class="count">([\d,]+)', html_of(run, tmp_path))
        assert cell
        assert int(cell[1]) == count


def test_nothing_is_fetched_and_only_our_script_may_run(tmp_path: Path) -> None:
    outline = Outline(html_of(a_run(tmp_path), tmp_path))
    for tag, name, value in outline.attributes:
        if name in ("src", "href", "srcset", "data", "action", "poster"):
            assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value[:80])
    assert "link" not in outline.tags
    assert "iframe" not in outline.tags
    policy = next(v for _, n, v in outline.attributes if n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "@import" not in outline.text
    assert "url(" not in outline.text


def test_names_that_hold_html_stay_text(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    hostile = run.scores.with_columns(
        pl.lit(HOSTILE).alias("lot"),
        pl.when(pl.col("label") == 1).then(pl.lit(HOSTILE)).alias("defect"),
        pl.concat_str(pl.lit(HOSTILE), pl.col("image")).alias("image"),
    )
    data = {"source": HOSTILE, "licence": HOSTILE, "notes": [HOSTILE]}
    run = replace(
        run,
        scores=hostile,
        title=HOSTILE,
        command=HOSTILE,
        config={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        metrics={**run.metrics, "data": data, "seconds": {HOSTILE: 1.0}},
    )
    outline = Outline(html_of(run, tmp_path))
    assert outline.tags.count("script") == 1
    assert not [a for a in outline.attributes if a[1].startswith("on")]
    assert not [a for a in outline.attributes if a[1] == "src" and not a[2].startswith("data:")]
    assert HOSTILE in outline.text


def test_pictures_that_cannot_be_read_become_placeholders(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes((tmp_path / "0.jpg").read_bytes()[:300])
    troubled = [str(tmp_path / "gone.png"), str(text), str(cut), "", str(tmp_path), None]
    paths = [troubled[i % len(troubled)] for i in range(run.scores.height)]
    page = html_of(replace(run, scores=run.scores.with_columns(pl.Series("path", paths))), tmp_path)
    assert "cannot be shown" in page
    assert "<img" not in page


def test_a_large_test_set_stays_under_five_megabytes(tmp_path: Path) -> None:
    run = a_run(tmp_path, each=3000, budgets={"overkill_budget": 0.02})
    noise = [write_jpeg(tmp_path / f"noise-{i}.jpg", i, side=300, colour=True) for i in range(12)]
    paths = [noise[i % 12] for i in range(run.scores.height)]  # noise is the worst case for JPEG
    page = html_of(replace(run, scores=run.scores.with_columns(pl.Series("path", paths))), tmp_path)
    assert page.count("<img") > 100
    assert len(page) < 5_000_000
    assert "more images" in page


def test_cells_may_be_empty(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    right = run.scores.with_columns(
        pl.when(pl.col("label") == 1).then(pl.lit("reject")).otherwise(pl.lit("accept")).alias("decision")
    )
    page = html_of(replace(run, scores=right), tmp_path)
    assert page.count(">None.</p>") == 2  # cells of the matrix


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only(tmp_path: Path, label: int) -> None:
    run = a_run(tmp_path)
    alone = run.scores.filter((pl.col("split") != "test") | (pl.col("label") == label))
    metrics = {**run.metrics, "test": compute_metrics([label] * 3, [0.1, 0.2, 0.3], threshold=0.5).to_dict()}
    outline = Outline(html_of(replace(run, scores=alone, metrics=metrics), tmp_path))
    assert "no AUC can be given" in outline.text


def test_a_bare_run_without_anything(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    bare = replace(run, metrics={}, history=[], versions={}, config={}, scores=run.scores.clear())
    outline = Outline(html_of(bare, tmp_path))
    assert "No threshold." in outline.text
    undecided = run.scores.with_columns(pl.lit(None, dtype=pl.String).alias("decision"))
    outline = Outline(html_of(replace(bare, scores=undecided), tmp_path))
    assert "kept apart" in outline.text


def test_without_a_test_split_the_page_says_which_one_it_shows(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    outline = Outline(html_of(replace(run, scores=run.scores.filter(pl.col("split") == "val")), tmp_path))
    assert "no test split was scored" in outline.text


def test_review_band_has_its_own_column(tmp_path: Path) -> None:
    run = a_run(tmp_path, each=400, budgets={"escape_budget": 0.05, "overkill_budget": 0.02})
    assert (run.scores["decision"] == "review").any()
    page = html_of(run, tmp_path)
    assert 'href="#bad-review"' in page
    assert "review from" in page


def test_escapes_that_contradict_the_certificate_are_called_out(tmp_path: Path) -> None:
    run = a_run(tmp_path, each=400, budgets={"escape_budget": 0.05})
    assert "contradict" not in html_of(run, tmp_path)
    missed = run.scores.with_columns(
        pl.when((pl.col("label") == 1) & (pl.col("split") == "test"))
        .then(pl.lit("accept"))
        .otherwise(pl.col("decision"))
        .alias("decision")
    )
    assert "contradict the certified" in html_of(replace(run, scores=missed), tmp_path)


def test_other_floors_add_sections_before_the_last(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    extra = Section("heatmaps", "Heat maps & more", render("sections/mistakes.html", groups=[]))
    page = write_report(run, tmp_path / "r.html", extra=[extra]).read_text()
    assert page.index('id="training"') < page.index('id="heatmaps"') < page.index('id="provenance"')
    assert "Heat maps &amp; more" in page


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    with pytest.raises(KnownGoodError, match="no column lot"):
        replace(run, scores=run.scores.drop("lot"))


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("here first")
    with pytest.raises(StorageError):
        write_report(a_run(tmp_path), blocker / "report.html")
    assert blocker.read_text() == "here first"


def test_which_defect_it_sees_is_a_confusion_matrix(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    bads = run.scores.filter((pl.col("split") == "test") & pl.col("defect").is_not_null())
    seen = pl.when(pl.col("defect") == "crack").then(pl.lit("crack")).otherwise(pl.lit(UNKNOWN_KIND))
    page = html_of(replace(run, scores=run.scores.with_columns(kind=seen)), tmp_path)
    assert 'id="kinds"' in page
    section = Outline(page).text
    cracks = int((bads["defect"] == "crack").sum())
    assert 0 < cracks < bads.height
    assert f"Of {bads.height} bad units with a named defect, {percent(cracks / bads.height)} are called" in section
    assert f">{UNKNOWN_KIND}</th>" in page
    assert 'id="kinds"' not in html_of(run, tmp_path)  # a run without kinds says nothing of them


def test_what_training_chose_is_said(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    notes = {
        "image size": {"side": 448, "table": [], "sentence": "the best of some"},
        "views": {"views": 4, "AUC": 0.95, "AUC with one": 0.94, "images": 120},
        "members, val AUC": [
            {"members": ["resnet50, kernel+cells", "resnet50, cells"], "auroc": 0.97},
            {"members": ["resnet50, cells"], "auroc": 0.96},
        ],
        "masks": 16,
    }
    text = Outline(html_of(replace(run, metrics=run.metrics | {"training": notes}), tmp_path)).text
    for said in (
        "Image size 448 (--image-size auto): the best of some.",
        "4 views: AUC 0.9500 on 120 calibration images, 0.9400 with one view; they take 4 times as long.",
        "resnet50, kernel+cells + resnet50, cells 0.9700; resnet50, cells 0.9600",
        "16 masks say where defects are.",
    ):
        assert said in text, said
