"""Exports a recipe as a graph that decides as the recipe does, with thresholds certified on the graph's own scores."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from knowngood.environment import versions_of
from knowngood.errors import ParityError, RecipeError
from knowngood.files import check_writable, scratch_folder, sha256_of, whole_folder
from knowngood.models.batching import batches_of
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.export_formats import Exporter, Precision, exporter_for
from knowngood.recipe.folder import place_of
from knowngood.recipe.graphs import MapKind, Scorer, folds_exactly, map_kind
from knowngood.recipe.manifest import CertifiedCuts, SealedDocument, Sha256
from knowngood.recipe.options import RUNTIMES, Tolerance
from knowngood.recipe.parity import Holdout, certified, compared, complaints, holdout_images, holdout_splits, likeness
from knowngood.recipe.runtimes import Graph, Runtime

FOLDER, DOCUMENT = "exports", "export.json"
FORMAT = 1
_Side = Annotated[int, Field(ge=1, le=4096)]
_Line = Annotated[str, Field(max_length=255)]
_File = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}$")]  # beside the document, nowhere else


class ExportDocument(SealedDocument):
    """Everything of an export but its graph."""

    format: int = Field(FORMAT, ge=1, le=1000, description="Version of this layout.")
    recipe: str = Field(max_length=255, description="Revision of the recipe that the graph was made of.")
    exporter: str = Field(max_length=64, description="Name of the format.")
    precision: Literal["fp32", "bf16", "int8"] = Field(description="What its convolutions are computed in.")
    created: str = Field(max_length=255, description="When, ISO 8601 with zone.")
    shape: tuple[_Side, _Side, _Side] = Field(description="Channels, height, width of its input, uint8.")
    map_kind: MapKind | None = Field(description="What its output `map` is, if there is one.")
    folded: bool = Field(description="Whether normalisation lies in the first convolution.")
    wide: tuple[_Line, ...] = Field(
        (), max_length=10_000, description="Layers that were kept in float to stay within the tolerance."
    )
    threshold: CertifiedCuts = Field(description="`Threshold.to_dict()`, certified on scores of this graph.")
    tolerance: Tolerance = Field(description="What was allowed.")
    parity: dict[str, Any] = Field(description="What was measured, with the rejected attempts.")
    sample: int = Field(ge=0, le=10**9, description="Training images from which the ranges of int8 were taken.")
    versions: dict[_Line, _Line] = Field(max_length=1000, description="Package to version.")
    files: dict[_File, Sha256] = Field(min_length=1, max_length=64, description="File beside it to SHA-256.")

    @property
    def revision(self) -> str:
        """Names recipe and graph in every row that is scored: their scores differ, if little."""
        return f"{self.recipe}+{self.exporter}-{self.precision}-{self.stamp}"

    def graph(self, folder: Path) -> Graph:
        """Returns the graph beside the document."""
        return Graph(folder, self.precision, self.map_kind is not None)

    def save(self, folder: Path) -> None:
        """Writes export.json."""
        self.save_as(folder / DOCUMENT)

    @classmethod
    def load(cls, folder: Path, revision: str) -> ExportDocument:
        """Reads an export and checks that it is whole and of this very recipe.

        Args:
            folder: With export.json.
            revision: Of the recipe that it lies in.

        Raises:
            RecipeError: It is damaged, or of another revision.
        """
        try:
            made = cls.read(folder / DOCUMENT)
            unnamed = sorted({one.name for one in folder.iterdir() if one.is_file()} - {*made.files, DOCUMENT})
            if unnamed := [name for name in unnamed if not name.startswith(".")]:
                raise ValueError(f"{unnamed[0]} is not among the files that were saved")
            for name, digest in made.files.items():
                if sha256_of(folder / name) != digest:
                    raise ValueError(f"the bytes of {name} are not those that were saved")
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"The export {folder} is damaged: {error}.",
                expected="the bytes that `knowngood export` saved",
                fix="Export again, or use --runtime torch.",
            ) from error
        if made.recipe != revision:
            raise RecipeError(
                f"The export {folder} was made of revision {made.recipe}; this recipe is {revision}.",
                expected="an export of this very recipe",
                fix=f"Delete {folder}, or export again: knowngood export RECIPE --to {made.exporter}.",
            )
        return made


def folder_of(recipe: Path, exporter: str, precision: str) -> Path:
    """Returns where in a recipe's folder an export lies."""
    return recipe / FOLDER / f"{exporter}-{precision}"


MAPPED = 32  # images whose maps are compared
TRIED = 64  # images on which the sensitivity of layers is measured, and from which ranges are taken for that alone
PARTS = 4  # groups of layers, from input to output, that are widened together


@dataclass(frozen=True)
class Exported:
    """An export that passed its gate.

    Attributes:
        folder: With the graph and export.json.
        document: What export.json holds.
    """

    folder: Path
    document: ExportDocument


def export(
    recipe: str | Path,
    *,
    to: str = "openvino",
    precision: str = "int8",
    data: str | Path | None = None,
    tolerance: Tolerance | None = None,
) -> Exported:
    """Exports a recipe into its own folder, where `predict` finds it.

    The graph is compared with the recipe on the run's calibration images, and its validation images where no network
    was fitted on them; the test split is not used. Where int8 strays too far, the most sensitive layers are kept
    in float, a quarter at a time, at most half. Thresholds are certified anew on the graph's scores of the calibration
    split. Ranges of int8 come from training images, so that the calibration images are as new to the graph as to the
    recipe.

    Args:
        recipe: Folder of a recipe inside that of its run, or the run's.
        to: Name of a format.
        precision: "fp32", "bf16" or "int8".
        data: Where the run's images are now, if not where they were.
        tolerance: How far the graph may stray.

    Raises:
        ParityError: It strays too far; nothing is written.
        ConfigError: The format has no such precision.
        DataError: The images of the run are gone, or too few.
        MissingExtraError: A package is missing.
    """
    exporter, chosen = exporter_for(to, precision)
    place, allowed = place_of(recipe), tolerance or Tolerance()
    target = folder_of(place, to, chosen)
    check_writable(target, folder=True, flag="RECIPE")
    loaded = Recipe.load(recipe)
    with scratch_folder(target) as scratch:
        holdout = holdout_images(loaded, place, data, scratch, sample=chosen == "int8", seed=loaded.manifest.seed)
        gate = _Gate(loaded, holdout, exporter, chosen, allowed, scratch)
        passed = gate.first_that_passes()
        with whole_folder(target) as folder:
            shutil.copytree(passed.folder, folder, dirs_exist_ok=True)  # the very bytes that passed
            document = ExportDocument(
                recipe=loaded.manifest.revision,
                exporter=to,
                precision=chosen,
                created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                shape=loaded.input_shape,
                map_kind=map_kind(loaded.inspector),
                folded=passed.fold,
                wide=passed.wide,
                threshold=passed.threshold,
                tolerance=allowed,
                parity=passed.report | {"rejected_attempts": gate.rejected},
                sample=len(gate.sample_rows),
                versions=versions_of(*exporter.packages, *exporter.int8_packages, "torch", "knowngood"),
                files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
            )
            document.save(folder)
    return Exported(target, document)


@dataclass(frozen=True)
class _Passed:
    folder: Path
    fold: bool
    wide: tuple[str, ...]
    threshold: dict[str, Any]
    report: dict[str, Any]


class _Gate:
    """Tries graphs, the fastest first, until one decides as the recipe does."""

    def __init__(
        self,
        recipe: Recipe,
        holdout: Holdout,
        exporter: Exporter,
        precision: Precision,
        tolerance: Tolerance,
        scratch: Path,
    ) -> None:
        self.recipe, self.holdout, self.exporter = recipe, holdout, exporter
        self.precision, self.tolerance, self.scratch = precision, tolerance, scratch
        self.rows, self.sample_rows = holdout.rows(*holdout_splits(recipe.manifest)), holdout.rows("train")
        self.maps = map_kind(recipe.inspector) is not None
        own = RUNTIMES.get("torch")(recipe.inspector, None)
        self.stage = 0
        self._begin(f"the recipe's own scores of {len(self.rows)} held-out images")
        self.before = self._raw_scores(own, self.rows)
        self.before_maps = self._some_maps(own) if self.maps else None
        self.rejected: list[dict[str, Any]] = []
        self.tries = 0

    def first_that_passes(self) -> _Passed:
        """Returns the first graph within the tolerance, and reports each stage.

        Raises:
            ParityError: There is none.
        """
        exact = folds_exactly(self.recipe.inspector)
        folds = [False] if self.precision == "fp32" and not exact else [True] if exact else [True, False]
        for fold in folds:
            self._begin(f"the graph{', normalisation folded' if fold else ''}")
            plain = self.exporter.graph(Scorer(self.recipe.inspector, fold=fold))
            if passed := self._tried(plain, fold, ()):
                return passed
        if self.precision == "int8":  # `plain` is the exacter one
            names, order = self.exporter.convolutions(plain), self._sensitive(plain)
            for parts in (1, PARTS // 2):
                wide = names[:1] + [name for part in order[:parts] for name in part]
                if passed := self._tried(plain, fold, tuple(dict.fromkeys(wide))):
                    return passed
        last = self.rejected[-1]["complaints"]
        raise ParityError(
            f"The exported graph strays too far from its recipe: {'; '.join(last)}.",
            expected="the same decisions within the tolerance, on held-out images",
            fix="Use --precision bf16 or fp32, or allow more with --min-correlation, --max-auc-loss, --max-overkill,"
            " --max-score, or for its maps --min-likeness.",
        )

    def _begin(self, what: str) -> None:
        self.stage += 1
        reporter().say(f"export, stage {self.stage}: {what}")

    def _tried(self, plain: Any, fold: bool, wide: tuple[str, ...]) -> _Passed | None:
        runtime, folder = self._opened(self._made(plain, wide, len(self.sample_rows)))
        self._begin(f"its scores of {len(self.rows)} held-out images")
        apply = self.recipe.manifest.calibration.apply
        raw_scores = self._raw_scores(runtime, self.rows)
        before, after = apply(self.before), apply(raw_scores)
        labels = self.holdout.labels[self.rows]
        certifying = self.holdout.splits[self.rows] == "calibration"
        threshold = certified(self.recipe.manifest, labels[certifying], after[certifying])
        report = compared(self.recipe.manifest, threshold, labels, before, after)
        report["raw_score_correlation"] = likeness(self.before[None], raw_scores[None])
        if self.before_maps is not None:
            report["map_likeness"] = likeness(self.before_maps, self._some_maps(runtime))
        found = complaints(report, self.tolerance)
        if not found:
            return _Passed(folder, fold, wide, threshold.to_dict(), report)
        reporter().say(f"refused, {len(wide)} layers in float: {'; '.join(found)}")
        self.rejected.append({"folded": fold, "wide": list(wide), "complaints": found})
        return None

    def _sensitive(self, plain: Any) -> list[list[str]]:
        """Returns the convolutions in groups, first that whose staying in float brings raw scores nearest."""
        names = self.exporter.convolutions(plain)
        groups = [list(part) for part in np.array_split(np.array(names, dtype=object), PARTS) if len(part)]
        some = slice(0, TRIED)
        apart = []
        for number, group in enumerate(groups, 1):
            what = f"part {number} of {len(groups)} in float, to see how much it gains"
            runtime, _ = self._opened(self._made(plain, group, TRIED, what))
            raw_scores = self._raw_scores(runtime, self.rows[some])
            apart.append(float(np.abs(raw_scores - self.before[some]).mean()))
        return [groups[i] for i in np.argsort(apart, kind="stable")]

    def _made(self, plain: Any, wide: Any, most: int, what: str = "") -> Any:
        """Returns the graph in the precision that is asked for, with ranges from at most so many training images."""
        if self.precision != "int8":
            return plain
        pixels, rows, step = self.holdout.store.pixels, self.sample_rows[:most], 8
        self._begin(f"int8, {what or f'{len(wide)} layers in float'}: ranges from {len(rows)} training images")
        sample = [np.ascontiguousarray(pixels[rows[i : i + step]]) for i in range(0, len(rows), step)]
        return self.exporter.quantised(plain, sample, wide)

    def _opened(self, graph: Any) -> tuple[Runtime, Path]:
        self.tries += 1
        folder = self.scratch / f"try{self.tries}"
        folder.mkdir()
        self.exporter.save(graph, folder)
        return RUNTIMES.get(self.exporter.runtime)(None, Graph(folder, self.precision, self.maps)), folder

    def _raw_scores(self, runtime: Runtime, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.concatenate([made.raw_scores for made in runtime.stream(self._batches(rows))])

    def _some_maps(self, runtime: Runtime) -> npt.NDArray[np.float32]:
        made = [one.maps for one in runtime.stream(self._batches(self.rows[:MAPPED]), maps=True)]
        return np.concatenate([maps for maps in made if maps is not None])

    def _batches(self, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.uint8]]:
        pixels = self.holdout.store.pixels
        for batch in batches_of(rows, pixels):
            yield np.ascontiguousarray(pixels[batch])
