"""Which runtime scores a recipe: the exported graph where there is one that runs here, else PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from knowngood.environment import install_command, installed, needed
from knowngood.errors import ConfigError, RecipeError, StorageError
from knowngood.files import cache_folder, write_text
from knowngood.metrics.thresholds import Thresholds
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.exporting import DOCUMENT, FOLDER, ExportDocument, folder_of
from knowngood.recipe.folder import place_of
from knowngood.recipe.runtimes import RUNTIMES, Runtime

AUTO = "auto"
PRECISIONS = ("int8", "bf16", "fp32")  # the quickest first


@dataclass(frozen=True)
class Scoring:
    """A recipe, what computes it, and the thresholds that belong to these scores.

    Attributes:
        recipe: Loaded.
        runtime: Open.
        thresholds: The recipe's own, or those certified on the exported graph.
        revision: Names recipe and graph in every row.
        precision: What convolutions are computed in.
        exporter: Format of the exported graph; None where the recipe's own networks compute.
        export: What is known of the exported graph; None where the recipe's own networks compute.
        stamp: Names the exported graph or the cascade; empty where the recipe's own networks compute.
        any_product: Whether photographs are not compared with those that the recipe learned from.
    """

    recipe: Recipe
    runtime: Runtime
    thresholds: Thresholds
    revision: str
    precision: str = "fp32"
    exporter: str | None = None
    export: ExportDocument | None = None
    stamp: str = ""
    any_product: bool = False

    def of_any_product(self) -> Scoring:
        """Returns the same for photographs of any product; its rows have another revision, so that none is mixed up."""
        return replace(self, any_product=True, revision=f"{self.revision}+any-product")

    @property
    def said(self) -> str:
        """What computes, in a few words."""
        return f"{self.runtime.name}, {self.precision}"

    @property
    def label(self) -> str:
        """What decides, as every row names it: runtime, precision and graph, such as "openvino int8 9f3c12ab"."""
        device = getattr(self.runtime, "device", "")
        return " ".join(filter(None, (self.runtime.name, self.precision, device, self.stamp)))

    def with_cuts(self, cuts: Thresholds) -> Scoring:
        """Returns the same with other thresholds, and with a revision that says so in every row."""
        revision = f"{self.revision}+cuts-{cuts.accept_below:.6g}-{cuts.reject_from:.6g}"
        return replace(self, thresholds=cuts, revision=revision)

    def change(self) -> str | None:
        """Returns what the exported graph decides otherwise than the recipe; None where the recipe itself decides."""
        if self.export is None:
            return None
        parity = self.export.parity
        flipped, images = parity.get("changed_decisions"), parity.get("images")
        if not isinstance(flipped, int) or not isinstance(images, int):
            return f"{self.label} decides, an export; --runtime torch is the recipe itself"
        plural = "decision" if flipped == 1 else "decisions"
        held = "calibration set" if self.recipe.manifest.kernels_alone else "calibration and validation sets"
        return (
            f"the export {self.label} decides from now on: on the {held} it changes {flipped} {plural} of {images}, "
            f"and it accepts below {self.thresholds.accept_below:.4g} where the recipe itself does "
            f"below {self.recipe.thresholds.accept_below:.4g}; --runtime torch is the way back"
        )


def scoring(
    recipe: Recipe | str | Path, runtime: str = AUTO, precision: str | None = None, threads: int | None = None
) -> Scoring:
    """Opens a recipe with a runtime.

    Args:
        recipe: Its folder; or a loaded one, which has exports only if it was loaded from a folder.
        runtime: A name, or "auto": the quickest exported graph whose runtime is installed, else PyTorch; PyTorch too
            where there is a GPU.
        precision: Of the exported graph; the quickest that there is by default.
        threads: How many the runtime may use; all cores by default.

    Raises:
        MissingExtraError: The runtime asked for is not installed.
        RecipeError: The export is damaged, or was made of another revision.
        ConfigError: There is no export for the runtime asked for.
        UnknownNameError: No such runtime.
    """
    if runtime != AUTO:
        kind = RUNTIMES.get(runtime)
        if kind.extra:
            needed(kind.extra, kind.package)
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    place = loaded.folder if isinstance(recipe, Recipe) else place_of(recipe)
    wanted = RUNTIMES.names() if runtime == AUTO else [runtime]
    if runtime == "torch" or (runtime == AUTO and torch.cuda.is_available()):
        return _own(loaded, threads)
    for exporter, held in exports(place) if place is not None else []:
        name = EXPORTERS.get(exporter).runtime
        if name not in wanted or (precision is not None and held != precision):
            continue
        kind = RUNTIMES.get(name)
        if not installed(kind.package):
            reporter().say(f"the exported graph is not used for want of {kind.package}: {install_command(kind.extra)}")
            continue
        assert place is not None
        if loaded.signed_by is not None:  # it may have come after the recipe was loaded
            from knowngood.recipe.signing import verify

            verify(place, loaded.signed_by)
        folder = folder_of(place, exporter, held)
        document = ExportDocument.load(folder, loaded.manifest.revision)
        if document.shape != loaded.input_shape or (document.exporter, document.precision) != (exporter, held):
            raise RecipeError(
                f"The export {folder} is of another input or format than its recipe.",
                expected=f"{exporter}, {held}, photographs of shape {loaded.input_shape}",
                fix="Export again, or use --runtime torch.",
            )
        opened = kind(None, document.graph(folder), threads)
        return Scoring(loaded, opened, document.thresholds, document.revision, held, exporter, document, document.stamp)
    if runtime != AUTO or precision is not None:
        what = " ".join(filter(None, (None if runtime == AUTO else runtime, precision)))
        raise ConfigError(
            f"This recipe has no export for {what}.",
            expected="one made with `knowngood export`",
            fix=f"knowngood export RECIPE --to {_format_for(runtime)}"
            + (f" --precision {precision}" if precision else ""),
        )
    return _own(loaded, threads)


def exports(place: Path) -> list[tuple[str, str]]:
    """Returns format and precision of what lies in a recipe's folder, the quickest first."""
    made = [(name, precision) for precision in PRECISIONS for name in EXPORTERS.names()]
    return [one for one in made if (place / FOLDER / "-".join(one) / DOCUMENT).is_file()]


def _own(recipe: Recipe, threads: int | None) -> Scoring:
    runtime = RUNTIMES.get("torch")(recipe.inspector, None, threads)
    return Scoring(recipe, runtime, recipe.thresholds, recipe.manifest.revision)


def _format_for(runtime: str) -> str:
    return next((name for name, kind in EXPORTERS.items() if kind.runtime == runtime), "openvino")


def announce(made: Scoring) -> None:
    """Says what decides: in one line, and what an export changes when it decides for the first time here.

    Which exports have decided before is remembered in the user's cache, so that a recipe may lie where nobody writes.
    """
    reporter().say(f"decided by {made.label}, recipe {made.revision}")
    change = made.change()
    if change is None:
        return
    seen = cache_folder("exports-seen") / made.revision
    try:
        if seen.exists():
            return
        write_text(seen, "")
    except (OSError, StorageError):
        pass  # then it is said again
    reporter().say(change)
