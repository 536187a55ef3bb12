"""A recipe on disk and in memory: saved whole, checked when loaded, ready to score photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save
from torch.func import functional_call

from knowngood.cam.regions import FRACTION
from knowngood.data.images import Decoded
from knowngood.data.pixels import BLANK, blank_reason, fit
from knowngood.errors import CalibrationError, KnownGoodError, ReadOnlyError, RecipeError, UnknownNameError
from knowngood.files import sha256_of, whole_folder, write_json
from knowngood.metrics.thresholds import (
    BY_HAND,
    UNKNOWN,
    Threshold,
    Thresholds,
    moved,
    threshold_by_hand,
)
from knowngood.models.classifier import Inspector, common_shape
from knowngood.recipe.evidence import EVIDENCE, Evidence
from knowngood.recipe.folder import MANIFEST, WEIGHTS, recipe_at
from knowngood.recipe.input_check import INPUT_CHECK, InputCheck
from knowngood.recipe.manifest import FORMAT, RecipeManifest, read_document, seal, unsealed
from knowngood.recipe.maps import HeatMap

if TYPE_CHECKING:
    from knowngood.data.records import Records
    from knowngood.recipe.engine import Scored
    from knowngood.recipe.evaluating import Evaluation
    from knowngood.recipe.exporting import Exported
    from knowngood.recipe.options import Tolerance
    from knowngood.recipe.signing import Keys

__all__ = ["ERROR", "MANIFEST", "WEIGHTS", "Prediction", "Recipe"]

ERROR = "error"  # decision on a photograph that could not be read or scored
_WITH_EVIDENCE = 3  # format


@dataclass(frozen=True)
class Prediction:
    """What a recipe says of one photograph.

    Attributes:
        image: Name of the photograph, as it was given.
        defect_score: In 0..1, higher is more likely bad; None when it could not be read.
        decision: "accept", "review" or "reject"; "error" when it could not be read. Never None.
        reason: Why the decision is not the score's alone, such as "not this product: ..."; None where it is.
        error: Why it could not be read, or None.
    """

    image: str
    defect_score: float | None
    decision: str
    reason: str | None = None
    error: str | None = None

    @classmethod
    def failed(cls, image: str, error: str) -> Prediction:
        """Returns the prediction of a photograph that could not be read or scored."""
        return cls(image, None, ERROR, error=error)


class Recipe:
    """A trained, calibrated, saved inspector. Nothing of it can be set; `with_thresholds` makes another.

    Args:
        manifest: Everything but the tensors.
        inspector: The networks.
        evidence: Calibration scores and hashes of the images that it has seen, which are saved with it.
        input_check: What it knows of its own photographs; None compares nothing, as recipes did before format 3.

    Attributes:
        folder: Where it was loaded from, and where its exports lie; None of one in memory.
        signed_by: Public keys of which one must have signed what is loaded; None where nobody has to.
    """

    def __init__(
        self,
        manifest: RecipeManifest,
        inspector: Inspector,
        evidence: Evidence | None = None,
        input_check: InputCheck | None = None,
    ) -> None:
        self._set(manifest=manifest, inspector=inspector.eval(), evidence=evidence, input_check=input_check)
        self._set(folder=None, signed_by=None, sessions={})

    manifest: RecipeManifest
    inspector: Inspector
    evidence: Evidence | None
    input_check: InputCheck | None
    folder: Path | None
    signed_by: Keys | None
    sessions: dict[Any, Any]  # what `predict` has opened already, by runtime

    def _set(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuses.

        Raises:
            ReadOnlyError: Always, and it says what to do instead.
        """
        cuts = name in ("threshold", "thresholds", "accept_below", "reject_from")
        raise ReadOnlyError(
            f"recipe.{name} cannot be set: a recipe does not change.",
            expected="a new recipe, certified for its new cuts" if cuts else None,
            fix="other = recipe.with_thresholds(accept_below=0.2, reject_from=0.6); other.save(folder)"
            if cuts
            else "Train another recipe, or recipe.with_thresholds(accept_below=...) for other cuts.",
        )

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    @property
    def thresholds(self) -> Thresholds:
        """The two cuts between accept, review and reject."""
        return Thresholds(self.manifest.threshold["threshold"], self.manifest.threshold["reject_from"])

    def with_thresholds(self, *, accept_below: float | None = None, reject_from: float | None = None) -> Recipe:
        """Returns a recipe that differs in its cuts, certified anew on the saved calibration scores.

        This recipe stays as it is. The new one has another revision and names this one as its parent; it has no
        exports and no cascade, since these are certified for cuts of their own: save it, then export it.

        Args:
            accept_below: Scores below it are accepted. Where there was no review band, it moves both cuts.
            reject_from: Scores from it are rejected; between the two a person reviews. A cut that is not named stays.

        Raises:
            ConfigError: None is named, one is no number in [0, 1], or they would be in the wrong order.
        """
        threshold = self.threshold_at(moved(self.thresholds, accept_below, reject_from))
        changed = {"threshold": threshold, "parent": self.manifest.revision, "format": FORMAT}
        return Recipe(self.manifest.model_copy(update=changed), self.inspector, self.evidence, self.input_check)

    def threshold_at(self, cuts: Thresholds) -> dict[str, Any]:
        """Returns `Threshold.to_dict()` of other cuts, with what the saved calibration scores prove of them."""
        was = self.manifest.threshold
        try:
            made = self.certified_at(cuts).to_dict()
        except CalibrationError as error:
            plain = {"threshold": cuts.accept_below, "reject_from": cuts.reject_from, "basis": BY_HAND}
            budgets = {name: was.get(name) for name in ("confidence", "escape_budget", "overkill_budget")}
            made = plain | budgets | {"certified": False, "sentence": f"Not certified: {error.what}"}
        return made | ({"escape_rate": UNKNOWN} if self.manifest.kind == "one-class" else {})

    def certified_at(self, cuts: Thresholds) -> Threshold:
        """Returns what the saved calibration scores prove of other cuts.

        Raises:
            CalibrationError: This recipe has no calibration scores: it was saved by an older knowngood.
        """
        if self.evidence is None or not len(self.evidence.labels):
            raise CalibrationError(
                "this recipe has no calibration scores.",
                expected="evidence.safetensors beside recipe.json, which `knowngood train` saves",
                fix="Train it again to have other cuts certified.",
            )
        was = self.manifest.threshold
        return threshold_by_hand(
            self.evidence.labels,
            self.manifest.calibration.apply(self.evidence.raw_scores),
            cuts,
            confidence=was.get("confidence", 0.95),
            escape_budget=was.get("escape_budget"),
            overkill_budget=was.get("overkill_budget"),
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width that photographs are brought to."""
        return common_shape(self.manifest.networks)

    def fitted(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns a photograph (H, W) or (H, W, 3) uint8 as the networks see it: preprocessed, (C, H, W) uint8."""
        return self._to_size(self.manifest.preprocessing.apply(image))

    def _to_size(self, shown: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        channels, height, width = self.input_shape
        return fit(shown, height, width, channels)

    def prepared(self, photograph: Decoded, *, any_product: bool = False) -> tuple[npt.NDArray[np.uint8], str | None]:
        """Returns a photograph as the networks see it, and why a person must look at it whatever its score, or None.

        Args:
            photograph: Decoded, with what is known of its file.
            any_product: Do not compare it with the photographs that were learned from. A blank one has a reason still.
        """
        shown = self.manifest.preprocessing.apply(photograph.pixels)
        pixels = self._to_size(shown)
        blank = blank_reason(shown)
        reason = None if blank is None else f"{BLANK}: {blank}"
        if reason is None and self.input_check is not None and not any_product:
            reason = self.input_check.reason(
                photograph.pixels, self.manifest.preprocessing.cropped(pixels), photograph.depth
            )
        return pixels, reason

    def predict(
        self,
        images: Any,
        names: Sequence[str] | None = None,
        *,
        runtime: str = "auto",
        cascade: bool = True,
        any_product: bool = False,
    ) -> list[Prediction]:
        """Scores photographs as the command line does, with the same runtime and thresholds.

        Args:
            images: One of these, or any iterable of them: a file, a folder (searched through), a pattern such as
                "new/*.png", an archive, a table with a column image or path, a URL; the bytes of an image file; an
                array (H, W) or (H, W, 3) uint8; a PIL image. A name that is no file gives a prediction with decision
                "error".
            names: What to call photographs in predictions and messages, one for each of `images`, none of which may be
                a folder, archive or table then; by default the path, or "image 0", "image 1" ...
            runtime: "auto" for the quickest export that the recipe has, "torch" for its own networks, or another name.
            cascade: Use the recipe's cascade where it has one and `runtime` is "auto".
            any_product: Decide by the score alone what does not look like the photographs that were learned from.

        Returns:
            One prediction a photograph, in order; what cannot be read has decision "error" and the reason in `error`.

        Raises:
            DataError: A folder, archive or table has no photograph in it, or cannot be read.
            ConfigError: `names` are not as many as `images`, or there is no export for the runtime asked for.
        """
        from knowngood.recipe.session import shared_session

        session = shared_session(self, runtime, cascade=cascade, any_product=any_product)
        return session.predict(images, names)

    def evaluate(  # noqa: PLR0913  (named, and each with a default)
        self,
        data: str | Path | Records,
        *,
        source: str | None = None,
        good: Sequence[str] = (),
        bad: Sequence[str] = (),
        unit_from: str | None = None,
        golden: str | Path | None = None,
        max_escape_rate: float | None = None,
        max_overkill_rate: float | None = None,
        runtime: str = "auto",
        any_product: bool = False,
        accept_below: float | None = None,
        reject_from: float | None = None,
        confidence: float = 0.95,
    ) -> Evaluation:
        """Measures this recipe on labelled photographs as `knowngood.evaluate` does, which also writes a report.

        Args and errors are those of `knowngood.evaluate`.
        """
        from knowngood.recipe.evaluating import evaluate_recipe

        return evaluate_recipe(
            self,
            data,
            source=source,
            good=good,
            bad=bad,
            unit_from=unit_from,
            golden=golden,
            max_escape_rate=max_escape_rate,
            max_overkill_rate=max_overkill_rate,
            runtime=runtime,
            any_product=any_product,
            accept_below=accept_below,
            reject_from=reject_from,
            confidence=confidence,
        )

    def maps(
        self,
        images: Any,
        names: Sequence[str] | None = None,
        *,
        method: str = "auto",
        fraction: float = FRACTION,
        runtime: str = "auto",
    ) -> Iterator[HeatMap]:
        """Yields the map of each photograph, one after the other, with the score and the decision of `predict`.

        Args:
            images: As in `predict`.
            names: As in `predict`.
            method: Of `knowngood.cam.methods`; "auto" is CAM where it exists, else HiResCAM. The map is always
                computed by the recipe's own networks.
            fraction: Regions are what lies above this share of a map's maximum; a recipe trained on good parts alone
                has a level of its own instead.
            runtime: As in `predict`: what computes the score.

        Raises:
            ConfigError: This recipe draws no maps, or not by this method.
            ImageError: A photograph cannot be read.
        """
        from knowngood.recipe.session import shared_session

        yield from shared_session(self, runtime).maps(images, names, method=method, fraction=fraction)

    def explain(
        self,
        images: Any,
        names: Sequence[str] | None = None,
        *,
        method: str = "auto",
        fraction: float = FRACTION,
        runtime: str = "auto",
    ) -> Iterator[Scored]:
        """Yields prediction and map of each photograph; one that cannot be read has its error and no map.

        `knowngood.explain` writes the same as a folder of pictures, tables and a page.

        Args:
            images: As in `predict`.
            names: As in `predict`.
            method: As in `maps`.
            fraction: As in `maps`.
            runtime: As in `predict`.

        Raises:
            ConfigError: This recipe draws no maps, or not by this method.
        """
        from knowngood.recipe.inputs import items_from
        from knowngood.recipe.session import shared_session

        session = shared_session(self, runtime)
        yield from session.explain(items_from(images, names), method=method, fraction=fraction)

    def export(
        self,
        *,
        to: str = "openvino",
        precision: str = "int8",
        data: str | Path | None = None,
        tolerance: Tolerance | None = None,
    ) -> Exported:
        """Exports the recipe into its own folder, where `predict` finds it; arguments are those of `knowngood.export`.

        Raises:
            RecipeError: This recipe was not loaded from a folder.
            ParityError: The graph strays too far; nothing is written.
        """
        from knowngood.recipe.exporting import export

        if self.folder is None:
            raise RecipeError("A recipe in memory cannot be exported.", fix="Save it in the folder of its run first.")
        return export(self.folder, to=to, precision=precision, data=data, tolerance=tolerance)

    def save(self, folder: Path) -> Path:
        """Writes the recipe whole, replacing one that was there.

        Raises:
            StorageError: It cannot be written; what was there before is unchanged.
        """
        with whole_folder(Path(folder)) as scratch:
            state = {n: t.contiguous().cpu() for n, t in self.inspector.state_dict().items()}
            (scratch / WEIGHTS).write_bytes(save(state))  # save_file's would be readable by nobody else
            changes: dict[str, Any] = {"weights_sha256": sha256_of(scratch / WEIGHTS)}
            changes["input_check"] = None if self.input_check is None else self.input_check.save(scratch)
            if self.evidence is not None and self.manifest.format >= _WITH_EVIDENCE:
                (scratch / EVIDENCE).write_bytes(self.evidence.encoded())
                changes["evidence_sha256"] = sha256_of(scratch / EVIDENCE)
            manifest = self.manifest.model_copy(update=changes)
            document = manifest.document()
            write_json(scratch / MANIFEST, document | {"seal": seal(document)})
        self._set(manifest=manifest)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, signed_by: Keys | None = None) -> Recipe:
        """Reads a recipe and checks that not one byte has changed since it was saved.

        Args:
            folder: Of the recipe, or of the run that made it.
            signed_by: Public keys (PEM files, or folders of them), one of which must have signed the recipe as it is,
                with its exports and its cascade.

        Raises:
            RecipeError: It is missing, damaged, impossible, from a newer knowngood, or not signed by these keys.
            MissingExtraError: Keys are given and the extra `sign` is not installed.
        """
        place = recipe_at(folder)
        manifest = _read_manifest(place)
        if signed_by is not None:
            from knowngood.recipe.signing import verify

            verify(place, signed_by)
        inspector = _read_inspector(place / WEIGHTS, manifest)
        loaded = cls(
            manifest,
            inspector.to("cuda" if torch.cuda.is_available() else "cpu"),
            _read_evidence(place / EVIDENCE, manifest),
            _read_input_check(place / INPUT_CHECK, manifest),
        )
        loaded._set(folder=place, signed_by=signed_by)
        return loaded


def _read_manifest(place: Path) -> RecipeManifest:
    path = place / MANIFEST
    try:
        document = read_document(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    version = document.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise RecipeError(
            f"The recipe at {place} has format {version}; this knowngood reads up to {FORMAT}.",
            fix="Upgrade knowngood: pip install -U knowngood.",
        )
    try:
        return RecipeManifest.from_document(unsealed(document))
    except ValidationError as error:
        raise _damaged(path, _first_of(error)) from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _read_input_check(path: Path, manifest: RecipeManifest) -> InputCheck | None:
    if manifest.input_check is None:
        return None
    try:
        return InputCheck.load(manifest.input_check, path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error


def _read_inspector(path: Path, manifest: RecipeManifest) -> Inspector:
    """Returns the networks with their tensors, on the CPU.

    Raises:
        RecipeError: The tensors are not those that were saved, or the networks cannot be built or run.
    """
    try:
        if sha256_of(path) != manifest.weights_sha256:
            raise _damaged(path, "its bytes are not those that were saved")
        state = load_file(path)
    except RecipeError:
        raise
    except Exception as error:  # besides SafetensorError whatever torch raises on a type or shape that it lacks
        raise _damaged(path, (str(error) or type(error).__name__).splitlines()[0]) from error
    for number, config in enumerate(manifest.networks):  # before so much memory is asked for
        rows = {
            len(tensor) for name, tensor in state.items() if name.startswith(f"members.{number}.head.") and tensor.ndim
        }
        if config.supports and config.supports not in rows:
            raise _damaged(path, f"it has no {config.supports:,} rows for the head of network {number}")
    try:
        inspector = Inspector(manifest.networks)
        inspector.load_state_dict(state)
        _try_out(inspector, manifest)
    except UnknownNameError as error:
        raise RecipeError(
            f"The recipe at {path.parent} has a network that is not known here: {error.what}",
            expected=error.expected,
            fix="Install the package that registers it, or upgrade knowngood.",
        ) from error
    except Exception as error:  # what torch and timm raise on fields that do not fit together has no common root
        reason = error.what if isinstance(error, KnownGoodError) else (str(error) or type(error).__name__)
        raise _damaged(path, reason.splitlines()[0]) from error
    return inspector


def _try_out(inspector: Inspector, manifest: RecipeManifest) -> None:
    """Runs one photograph's shapes through the networks, without computing anything; raises where they do not fit."""
    tensors = {**dict(inspector.named_parameters()), **dict(inspector.named_buffers())}
    shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
    images = torch.zeros((1, *common_shape(manifest.networks)), dtype=torch.uint8, device="meta")
    with torch.inference_mode():
        made = functional_call(inspector.eval(), shapes, (images,))
    if made.shape != (1,):
        raise ValueError(f"its networks give {tuple(made.shape)} and not one raw score a photograph")


def _read_evidence(path: Path, manifest: RecipeManifest) -> Evidence | None:
    """Returns the evidence; None where it was not taken along: it proves cuts, and decides nothing."""
    if manifest.evidence_sha256 is None or not path.exists():
        return None
    try:
        if sha256_of(path) != manifest.evidence_sha256:
            raise _damaged(path, "its bytes are not those that were saved")
        return Evidence.read(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error


def _first_of(error: ValidationError) -> str:
    """Returns the first complaint of pydantic in one line, the value shortened."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "its fields"
    return f"{where}: {first['msg']}"


def _damaged(path: Path, why: str) -> RecipeError:
    return RecipeError(
        f"{path} is damaged: {why}.",
        expected="the bytes that `knowngood train` saved",
        fix="Copy the recipe again from where it came, or train it again.",
    )
