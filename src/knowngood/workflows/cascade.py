"""`knowngood cascade`: trains and certifies a student before a recipe's network, measures both, writes the page."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.pages import file_of
from knowngood.data.records import Records, table
from knowngood.data.units import groups_of
from knowngood.errors import ConfigError, DataError, ParityError
from knowngood.files import scratch_folder, whole_file, whole_folder
from knowngood.metrics.cascade import CascadeCuts, cascade_cuts, choose_certainty, try_certainties
from knowngood.metrics.figures import compute_metrics
from knowngood.metrics.thresholds import BY_HAND
from knowngood.models.batching import batches_of
from knowngood.parameters import checked_parameters, configured
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.cascade import (
    ACCEPTED,
    FOLDER,
    PASSED,
    REJECTED,
    STUDENT,
    CascadeDocument,
    CascadeRuntime,
    Part,
    Zones,
    smaller,
)
from knowngood.recipe.engine import Profile
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.exporting import export
from knowngood.recipe.folder import place_of
from knowngood.recipe.inputs import stream
from knowngood.recipe.parity import Holdout, holdout_images
from knowngood.recipe.session import PRECISIONS, Session, exports, open_session, rule_of
from knowngood.report.page import Section, page, render
from knowngood.report.pictures import row_pictures
from knowngood.training.config import TrainConfig
from knowngood.training.start import check_names
from knowngood.workflows.configs import CascadeConfig
from knowngood.workflows.runs import command_for, unseen
from knowngood.workflows.train import train_divided

_SHOWN = 48


def cascade_page(document: CascadeDocument, passed: pl.DataFrame) -> str:
    """Returns the whole page.

    Args:
        document: What cascade.json holds.
        passed: One row for each test image that went on to the large network, with its score.
    """
    sections = [_verdict(document), _cost(document), _escapes(document)]
    groups = [
        _group("Good units", passed.filter(pl.col("label") == 0)),
        _group("Bad units", passed.filter(pl.col("label") == 1)),
    ]
    lead = "Test images of which the student was not certain; the highest score of the large network first."
    sections.append(Section("passed", "Which images went up", render("sections/mistakes.html", groups=groups), lead))
    subtitle = f"{document.created} · student {document.student.revision} · large network {document.large.revision}"
    return page("Cascade: a student before the large network", subtitle, sections)


def sentences(document: CascadeDocument) -> list[str]:
    """Returns what the cascade does, in words."""
    test = document.figures["test"]
    found = [f"Certificate of the whole: {document.threshold['sentence']}"]
    if test:
        faster = test["cascade"]["images_per_second"] / max(test["large"]["images_per_second"], 1e-9)
        found.insert(
            0,
            f"Of the test images the student accepts {_percent(test['accepted_by_student'])} and rejects "
            f"{_percent(test['rejected_by_student'])} by itself; {_percent(test['passed_on'])} go on to the large "
            f"network. Files to decisions: {faster:.1f} times as fast as the large network alone, here and now.",
        )
    return found


def _verdict(document: CascadeDocument) -> Section:
    test = document.figures["test"]
    rows = []
    for name, key in (("large network alone", "large"), ("cascade", "cascade")):
        if test:
            rows.append((name, *_figures(test[key])))
    body = render(
        "sections/study_step.html",
        sentences=sentences(document),
        columns=("on the test split", "AUC", "escapes", "overkill", "overkill at TPR 99.5 %", "images/s"),
        rows=rows,
        plain=False,
        link=None,
    )
    return Section("verdict", "What it does", body)


def _cost(document: CascadeDocument) -> Section:
    tried = document.figures["tried"]
    rows = [
        (f"{one['certainty']:g}", _percent(one["passed"]), _percent(one["overkill"]), _percent(one["overkill_alone"]))
        for one in tried
    ]
    high = "nothing" if document.high > 1 else f"from a score of {document.high:.3g}"
    cut = document.threshold["threshold"]
    text = [
        f"The student accepts below {document.low:.3g}, {document.certainty:g} times the threshold of {cut:.3g}, "
        f"and rejects {high}."
    ]
    body = render(
        "sections/study_step.html",
        sentences=text,
        columns=("certainty", "passed on", "overkill of the whole", "overkill of the large network alone"),
        rows=rows,
        plain=False,
        link=None,
    )
    lead = (
        "How certain the student must be, tried on images that neither network learned from, at the threshold that "
        "keeps the budget there."
    )
    return Section("cost", "What certainty costs", body, lead)


def _escapes(document: CascadeDocument) -> Section:
    rows = [
        (_percent(one["escape_budget"]), *map(_percent, (one["passed"], one["overkill"], one["overkill_alone"])))
        for one in document.figures["budgets"]
    ]
    body = render(
        "sections/study_step.html",
        sentences=[],
        columns=("escape budget", "passed on", "overkill of the whole", "overkill of the large network alone"),
        rows=rows,
        plain=False,
        link=None,
    )
    lead = "What other budgets would cost with this student, on the same images."
    return Section("escapes", "Cost against escapes", body, lead)


def _figures(one: dict[str, Any]) -> tuple[str, ...]:
    low, high = one["auroc_ci"] or (None, None)
    auc = "" if one["auroc"] is None else f"{one['auroc']:.4f}" + ("" if low is None else f" ({low:.3f}–{high:.3f})")
    rest = (one["escape_rate"], one["overkill_rate"], one["overkill_at_995"])
    return (auc, *map(_percent, rest), f"{one['images_per_second']:.0f}")


def _group(name: str, rows: pl.DataFrame) -> tuple[Any, ...]:
    return (f"{name}: {rows.height}", "", rows.height, row_pictures(rows.head(_SHOWN)))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


DISTILLATION_WEIGHT = 0.5  # weight of the large network's scores beside the labels (Hinton et al. 2015, section 2)
RECORDS, SCORES, PAGE = "records.parquet", "scores.parquet", "cascade.html"
BUDGETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # escape rates whose cost is shown
_ZONES = (("accepted_by_student", ACCEPTED), ("passed_on", PASSED), ("rejected_by_student", REJECTED))
_INHERITED = ("pretrained", "roi", "mask_leads", "augment", "seed", "precision", "escape_budget", "confidence")
_FEW = 0.995  # TPR at which overkill is compared
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cascaded:
    """A finished cascade.

    Attributes:
        folder: Inside the recipe, with cascade.json and the student.
        document: What cascade.json holds.
        page: Report.
    """

    folder: Path
    document: CascadeDocument
    page: Path


def cascade(
    run: str | Path,
    config: CascadeConfig | None = None,
    *,
    student_model: str = "efficientnet_lite0",
    student_size: int = 128,
    student_epochs: int = 0,
    certainty: float | None = None,
    overkill_loss: float = 0.005,
) -> Cascaded:
    """Adds a cascade to a trained recipe, which `predict` then uses.

    The student is trained on the training split of the run, on labels blended with the large network's scores: with
    fine-tuning these are its targets; for an SVM head, images of which the large network is uncertain have less
    weight. Where the recipe has an export that runs here, the student is exported alike. How certain the student must
    be is chosen on images that neither network was trained on (validation, and out-of-fold scores of training images
    where both have SVM heads); the threshold of the cascade is certified on the calibration split; what the student
    may reject is set on its good images. The test split is only measured.

    Args:
        run: Folder of a finished run of `train`, whose images must still exist.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.

    Raises:
        ConfigError: The recipe is a one-class one, or not inside its run.
        DataError: The images are gone.
        CalibrationError: There is no bad image among the calibration images.
    """
    config = configured(CascadeConfig, config, locals())
    place = place_of(run)
    recipe = Recipe.load(place)
    if recipe.manifest.kind != "classifier":
        raise ConfigError(
            "A recipe from good images alone has no escape budget to keep.",
            expected="one that was trained on good and bad images",
            fix="Train without --one-class.",
        )
    if recipe.manifest.threshold["basis"] == BY_HAND:
        reporter().say("the cascade is certified for the escape budget, not for the cuts that were set by hand")
    home = place.parent / FOLDER
    _train_student(recipe, place.parent, home, config)
    large = open_session(recipe, cascade=False)
    _exported_alike(large, home)
    student = open_session(home, cascade=False)
    with scratch_folder(place / FOLDER) as scratch:
        held = holdout_images(recipe, place, None, scratch, sample=False, seed=recipe.manifest.seed)
        certified_on = _calibration_scores(held, student, large)
    cuts, tried = _cuts(_out_of_fold_scores(place.parent, home), certified_on, recipe, config)
    draft = CascadeDocument(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        large=_part(large),
        student=_part(student),
        certainty=cuts.certainty,
        low=cuts.low,
        high=cuts.high,
        threshold=cuts.threshold.to_dict(),
        figures={},
    )
    measured, passed = _measured(draft, student, large, place.parent)
    document = draft.model_copy(update={"figures": tried | {"test": measured}})
    with whole_folder(place / FOLDER) as folder:
        shutil.copytree(home / "recipe", folder / STUDENT)
        document.save(folder)
    page = place.parent / PAGE
    with whole_file(page) as scratch_page:
        scratch_page.write_text(cascade_page(document, passed), encoding="utf-8")
    return Cascaded(place / FOLDER, document, page)


def _train_student(recipe: Recipe, run: Path, home: Path, config: CascadeConfig) -> None:
    """Trains the student on the splits of the run; a finished student with the same options is kept."""
    for name in (RECORDS, SCORES):
        if not (run / name).is_file():
            raise ConfigError(
                f"There is no {name} in {run}.", expected="the run folder of the recipe", fix="Give the run's folder."
            )
    frame = table(pl.read_parquet(run / RECORDS))
    gone = [path for path in frame.filter(pl.col("error").is_null())["path"].to_list() if not file_of(path).is_file()]
    if gone:
        raise DataError(
            f"{len(gone)} images of the run are gone, first {gone[0]!r}.",
            expected="the images that the recipe was trained on, where they were",
            fix="Put them back, or train again from where they are now.",
        )
    large = unseen(pl.read_parquet(run / SCORES)).select("image", large="score")
    label = pl.coalesce("probability", pl.col("label").cast(pl.Float64))
    soft = pl.when((pl.col("split") == "train") & pl.col("large").is_not_null() & label.is_not_null())
    blended = frame.join(large, on="image", how="left", maintain_order="left").with_columns(
        probability=soft.then(DISTILLATION_WEIGHT * pl.col("large") + (1 - DISTILLATION_WEIGHT) * label)
        .otherwise(pl.col("probability"))
        .cast(pl.Float32)
    )
    facts = recipe.manifest
    records = Records(blended.drop("large"), facts.data["source"], Path(facts.data["root"]))
    kept: dict[str, Any] = {name: facts.config[name] for name in _INHERITED if name in facts.config}
    wanted = checked_parameters(
        TrainConfig,
        {
            **kept,
            "model": config.student_model,
            "preset": "standard" if config.student_epochs else "quick",
            "head": "pooled",  # it only decides which photographs the large network sees
            "epochs": config.student_epochs or None,
            "image_size": config.student_size or "own",
        },
    )
    command = command_for(run, None, config, None, verb="cascade")
    check_names(wanted)  # before a student is replaced
    train_divided(records, groups_of(records), home, wanted, command, force=_is_of_other_options(home, wanted))


def _is_of_other_options(home: Path, wanted: TrainConfig) -> bool:
    """Returns whether there is a student with other options; it belongs to this cascade and is replaced."""
    if not (home / "recipe").is_dir():
        return False
    return Recipe.load(home).manifest.config != wanted.model_dump(mode="json")


def _exported_alike(large: Session, home: Path) -> None:
    """Exports the student as the recipe is exported, with a wider precision where the parity gate refuses it."""
    to = large.exporter
    if to is None:
        return
    offered = EXPORTERS.get(to)().precisions
    for tried in PRECISIONS[PRECISIONS.index(large.precision) :]:
        if tried not in offered:
            continue
        if (to, tried) in exports(home / "recipe"):
            return
        reporter().say(f"the student is exported: {to}, {tried}")
        try:
            export(home, to=to, precision=tried)
        except ParityError as error:
            reporter().say(error.what)
        else:
            return
    reporter().say("the student stays in PyTorch")


def _part(one: Session) -> Part:
    return Part(revision=one.revision, runtime=one.runtime.name, precision=one.precision)


@dataclass(frozen=True)
class _Scores:
    """Labels, and calibrated scores of both networks for the same images."""

    labels: npt.NDArray[np.uint8]
    student: Floats
    large: Floats


def _calibration_scores(held: Holdout, student: Session, large: Session) -> _Scores:
    """Returns scores of the calibration images, computed as the cascade computes them."""
    rows, size = held.rows("calibration"), student.recipe.input_shape[1:]

    def scores(one: Session, small: bool) -> Floats:
        pixels = (held.store.pixels[batch] for batch in batches_of(rows, held.store.pixels))
        shown = (smaller(part, size) if small else np.ascontiguousarray(part) for part in pixels)
        raw_scores = np.concatenate([made.raw_scores for made in one.runtime.stream(shown)])
        return one.recipe.manifest.calibration.apply(raw_scores)

    return _Scores(held.labels[rows], scores(student, True), scores(large, False))


def _out_of_fold_scores(run: Path, home: Path) -> _Scores:
    """Returns both networks' scores of the images that neither was trained on, from the tables of their runs."""
    tables = [pl.read_parquet(one / SCORES) for one in (run, home)]
    kernels = all(Recipe.load(one).manifest.frozen_only for one in (run, home))
    splits = ["train", "val"] if kernels else ["val"]  # of SVM heads the tables hold out-of-fold scores
    both = tables[0].join(tables[1].select("image", student="score"), on="image", maintain_order="left")
    kept = both.filter(pl.col("split").is_in(splits)).drop_nulls(["label", "score", "student"])
    return _Scores(*(kept[name].to_numpy() for name in ("label", "student", "score")))


def _cuts(
    chosen_on: _Scores, held: _Scores, recipe: Recipe, config: CascadeConfig
) -> tuple[CascadeCuts, dict[str, list[dict[str, float]]]]:
    """Chooses the certainty on `chosen_on` and certifies on other images."""
    was = recipe.manifest.threshold
    budget = {"escape_budget": was["escape_budget"], "confidence": was["confidence"]}
    bads = int(chosen_on.labels.sum())
    given = chosen_on.labels, chosen_on.student, chosen_on.large
    rest = {"confidence": was["confidence"], "overkill_loss": config.overkill_loss}
    enough = 0 < bads < len(chosen_on.labels)
    tried = try_certainties(*given, escape_budget=was["escape_budget"], **rest) if enough else []
    certainty = config.certainty or choose_certainty(tried, bads, config.overkill_loss)
    others = [
        {"escape_budget": other, **asdict(one)}
        for other in (BUDGETS if enough else ())
        for one in try_certainties(*given, escape_budget=other, certainties=[certainty], **rest)
    ]
    cuts = cascade_cuts(
        held.labels,
        held.student,
        held.large,
        certainty=certainty,
        overkill_budget=recipe.manifest.config.get("review_overkill"),
        overkill_loss=config.overkill_loss,
        **budget,
    )
    return cuts, {"tried": [asdict(one) for one in tried], "budgets": others}


def _measured(
    draft: CascadeDocument, student: Session, large: Session, run: Path
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Scores the test split with the large network alone and with the cascade, as `predict` would.

    Returns:
        Figures of both, and one row for each image that was passed on.
    """
    frame = pl.read_parquet(run / SCORES).filter(pl.col("split") == "test", pl.col("label").is_not_null())
    if not len(frame):
        return {}, frame
    seen: list[Zones] = []
    size = student.recipe.input_shape[1:]
    runtime = CascadeRuntime(student.runtime, large.runtime, rule_of(draft, student, large), size, seen.append)
    both = Session(large.recipe, runtime, draft.thresholds, draft.revision)
    figures: dict[str, Any] = {}
    scored = frame
    for name, one in (("large", large), ("cascade", both)):
        profile = Profile()
        items = stream(frame["path"].to_list()).items
        made = [each.prediction for each in one.stream(items, profile=profile)]
        found = pl.DataFrame({"path": [m.image for m in made], name: [m.defect_score for m in made]})
        scored = scored.join(found, on="path", how="left", maintain_order="left")
        kept = scored.filter(pl.col(name).is_not_null())
        metrics = compute_metrics(
            kept["label"].to_numpy(), kept[name].to_numpy(), threshold=one.thresholds.accept_below, seed=0
        ).to_dict()
        wanted = ("auroc", "auroc_ci", "escape_rate", "overkill_rate", "n_good", "n_bad")
        figures[name] = {key: metrics.get(key) for key in wanted}
        figures[name]["overkill_at_995"] = metrics["fpr_at_tpr"][f"{_FEW:g}"]
        figures[name]["overkill_at_995_ci"] = (metrics.get("fpr_at_tpr_ci") or {}).get(f"{_FEW:g}")
        figures[name]["images_per_second"] = profile.document()["images_per_second"]
    zones = np.concatenate(seen)
    for key, zone in _ZONES:
        figures[key] = round(float((zones == zone).mean()), 4)
    readable = scored.filter(pl.col("cascade").is_not_null())
    passed = readable.filter(pl.Series(zones == PASSED)).with_columns(score=pl.col("cascade"))
    return figures, passed.sort("score", descending=True)
