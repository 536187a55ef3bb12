"""`knowngood study`: several analyses of one set, each kept when it is finished, and one report."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from knowngood import wording
from knowngood.data.loading import loaded
from knowngood.data.records import Records
from knowngood.data.units import with_units
from knowngood.errors import DataError, KnownGoodError
from knowngood.experiments.configs import StudyConfig
from knowngood.experiments.study_steps import STEPS, Material, Step
from knowngood.files import check_writable, write_json, write_text
from knowngood.models.backbones import BACKBONES
from knowngood.models.features import features
from knowngood.parameters import configured
from knowngood.progress import reporter
from knowngood.report.page import Section, page, render
from knowngood.training.config import TrainConfig
from knowngood.training.start import choose_model
from knowngood.workflows.runs import call_of, command_for, fingerprint_of, open_run, shown, versions

DOCUMENT, PAGE = "study.json", "study.html"
_KEPT = "found"  # folder for the findings of the steps


@dataclass(frozen=True)
class Studied:
    """A finished study.

    Attributes:
        folder: With study.html, study.json, and a folder a step.
        document: What study.json holds: the findings of each step, the steps left out and why, what to do next.
    """

    folder: Path
    document: dict[str, Any]


def study(  # noqa: PLR0913  (a keyword a field of StudyConfig)
    data: str | Path | Records,
    out: str | Path,
    config: StudyConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    force: bool = False,
    preset: Literal["quick", "standard", "best"] = "quick",
    skip: str = "",
    model: str | None = None,
    weights: str | Path | None = None,
    image_size: int | None = None,
    models: str | None = None,
    compare_size: int | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    seeds: int | None = None,
    trial_seeds: int | None = None,
    generated: str | Path | None = None,
    escape_budget: float = 0.01,
    resplit: bool = False,
    unit_from: str | None = None,
    seed: int = 0,
) -> Studied:
    """Runs every step on a set of images and writes one report.

    A study that was killed goes on with the step at which it was when the same call is made again. A step that
    cannot be done (no weights, one class only) is left out with its reason; the others go on, and the next call
    tries it again.

    Args:
        data: Folder, manifest, the word of a source ("elpv"), or records that were loaded already.
        out: Folder for the study.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        force: Replace whatever study is in `out`.

    Raises:
        UnknownNameError: A network or a step that is not known; raised before anything is read.
        ConfigError: `out` holds another study.
        DataError: There is nothing to read, or not one step could be done.
    """
    config = configured(StudyConfig, config, locals()).resolved()
    for name in config.skipped:
        STEPS.get(name)
    for name in (*config.compared, *([config.model] if config.model else [])):
        BACKBONES.get(name)
    folder = Path(out)
    check_writable(folder, folder=True)  # before anything is computed
    records = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    records = with_units(records, config.unit_from)
    call = call_of(data, source, good, bad)
    open_run(folder, config, fingerprint_of(records), force, finished=False, grows=("skip",), call=call)
    material = Material(records, folder, config, choose_model(TrainConfig(model=config.model)), {})
    _features_once(material)
    left_out: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name, make in STEPS.items():
        step, started = make(), time.perf_counter()
        if (why := _why_not(name, step, material)) is not None:
            left_out[name] = why
            continue
        kept = folder / _KEPT / f"{name}.json"
        try:
            material.found[name] = _found(step, material, kept)
        except KnownGoodError as error:
            left_out[name] = f"could not be done: {error.what}"
            reporter().say(f"{name} is left out: {error.what}")
            continue
        seconds[name] = round(time.perf_counter() - started, 1)
    if not material.found:
        raise DataError(f"Not one step could be done; the first says: {next(iter(left_out.values()))}")
    command = command_for(shown(data), folder, config, source, "study", good=good, bad=bad)
    return _written(material, command, left_out, seconds)


def _features_once(material: Material) -> None:
    """Computes the features once; inspector, classifiers and audit then find them in the cache."""
    config, needed = material.config, {"inspector", "conventional", "outliers"}
    undone = [n for n in needed - set(config.skipped) if not (material.folder / _KEPT / f"{n}.json").is_file()]
    if undone and material.records.usable().counts()["bad"]:
        with contextlib.suppress(KnownGoodError):  # the steps report what is missing
            features(
                material.records.usable(),
                material.model,
                weights=config.weights,
                image_size=config.image_size,
                stages=True,
            )


def _why_not(name: str, step: Step, material: Material) -> str | None:
    return "skipped, as asked" if name in material.config.skipped else step.skipped(material)


def _found(step: Step, material: Material, kept: Path) -> dict[str, Any]:
    if kept.is_file():
        reporter().say(f"{step.title}: kept from before")
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    reporter().say(step.title)
    found = json.loads(json.dumps(step.run(material)))  # as it will be read again
    write_json(kept, found)
    return dict(found)


def _written(material: Material, command: str, left_out: dict[str, str], seconds: dict[str, float]) -> Studied:
    records = material.records
    steps = {name: make() for name, make in STEPS.items() if name in material.found}
    advice = [one for name, step in steps.items() for one in step.advice(material.found[name])]
    document = {
        "command": command,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "config": material.config.model_dump(mode="json"),
        "data": {"source": records.source, "root": str(records.root), "licence": records.licence, **records.counts()},
        "found": material.found,
        "left_out": left_out,
        "next": advice,
        "seconds": seconds,
        "versions": versions(),
    }
    sections = [section for name, step in steps.items() for section in step.sections(material, material.found[name])]
    sections = [*sections, _next(advice), _again(document)]
    counts = ", ".join(f"{number:,} {name}" for name, number in records.counts().items() if number)
    title = f"Study of {records.source if records.source != 'folder' else Path(records.root).name}"
    write_text(material.folder / PAGE, page(title, f"{document['created']} · {counts}", sections))
    write_json(material.folder / DOCUMENT, document)
    return Studied(material.folder, document)


def _next(advice: list[str]) -> Section:
    body = render("sections/study_next.html", advice=advice)
    return Section("next", "What to do next", body, "Out of what was found above, the most important first.")


def _again(document: dict[str, Any]) -> Section:
    seconds = {name: wording.duration(took) for name, took in document["seconds"].items()}
    body = render("sections/study_again.html", document=document, seconds=seconds)
    return Section("again", "How to run it again", body)
