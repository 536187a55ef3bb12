"""Which runtime scores a recipe: the exported graph where there is one that runs here, else PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from knowngood.decide.threshold import Thresholds
from knowngood.errors import ConfigError
from knowngood.packages import install_command, installed, needed
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.export import EXPORTERS
from knowngood.recipe.export.document import DOCUMENT, FOLDER, ExportDocument, folder_of
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
    """

    recipe: Recipe
    runtime: Runtime
    thresholds: Thresholds
    revision: str
    precision: str = "fp32"
    exporter: str | None = None

    @property
    def said(self) -> str:
        """What computes, in a few words."""
        return f"{self.runtime.name}, {self.precision}"


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
        folder = folder_of(place, exporter, held)
        document = ExportDocument.load(folder, loaded.manifest.revision)
        opened = kind(None, document.graph(folder), threads)
        return Scoring(loaded, opened, document.thresholds, document.revision, held, exporter)
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
