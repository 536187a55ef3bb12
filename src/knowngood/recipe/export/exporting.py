"""`knowngood export`: a graph for another runtime, let through only when it decides as its recipe does."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.errors import ParityError
from knowngood.files import check_writable, scratch_folder, sha256_of, whole_folder
from knowngood.packages import versions_of
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.export import Exporter, Precision, exporter_for
from knowngood.recipe.export.document import ExportDocument, folder_of
from knowngood.recipe.export.graphs import Scorer, folds_exactly, map_kind
from knowngood.recipe.export.held import Held, held_images, judged_on
from knowngood.recipe.export.parity import certified, compared, complaints, likeness
from knowngood.recipe.folder import place_of
from knowngood.recipe.runtimes import RUNTIMES, Graph, Outputs, Runtime
from knowngood.recipe.tolerance import Tolerance

BATCH = 32
MAPPED = 32  # images whose maps are compared
TRIED = 64  # images on which the sensitivity of layers is measured, and from which ranges are taken for that alone
PARTS = 4  # groups of layers, from input to output, that are widened together


@dataclass(frozen=True)
class Exported:
    """An export that was let through.

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

    The graph is compared with the recipe on the run's calibration images, and its validation images where nothing has
    learned from them; the test split is not looked at. Where int8 strays too far, the most sensitive layers are kept
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
        held = held_images(loaded, place, data, scratch, sample=chosen == "int8", seed=loaded.manifest.seed)
        gate = _Gate(loaded, held, exporter, chosen, allowed, scratch)
        passed = gate.first_that_passes()
        with whole_folder(target) as folder:
            shutil.copytree(passed.folder, folder, dirs_exist_ok=True)  # the very bytes that were judged
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
    """Tries graphs, the quickest first, until one decides as the recipe does."""

    def __init__(
        self,
        recipe: Recipe,
        held: Held,
        exporter: Exporter,
        precision: Precision,
        tolerance: Tolerance,
        scratch: Path,
    ) -> None:
        self.recipe, self.held, self.exporter = recipe, held, exporter
        self.precision, self.tolerance, self.scratch = precision, tolerance, scratch
        self.rows, self.sample_rows = held.rows(*judged_on(recipe.manifest)), held.rows("train")
        self.maps = map_kind(recipe.inspector) is not None
        own = RUNTIMES.get("torch")(recipe.inspector, None)
        self.stage = 0
        self._begin(f"the recipe's own scores of {len(self.rows)} held-out images")
        self.before = self._margins(own, self.rows)
        self.before_maps = self._outputs(own, self.rows[:MAPPED]).maps if self.maps else None
        self.rejected: list[dict[str, Any]] = []
        self.tries = 0

    def first_that_passes(self) -> _Passed:
        """Returns the first graph within the tolerance, and tells stage by stage how far it is.

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
            " --max-score.",
        )

    def _begin(self, what: str) -> None:
        self.stage += 1
        reporter().say(f"export, stage {self.stage}: {what}")

    def _tried(self, plain: Any, fold: bool, wide: tuple[str, ...]) -> _Passed | None:
        runtime, folder = self._opened(self._made(plain, wide, len(self.sample_rows)))
        self._begin(f"its scores of {len(self.rows)} held-out images")
        apply = self.recipe.manifest.calibration.apply
        margins = self._margins(runtime, self.rows)
        before, after = apply(self.before), apply(margins)
        labels = self.held.labels[self.rows]
        judged = self.held.splits[self.rows] == "calibration"
        threshold = certified(self.recipe.manifest, labels[judged], after[judged])
        report = compared(self.recipe.manifest, threshold, labels, before, after)
        report["margin_correlation"] = likeness(self.before[None], margins[None])
        if self.before_maps is not None:
            heat = self._outputs(runtime, self.rows[:MAPPED]).maps
            assert heat is not None
            report["map_likeness"] = likeness(self.before_maps, heat)
        found = complaints(report, self.tolerance)
        if not found:
            return _Passed(folder, fold, wide, threshold.to_dict(), report)
        reporter().say(f"not let through, {len(wide)} layers in float: {'; '.join(found)}")
        self.rejected.append({"folded": fold, "wide": list(wide), "complaints": found})
        return None

    def _sensitive(self, plain: Any) -> list[list[str]]:
        """Returns the convolutions in groups, first that whose staying in float brings margins nearest."""
        names = self.exporter.convolutions(plain)
        groups = [list(part) for part in np.array_split(np.array(names, dtype=object), PARTS) if len(part)]
        some = slice(0, TRIED)
        apart = []
        for number, group in enumerate(groups, 1):
            what = f"part {number} of {len(groups)} in float, to see how much it gains"
            runtime, _ = self._opened(self._made(plain, group, TRIED, what))
            margins = self._margins(runtime, self.rows[some])
            apart.append(float(np.abs(margins - self.before[some]).mean()))
        return [groups[i] for i in np.argsort(apart, kind="stable")]

    def _made(self, plain: Any, wide: Any, most: int, what: str = "") -> Any:
        """Returns the graph in the precision that is asked for, with ranges from at most so many training images."""
        if self.precision != "int8":
            return plain
        pixels, rows, step = self.held.store.pixels, self.sample_rows[:most], 8
        self._begin(f"int8, {what or f'{len(wide)} layers in float'}: ranges from {len(rows)} training images")
        sample = [np.ascontiguousarray(pixels[rows[i : i + step]]) for i in range(0, len(rows), step)]
        return self.exporter.quantised(plain, sample, wide)

    def _opened(self, graph: Any) -> tuple[Runtime, Path]:
        self.tries += 1
        folder = self.scratch / f"try{self.tries}"
        folder.mkdir()
        self.exporter.save(graph, folder)
        return RUNTIMES.get(self.exporter.runtime)(None, Graph(folder, self.precision, self.maps)), folder

    def _margins(self, runtime: Runtime, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        def batches() -> Iterator[npt.NDArray[np.uint8]]:
            for start in range(0, len(rows), BATCH):
                yield np.ascontiguousarray(self.held.store.pixels[rows[start : start + BATCH]])

        return np.concatenate([made.margins for made in runtime.stream(batches())])

    def _outputs(self, runtime: Runtime, rows: npt.NDArray[np.int64]) -> Outputs:
        return runtime.run(np.ascontiguousarray(self.held.store.pixels[rows]), maps=True)
