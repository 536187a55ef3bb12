"""The one way from a photograph to a decision: every command, page and worker opens a session and asks it.

session = open_session("runs/first")
for one in session.predict(["part.png", photograph_bytes, array]):
    print(one.image, one.defect_score, one.decision)
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from knowngood.cam.regions import FRACTION
from knowngood.environment import install_command, installed, needed
from knowngood.errors import ConfigError, ImageError, KnownGoodError, RecipeError, StorageError
from knowngood.files import cache_folder, write_text
from knowngood.metrics.thresholds import ACCEPT, Thresholds
from knowngood.models.batching import BATCH, device_of
from knowngood.progress import reporter
from knowngood.recipe.bundle import Prediction, Recipe
from knowngood.recipe.cascade import DOCUMENT as CASCADE_DOCUMENT
from knowngood.recipe.cascade import FOLDER as CASCADE_FOLDER
from knowngood.recipe.cascade import STUDENT, CascadeDocument, CascadeRuntime, Part, Rule
from knowngood.recipe.engine import Engine, Known, Profile, Scored, grouped
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.exporting import DOCUMENT, FOLDER, ExportDocument, folder_of
from knowngood.recipe.folder import place_of
from knowngood.recipe.inputs import Item, items_from
from knowngood.recipe.maps import HeatMap, at_size, checked_method, drawn, level_of, marked, within
from knowngood.recipe.options import RUNTIMES
from knowngood.recipe.runtimes import Runtime

AUTO = "auto"
DEVICES = (AUTO, "cpu", "cuda")
PRECISIONS = ("int8", "bf16", "fp32")  # the fastest first
_MAPPED = 16  # photographs whose maps are computed at once
_KEPT = 4  # sessions that are kept open with a recipe


@dataclass(frozen=True)
class Session:
    """A recipe, the runtime that computes its raw scores, and the thresholds that were certified on these scores.

    Attributes:
        recipe: Loaded.
        runtime: Open.
        thresholds: Of the recipe, or those that were certified on the exported graph or on the cascade.
        revision: Names recipe and graph in every row.
        precision: Of the convolutions: "fp32", "bf16" or "int8".
        exporter: Format of the exported graph; None where the recipe's own networks compute.
        certificate: Document of the exported graph or of the cascade; None where the recipe's own networks compute.
        any_product: Whether the input check is off: photographs are not compared with those of the training set.
    """

    recipe: Recipe
    runtime: Runtime
    thresholds: Thresholds
    revision: str
    precision: str = "fp32"
    exporter: str | None = None
    certificate: ExportDocument | CascadeDocument | None = None
    any_product: bool = False

    def stream(
        self,
        items: Iterable[Item],
        known: Known | None = None,
        *,
        maps: bool = False,
        fitted: bool = False,
        batch: int = BATCH,
        workers: int | None = None,
        fraction: float = FRACTION,
        profile: Profile | None = None,
    ) -> Generator[Scored, None, None]:
        """Returns one result an item, in order; an item that cannot be read gives one with its error.

        A photograph's score does not depend on what it is scored together with.

        Args:
            items: Taken a few batches ahead of what is yielded.
            known: Given name and digest, says whether an item needs no scoring.
            maps: Whether the maps that the runtime's graph puts out, and their regions, are wanted; see `explain`.
            fitted: Whether results carry the photographs as the networks see them.
            batch: Photographs that are given to the runtime at once.
            workers: Threads that decode; as many as there are cores by default.
            fraction: Regions are what lies above this share of a map's maximum.
            profile: Receives how busy each stage was.

        Raises:
            ConfigError: Maps are wanted and this recipe has none in a forward pass.
        """
        engine = Engine(
            self.recipe,
            self.runtime,
            self.thresholds,
            any_product=self.any_product,
            maps=maps,
            fitted=fitted,
            batch=batch,
            workers=workers,
            fraction=fraction,
            profile=profile,
        )
        return engine.run(items, known)

    def predict(self, photographs: Any, names: Sequence[str] | None = None) -> list[Prediction]:
        """Returns a prediction a photograph, in order; arguments and errors are those of `Recipe.predict`."""
        return [one.prediction for one in self.stream(items_from(photographs, names))]

    def score(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Returns defect scores (N,) in [0, 1] of photographs (N, C, H, W) uint8 that `Recipe.prepared` returned."""
        return self.recipe.manifest.calibration.apply(self.runtime.run(pixels).raw_scores)

    def maps(
        self, photographs: Any, names: Sequence[str] | None = None, *, method: str = AUTO, fraction: float = FRACTION
    ) -> Iterator[HeatMap]:
        """Yields the map of each photograph, in order; arguments and errors are those of `Recipe.maps`."""
        for one in self.explain(items_from(photographs, names), method=method, fraction=fraction):
            if one.heat is None:
                raise ImageError(one.prediction.error or f"{one.prediction.image!r} has no map.")
            yield one.heat

    def explain(self, items: Iterable[Item], *, method: str = AUTO, fraction: float = FRACTION) -> Iterator[Scored]:
        """Yields one result an item, in order, with its map and `fitted`; an item that cannot be read has neither.

        Score and decision are those of `stream`. The map is always computed by the recipe's own networks in float32,
        whatever runtime decides: gradients cannot be taken in an exported graph.

        Args:
            items: Of photographs.
            method: Of `knowngood.cam.methods`; "auto" is CAM where it exists, else HiResCAM.
            fraction: Regions are what lies above this share of a map's maximum; a recipe trained on good parts alone
                has a level of its own instead.

        Raises:
            ConfigError: This recipe draws no maps, or not by this method.
            UnknownNameError: No such method.
        """
        yield from self.draw(self.stream(items, fitted=True), method=method, fraction=fraction)

    def draw(self, scored: Iterable[Scored], *, method: str = AUTO, fraction: float = FRACTION) -> Iterator[Scored]:
        """Yields photographs that were scored, in order, each with its map; what has no score or `fitted` has none.

        Args:
            scored: With `fitted`, and with the size that the map shall have.
            method: As in `explain`.
            fraction: As in `explain`.

        Raises:
            ConfigError: This recipe draws no maps, or not by this method.
            UnknownNameError: No such method.
        """
        inspector = self.recipe.inspector
        checked_method(inspector, method)
        device, level = device_of(inspector), level_of(inspector)
        for group in grouped(scored, _MAPPED, lambda one: one.fitted is not None):
            pixels = [one.fitted for one in group if one.fitted is not None]
            maps: Iterator[npt.NDArray[np.float32]] = iter(())
            if pixels:
                _, heat = drawn(inspector, torch.from_numpy(np.stack(pixels)).to(device), method)
                maps = iter(heat.cpu().numpy())
            for one in group:
                score = one.prediction.defect_score
                if one.fitted is None or score is None:
                    yield one
                    continue
                full = within(at_size(next(maps), *one.size), self.recipe.manifest.preprocessing)
                regions = marked(full, level, fraction, rejected=one.prediction.decision != ACCEPT)
                yield replace(one, heat=HeatMap(one.prediction.image, score, one.prediction.decision, full, regions))

    def of_any_product(self) -> Session:
        """Returns the same session without the input check; its rows have another revision."""
        return replace(self, any_product=True, revision=f"{self.revision}+any-product")

    @property
    def label(self) -> str:
        """Names runtime, precision, device and graph, such as "openvino int8 9f3c12ab", as every row does."""
        device = getattr(self.runtime, "device", "")
        stamp = "" if self.certificate is None else self.certificate.stamp
        return " ".join(filter(None, (self.runtime.name, self.precision, device, stamp)))

    @property
    def threshold(self) -> dict[str, Any]:
        """`Threshold.to_dict()` of what decides: of the export or the cascade, else of the recipe."""
        found = self.recipe.manifest if self.certificate is None else self.certificate
        return dict(found.threshold)

    def with_cuts(self, cuts: Thresholds) -> Session:
        """Returns the same session with other thresholds, and with a revision that names them in every row."""
        revision = f"{self.revision}+cuts-{cuts.accept_below:.6g}-{cuts.reject_from:.6g}"
        return replace(self, thresholds=cuts, revision=revision)

    def change(self) -> str | None:
        """Returns how an exported graph decides differently from its recipe; None where there is none."""
        if not isinstance(self.certificate, ExportDocument):
            return None
        parity = self.certificate.parity
        flipped, images = parity.get("changed_decisions"), parity.get("images")
        if not isinstance(flipped, int) or not isinstance(images, int):
            return f"{self.label} decides, an export; --runtime torch is the recipe itself"
        plural = "decision" if flipped == 1 else "decisions"
        splits = "calibration set" if self.recipe.manifest.frozen_only else "calibration and validation sets"
        return (
            f"the export {self.label} decides from now on: on the {splits} it changes {flipped} {plural} of {images}, "
            f"and it accepts below {self.thresholds.accept_below:.4g} where the recipe itself does "
            f"below {self.recipe.thresholds.accept_below:.4g}; --runtime torch is the way back"
        )


def open_session(
    recipe: Recipe | str | Path,
    runtime: str = AUTO,
    device: str = AUTO,
    *,
    precision: str | None = None,
    cascade: bool = True,
    threads: int | None = None,
    any_product: bool = False,
) -> Session:
    """Opens a recipe: its cascade, else its fastest exported graph whose runtime is installed, else its own networks.

    Args:
        recipe: Its folder; or a loaded one, which has exports and a cascade only if it was loaded from a folder.
        runtime: A name of `RUNTIMES`, or "auto". The cascade is used with "auto" only; where there is a GPU, "auto"
            without a cascade is PyTorch.
        device: "cpu", "cuda", or "auto" for a GPU if there is one. Exported graphs run on the CPU.
        precision: Of the exported graph; the fastest that exists by default. Given, no cascade is used.
        cascade: Whether the cascade may be used.
        threads: How many each runtime may use; all cores by default.
        any_product: Whether the input check is off.

    Raises:
        MissingExtraError: The runtime asked for, or one that the cascade was certified with, is not installed.
        RecipeError: The export or the cascade is damaged, or belongs to another revision.
        ConfigError: There is no export for the runtime asked for, no such device, or no GPU.
        UnknownNameError: No such runtime.
    """
    _check_device(device)
    if cascade and runtime == AUTO and precision is None and has_cascade(recipe):
        made = open_cascade(recipe, threads)
    else:
        made = _open_network(recipe, runtime, device, precision, threads)
    return made.of_any_product() if any_product else made


def shared_session(
    recipe: Recipe, runtime: str = AUTO, device: str = AUTO, *, cascade: bool = True, any_product: bool = False
) -> Session:
    """Returns what `open_session` does, kept open with the recipe until an export or a cascade comes or goes."""
    places = (
        [] if recipe.folder is None else [*recipe.folder.glob("exports/*/*.json"), *recipe.folder.glob("cascade/*")]
    )
    state = tuple(sorted((str(one), one.stat().st_mtime_ns) for one in places))
    key = (runtime, device, cascade, any_product, state)
    found: Session | None = recipe.sessions.get(key)
    if found is None:
        found = open_session(recipe, runtime, device, cascade=cascade, any_product=any_product)
        if len(recipe.sessions) >= _KEPT:
            recipe.sessions.clear()
        recipe.sessions[key] = found
    return found


def has_cascade(recipe: Recipe | str | Path) -> bool:
    """Says whether a recipe on disk has a cascade."""
    place = recipe.folder if isinstance(recipe, Recipe) else place_of(recipe)
    return place is not None and (place / CASCADE_FOLDER / CASCADE_DOCUMENT).is_file()


def open_cascade(recipe: Recipe | str | Path, threads: int | None = None) -> Session:
    """Opens the cascade of a recipe.

    Args:
        recipe: Its folder, or loaded from one.
        threads: How many each runtime may use; all cores by default.

    Raises:
        RecipeError: It is damaged, or was certified with other graphs than there are now.
        MissingExtraError: A runtime that it was certified with is not installed.
    """
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    if loaded.folder is None:
        raise RecipeError("A recipe in memory has no cascade.", fix="Load it from its folder.")
    _verify_again(loaded)
    folder = loaded.folder / CASCADE_FOLDER
    document = CascadeDocument.load(folder)
    large = _certified(loaded, document.large, folder, threads)
    student = _certified(Recipe.load(folder / STUDENT), document.student, folder, threads)
    runtime = CascadeRuntime(
        student.runtime, large.runtime, rule_of(document, student, large), student.recipe.input_shape[1:]
    )
    return Session(loaded, runtime, document.thresholds, document.revision, large.precision, certificate=document)


def rule_of(document: CascadeDocument, student: Session, large: Session) -> Rule:
    """Returns the rule that divides photographs between the student and the large network."""
    calibrations = student.recipe.manifest.calibration, large.recipe.manifest.calibration
    return Rule(document.low, document.high, document.thresholds.accept_below, *calibrations)


def exports(place: Path) -> list[tuple[str, str]]:
    """Returns format and precision of the exports in a recipe's folder, the fastest first."""
    made = [(name, precision) for precision in PRECISIONS for name in EXPORTERS.names()]
    return [one for one in made if (place / FOLDER / "-".join(one) / DOCUMENT).is_file()]


def announce(session: Session) -> None:
    """Reports what decides in one line, and what an export changes when it decides for the first time here.

    Which exports have decided before is kept in the user's cache, so that a recipe may lie on a read-only disk.
    """
    reporter().say(f"decided by {session.label}, recipe {session.revision}")
    change = session.change()
    if change is None:
        return
    seen = cache_folder("exports-seen") / session.revision
    try:
        if seen.exists():
            return
        write_text(seen, "")
    except (OSError, StorageError):
        pass  # then it is reported again
    reporter().say(change)


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise ConfigError(f"There is no device {device!r}.", expected=", ".join(DEVICES), fix="Use --device auto.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("PyTorch sees no GPU here.", expected="a CUDA device", fix="Use --device cpu or auto.")


def _open_network(
    recipe: Recipe | str | Path, runtime: str, device: str, precision: str | None, threads: int | None
) -> Session:
    """Opens an exported graph, or the recipe's own networks."""
    if runtime != AUTO:
        kind = RUNTIMES.get(runtime)
        if kind.extra:
            needed(kind.extra, kind.package)
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    place = loaded.folder if isinstance(recipe, Recipe) else place_of(recipe)
    on_gpu = device == "cuda" or (device == AUTO and torch.cuda.is_available())
    if runtime == "torch" or (runtime == AUTO and on_gpu):
        return _own(loaded, device, threads)
    wanted = RUNTIMES.names() if runtime == AUTO else [runtime]
    for exporter, offered in exports(place) if place is not None else []:
        kind = RUNTIMES.get(EXPORTERS.get(exporter).runtime)
        if EXPORTERS.get(exporter).runtime not in wanted or (precision is not None and offered != precision):
            continue
        if not installed(kind.package):
            how = install_command(kind.extra)
            reporter().say(f"the exported graph is not used because {kind.package} is not installed: {how}")
            continue
        assert place is not None
        return _open_export(loaded, place, exporter, offered, threads)
    if runtime != AUTO or precision is not None:
        what = " ".join(filter(None, (None if runtime == AUTO else runtime, precision)))
        format_name = next((name for name, kind in EXPORTERS.items() if kind.runtime == runtime), "openvino")
        raise ConfigError(
            f"This recipe has no export for {what}.",
            expected="one made with `knowngood export`",
            fix=f"knowngood export RECIPE --to {format_name}" + (f" --precision {precision}" if precision else ""),
        )
    return _own(loaded, device, threads)


def _open_export(recipe: Recipe, place: Path, exporter: str, precision: str, threads: int | None) -> Session:
    _verify_again(recipe)
    folder = folder_of(place, exporter, precision)
    document = ExportDocument.load(folder, recipe.manifest.revision)
    if document.shape != recipe.input_shape or (document.exporter, document.precision) != (exporter, precision):
        raise RecipeError(
            f"The export {folder} is of another input or format than its recipe.",
            expected=f"{exporter}, {precision}, photographs of shape {recipe.input_shape}",
            fix="Export again, or use --runtime torch.",
        )
    runtime = RUNTIMES.get(EXPORTERS.get(exporter).runtime)(None, document.graph(folder), threads)
    made = Session(recipe, runtime, document.thresholds, document.revision, precision)
    return replace(made, exporter=exporter, certificate=document)


def _own(recipe: Recipe, device: str, threads: int | None) -> Session:
    inspector = recipe.inspector
    if device != AUTO and any(one.device.type != device for one in inspector.parameters()):
        inspector = copy.deepcopy(inspector).to(device)
    runtime = RUNTIMES.get("torch")(inspector, None, threads)
    return Session(recipe, runtime, recipe.thresholds, recipe.manifest.revision)


def _certified(recipe: Recipe, part: Part, folder: Path, threads: int | None) -> Session:
    """Opens one network of a cascade, which must be the very one that the cascade was certified with."""
    fix = "Certify it again with `knowngood cascade RUN`, or score with --no-cascade."
    precision = None if part.runtime == "torch" else part.precision
    try:
        found = open_session(recipe, part.runtime, precision=precision, cascade=False, threads=threads)
    except KnownGoodError as error:
        raise type(error)(error.what, expected=error.expected, fix=f"{error.fix or ''} {fix}".strip()) from error
    if found.revision != part.revision:
        raise RecipeError(
            f"The cascade {folder} was certified with {part.revision}; there is {found.revision} now.",
            expected="the very networks and graphs of its certificate",
            fix=fix,
        )
    return found


def _verify_again(recipe: Recipe) -> None:
    """Verifies the signature of a recipe that had to be signed: an export may have come after it was loaded."""
    if recipe.signed_by is not None and recipe.folder is not None:
        from knowngood.recipe.signing import verify

        verify(recipe.folder, recipe.signed_by)
