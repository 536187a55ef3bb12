"""Run folders: opened, continued or refused; and the facts in them: data, scores, versions, command."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel

from knowngood.data.records import BAD, GOOD, Records
from knowngood.environment import versions_of
from knowngood.errors import ConfigError
from knowngood.files import storage_errors, write_json
from knowngood.metrics.thresholds import Thresholds, decide
from knowngood.parameters import renamed_fields
from knowngood.progress import reporter

if TYPE_CHECKING:
    from knowngood.models.features import Features

_PACKAGES = (
    "knowngood",
    "torch",
    "timm",
    "lightning",
    "scikit-learn",
    "numpy",
    "polars",
    "opencv-python-headless",
)


def score_table(
    records: Records,
    scores: npt.NDArray[np.float64],
    out_of_fold: npt.NDArray[np.float64],
    thresholds: Thresholds,
    raw_scores: npt.NDArray[np.float32],
    reasons: Sequence[str | None] | None = None,
) -> pl.DataFrame:
    """Returns one row for each image with scores in [0, 1], decisions and raw score; null where there is none.

    Args:
        records: (N rows).
        scores: (N,) of the finished recipe, which was trained on some of the images.
        out_of_fold: (N,) from a classifier that did not see the image; NaN where the run has none.
        thresholds: Of the decisions.
        raw_scores: (N,) of the finished recipe.
        reasons: (N,) why an image needs review whatever its score, or None; None for no reasons at all.

    Returns:
        Columns of the records, `score` and `decision` of the recipe, `out_of_fold_score` and `out_of_fold_decision`,
        `reason`, `raw_score`. Both pairs are equal for images that were not trained on.
    """
    columns = ["image", "path", "split", "label", "defect", "lot", "unit", "machine", "product", "sha256"]
    why = [None] * len(scores) if reasons is None else list(reasons)
    return records.frame.select(columns).with_columns(
        pl.Series("score", scores).fill_nan(None),
        pl.Series("decision", _decisions(scores, thresholds, why), dtype=pl.String),
        pl.Series("out_of_fold_score", out_of_fold).fill_nan(None),
        pl.Series("out_of_fold_decision", _decisions(out_of_fold, thresholds, why), dtype=pl.String),
        pl.Series("reason", why, dtype=pl.String),
        pl.Series("raw_score", raw_scores).fill_nan(None),
    )


def _decisions(
    scores: npt.NDArray[np.float64], thresholds: Thresholds, reasons: Sequence[str | None]
) -> list[str | None]:
    decisions: list[str | None] = [None] * len(scores)
    known = np.flatnonzero(~np.isnan(scores))
    decided = decide(scores[known], thresholds, [reasons[int(row)] for row in known]).tolist()
    for row, decision in zip(known, decided, strict=True):
        decisions[row] = decision
    return decisions


def unseen(table: pl.DataFrame) -> pl.DataFrame:
    """Returns a run's scores with `score` and `decision` out of fold, where the run has them.

    Args:
        table: scores.parquet of a run; that of an early run has no out-of-fold columns.
    """
    if "out_of_fold_score" not in table.columns:
        return table
    known = pl.col("out_of_fold_score").is_not_null()
    return table.with_columns(
        pl.when(known).then("out_of_fold_score").otherwise("score").alias("score"),
        pl.when(known).then("out_of_fold_decision").otherwise("decision").alias("decision"),
    )


def data_facts(records: Records, fingerprint: str) -> dict[str, Any]:
    """Returns source, licence and counts of a set with splits, and the hash of its contents, as JSON types."""
    frame = records.frame
    counts: dict[str, dict[str, int]] = {}
    kind = (
        pl.when(pl.col("label") == GOOD)
        .then(pl.lit("good"))
        .otherwise(
            pl.coalesce(
                pl.col("defect"),
                pl.when(pl.col("label") == BAD).then(pl.lit("bad")).otherwise(pl.lit("unlabelled")),
            )
        )
    )
    grouped = frame.filter(pl.col("split").is_not_null()).group_by("split", kind.alias("kind")).len()
    for name, what, number in grouped.sort("split", "kind").iter_rows():
        counts.setdefault(name, {})[what] = number
    return {
        "source": records.source,
        "root": str(records.root),
        "licence": records.licence,
        "notes": list(records.notes),
        "repeated_parts": None if records.repeated is None else records.repeated.to_dict(),
        "folders": [asdict(fact) for fact in records.folders],
        **records.passed_over.to_dict(),
        "images": len(frame),
        "unreadable": int(frame["error"].is_not_null().sum()),
        "counts": counts,
        "sha256": fingerprint,
    }


def feature_facts(deep: Features) -> dict[str, Any]:
    """Returns the network, weights and size of a table of features, as JSON types."""
    return {
        "model": deep.model,
        "weights": deep.origin,
        "size": list(deep.size),
        "computed": deep.computed,
        "unreadable": len(deep.failed),
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that compute a result."""
    return {"python": platform.python_version()} | versions_of(*_PACKAGES)


def command_for(
    data: object,
    out: Path | None,
    config: BaseModel,
    source: str | None,
    verb: str = "train",
    *,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
) -> str:
    """Returns the command that repeats a run, with the options that differ from their defaults.

    Args:
        data: Positional arguments: one, or a tuple.
        out: Folder of the run; None leaves `--out` out.
        config: Of the run.
        source: Data source, or None.
        verb: Of the command line.
        good: Names that mean good.
        bad: Names that mean bad.
    """
    named = data if isinstance(data, tuple) else (data,)
    parts = ["knowngood", *verb.split(), *map(str, named), *(() if out is None else ("--out", str(out)))]
    if source:
        parts += ["--source", source]
    for flag, names in (("--good", good), ("--bad", bad)):
        parts += [flag, ",".join([names] if isinstance(names, str) else names)] if names else []
    default = type(config)().model_dump(mode="json")
    for name, value in config.model_dump(mode="json").items():
        if value == default[name]:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            parts.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            parts += [f"--{flag}", ",".join(value) if isinstance(value, list) else str(value)]
    return shlex.join(parts)


def shown(data: str | Path | Records) -> str:
    """Returns the argument of a command for a set of images."""
    return str(data.root if isinstance(data, Records) else data)


def count_words(records: Records) -> str:
    """Returns "30 good, 16 bad"."""
    counts = records.counts()
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


CONFIG, FIGURES = "config.json", "metrics.json"  # the first and the last file that a run writes


def open_run(
    folder: Path,
    config: BaseModel,
    fingerprint: str,
    force: bool,
    *,
    finished: bool | None = None,
    grows: Collection[str] = (),
    call: Mapping[str, Any] | None = None,
) -> bool:
    """Returns whether the run in `folder` is finished; if not, prepares the folder for starting or continuing.

    Args:
        folder: Of the run.
        config: What the run is to do.
        fingerprint: Of its data, from `fingerprint_of`.
        force: Delete whatever run is there.
        finished: Whether an equal run is finished; by default where its figures exist.
        grows: Fields of `config` in which a run may differ from the earlier one that it continues.
        call: What `call_of` returns: it is kept beside all options, so that `--config` repeats the run from its folder.

    Raises:
        ConfigError: The folder holds other files, or another run with results.
        StorageError: The folder cannot be made.
    """
    kept = {name: value for name, value in _plain(config).items() if name not in grows}
    wanted: dict[str, Any] = {"config": kept, "data": fingerprint}
    new = {name: value for name, value in _plain(type(config)()).items() if name in kept}
    path = folder / CONFIG
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file.", expected="a folder for the run", fix="Choose another --out.")
    occupied = folder.is_dir() and any(folder.iterdir())
    if occupied and not path.is_file():
        raise ConfigError(
            f"{folder} is not empty and holds no run of knowngood.",
            expected="an empty folder or none (--force deletes runs, not other files)",
            fix="Choose another --out.",
        )
    if occupied and force:
        shutil.rmtree(folder)
    elif occupied:
        earlier = _read_config(path)
        earlier["config"] = new | renamed_fields(type(config), earlier["config"])  # new ones at their defaults
        there = _go_on(folder, wanted, earlier, (folder / FIGURES).is_file() if finished is None else finished)
        if call is not None and not there:
            write_json(path, wanted | {"repeat": _plain(config) | dict(call)})
        return there
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted if call is None else wanted | {"repeat": _plain(config) | dict(call)})
    return False


def call_of(
    data: str | Path | Records, source: str | None, good: Sequence[str], bad: Sequence[str], **resolved: Any
) -> dict[str, Any]:
    """Returns the arguments of a run beside its configuration, under the names that its command has for them.

    Args:
        data: Folder, manifest, word of a source, or records; a path is made absolute.
        source: Data source, or None.
        good: Names that mean good.
        bad: Names that mean bad.
        **resolved: Fields of the configuration that were left open, as they were decided.
    """
    named = shown(data)
    place = os.path.abspath(named) if Path(named).exists() else named
    listed = {
        name: [names] if isinstance(names, str) else list(names) for name, names in (("good", good), ("bad", bad))
    }
    return {"data": place, "source": source, **{name: names for name, names in listed.items() if names}, **resolved}


def fingerprint_of(records: Records) -> str:
    """Returns a hash of the images' bytes, labels and splits, whatever their order."""
    rows = records.frame.select("image", "sha256", "label", "split").sort("image").rows()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _plain(config: BaseModel) -> dict[str, Any]:
    """Returns a configuration as JSON types; a path is the same however it is spelled."""
    paths = {name: os.path.abspath(value) for name, value in config if isinstance(value, Path)}
    return config.model_dump(mode="json") | paths


def _go_on(folder: Path, wanted: dict[str, Any], earlier: dict[str, Any], finished: bool) -> bool:
    if earlier == wanted:
        state = "is finished already; --force makes it again" if finished else "is continued"
        reporter().say(f"the run in {folder} {state}")
        if finished:  # a kill may have come between its last file and this
            shutil.rmtree(folder / "work", ignore_errors=True)
        else:
            _clear(folder)
        return finished
    if _has_results(folder):
        options = wanted["config"]
        changed = [name for name in options if earlier["config"].get(name) != options[name]]
        what = f"other options ({', '.join(changed)})" if changed else "other images or labels"
        raise ConfigError(f"{folder} holds a run with {what}.", fix="Choose another --out, or replace it with --force.")
    reporter().say(f"the run in {folder} had other options or images and no results yet: it starts again")
    shutil.rmtree(folder / "work", ignore_errors=True)
    write_json(folder / CONFIG, wanted)
    return False


def _read_config(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        document = None
    if not isinstance(document, dict) or not {"config", "data"} <= set(document):
        raise ConfigError(f"{path} was not written by knowngood.", fix="Choose another --out.")
    document.pop("repeat", None)  # for --config alone
    return document


def _has_results(folder: Path) -> bool:
    """Returns whether a run, or one inside it, holds results: figures, recipe, checkpoint, finding of a study."""
    return any(
        next(folder.glob(f"{inside}{kept}"), None)
        for inside in ("", "models/*/*/")
        for kept in (FIGURES, "recipe", "work/*.ckpt", "found/*.json")
    )


def _clear(folder: Path) -> None:
    """Removes incomplete files of a killed run."""
    for scratch in folder.glob(".*.tmp"):
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)
