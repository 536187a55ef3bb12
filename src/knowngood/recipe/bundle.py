"""A recipe on disk and in memory: saved whole, checked when loaded, ready to score photographs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from knowngood.data.images import decode, depth_of
from knowngood.data.pixels import blank_reason, fit
from knowngood.decide.threshold import ACCEPT, Thresholds, decide
from knowngood.errors import ImageError, RecipeError
from knowngood.explain.regions import FRACTION
from knowngood.files import sha256_of, whole_folder, write_json
from knowngood.models.batching import device_of, over_batches
from knowngood.models.classifier import Inspector, common_shape
from knowngood.recipe.input_check import INPUT_CHECK, InputCheck
from knowngood.recipe.manifest import FORMAT, RecipeManifest, seal
from knowngood.recipe.maps import HeatMap, at_size, drawn, level_of, marked, within

MANIFEST, WEIGHTS = "recipe.json", "weights.safetensors"
_MAPPED = 16  # photographs whose maps are made at once


@dataclass(frozen=True)
class Prediction:
    """What a recipe says of one photograph.

    Attributes:
        image: Name of the photograph, as it was given.
        defect_score: In 0..1, higher is more likely bad; None when it could not be read.
        decision: "accept", "review" or "reject"; None when it could not be read.
        error: Why it could not be read, or None.
        reason: Why the decision is "review" whatever the score, such as "not this product: ..."; None where the
            score alone decides.
    """

    image: str
    defect_score: float | None
    decision: str | None
    error: str | None = None
    reason: str | None = None


class Recipe:
    """A trained, calibrated, saved inspector.

    Args:
        manifest: Everything but the tensors.
        inspector: The networks.
        input_check: What it knows of its own photographs; None compares nothing, as recipes did before format 3.
    """

    def __init__(self, manifest: RecipeManifest, inspector: Inspector, input_check: InputCheck | None = None) -> None:
        self.manifest = manifest
        self.input_check = input_check
        self.inspector = inspector.eval()
        self.folder: Path | None = None  # where it was loaded from, and where its exports lie

    @property
    def thresholds(self) -> Thresholds:
        """The two cuts between accept, review and reject."""
        return Thresholds(self.manifest.threshold["threshold"], self.manifest.threshold["reject_from"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width that photographs are brought to."""
        return common_shape(self.manifest.networks)

    def fitted(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns a photograph (H, W) or (H, W, 3) uint8 as the networks see it: preprocessed, (C, H, W) uint8."""
        channels, height, width = self.input_shape
        return fit(self.manifest.preprocessing.apply(image), height, width, channels)

    def prepared(
        self, image: npt.NDArray[np.uint8], *, depth: int | None = None, any_product: bool = False
    ) -> tuple[npt.NDArray[np.uint8], str | None]:
        """Returns a photograph as the networks see it, and why a person must look at it whatever its score, or None.

        Args:
            image: (H, W) or (H, W, 3) uint8.
            depth: Bits a sample of its file, see `knowngood.data.images.depth_of`; None where that is not known.
            any_product: Do not compare it with the photographs that were learned from. A blank one has a reason still.
        """
        shown = self.manifest.preprocessing.apply(image)
        channels, height, width = self.input_shape
        pixels = fit(shown, height, width, channels)
        reason = blank_reason(shown)
        if reason is None and self.input_check is not None and not any_product:
            reason = self.input_check.reason(image, self.manifest.preprocessing.cropped(pixels), depth)
        return pixels, reason

    def score(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Returns defect scores (N,) of fitted photographs (N, C, H, W) uint8."""
        rows = np.arange(len(pixels))
        margins = over_batches(self.inspector, self.inspector, pixels, rows, "scores")
        return self.manifest.calibration.apply(margins)

    def predict(
        self,
        images: str | Path | bytes | npt.NDArray[np.uint8] | Iterable[Any],
        names: Sequence[str] | None = None,
        *,
        any_product: bool = False,
    ) -> list[Prediction]:
        """Scores photographs; one that cannot be read gives a prediction with its error.

        Args:
            images: One photograph or several: paths, encoded bytes, or arrays (H, W) or (H, W, 3) uint8.
            names: What to call them in predictions and messages; by default the path or "image 0", "image 1" ...
            any_product: Decide by the score alone what does not look like the photographs that were learned from.

        Returns:
            One prediction a photograph, in order.
        """
        if isinstance(images, (str, Path, bytes)) or (isinstance(images, np.ndarray) and images.ndim in (2, 3)):
            images = [images]
        images = list(images)
        if names is None:
            names = [named(image, number) for number, image in enumerate(images)]

        def prepared(image: Any, name: str) -> tuple[npt.NDArray[np.uint8], str | None] | str:
            try:
                pixels = decode(image, name=name)
                return self.prepared(pixels, depth=depth_of(image), any_product=any_product)
            except ImageError as error:
                return error.what

        with ThreadPoolExecutor(2) as pool:
            read = list(pool.map(prepared, images, names))
        whole = [one for one in read if not isinstance(one, str)]
        scores = self.score(np.stack([pixels for pixels, _ in whole])) if whole else np.empty(0)
        decisions = decide(scores, self.thresholds, [reason for _, reason in whole]).tolist()
        said = iter(zip(scores.tolist(), decisions, strict=True))
        return [
            Prediction(name, None, None, one) if isinstance(one, str) else Prediction(name, *next(said), reason=one[1])
            for name, one in zip(names, read, strict=True)
        ]

    def maps(
        self,
        images: Iterable[Any],
        names: Sequence[str] | None = None,
        *,
        method: str = "auto",
        fraction: float = FRACTION,
    ) -> Iterator[HeatMap]:
        """Yields, one after the other, where each photograph looks bad.

        Args:
            images: Paths, encoded bytes, or arrays (H, W) or (H, W, 3) uint8.
            names: As in `predict`.
            method: Of `knowngood.explain.methods`; "auto" is CAM where it exists, else HiResCAM.
            fraction: Regions are what lies above this share of a map's maximum; an inspector from good images alone
                has a level of its own instead.

        Raises:
            ConfigError: This recipe draws no maps, or not by this method.
            ImageError: A photograph cannot be read.
        """
        level, device = level_of(self.inspector), device_of(self.inspector)
        numbered = enumerate(images)
        while batch := list(islice(numbered, _MAPPED)):
            called = [names[n] if names is not None else named(image, n) for n, image in batch]
            whole = [decode(image, name=name) for (_, image), name in zip(batch, called, strict=True)]
            made = [self.prepared(one, depth=depth_of(image)) for one, (_, image) in zip(whole, batch, strict=True)]
            pixels, reasons = np.stack([one for one, _ in made]), [reason for _, reason in made]
            margins, heat = drawn(self.inspector, torch.from_numpy(pixels).to(device), method)
            scores = self.manifest.calibration.apply(margins.cpu().numpy())
            decisions = decide(scores, self.thresholds, reasons).tolist()
            for name, one, values, score, decision in zip(
                called, whole, heat.cpu().numpy(), scores.tolist(), decisions, strict=True
            ):
                full = within(at_size(values, *one.shape[:2]), self.manifest.preprocessing)
                yield HeatMap(name, score, decision, full, marked(full, level, fraction, rejected=decision != ACCEPT))

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
            manifest = self.manifest.model_copy(update=changes)
            document = manifest.document()
            write_json(scratch / MANIFEST, document | {"seal": seal(document)})
        self.manifest = manifest
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Recipe:
        """Reads a recipe and checks that not one byte has changed since it was saved.

        Raises:
            RecipeError: It is missing, damaged, or from a newer knowngood.
        """
        place = place_of(folder)
        manifest = _read_manifest(place)
        weights = place / WEIGHTS
        try:
            if sha256_of(weights) != manifest.weights_sha256:
                raise _damaged(weights, "its bytes are not those that were saved")
            inspector = Inspector(manifest.networks)
            inspector.load_state_dict(load_file(weights))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise _damaged(weights, str(error).splitlines()[0]) from error
        inspector = inspector.to("cuda" if torch.cuda.is_available() else "cpu")
        loaded = cls(manifest, inspector, _read_input_check(place / INPUT_CHECK, manifest))
        loaded.folder = place
        return loaded


def place_of(folder: str | Path) -> Path:
    """Returns the folder of a recipe, given that or the folder of the run that made it."""
    place = Path(folder)
    return place / "recipe" if (place / "recipe" / MANIFEST).is_file() else place


def named(image: Any, number: int) -> str:
    """Returns what to call a photograph that was given no name."""
    return str(image) if isinstance(image, (str, Path)) else f"image {number}"


def _read_manifest(place: Path) -> RecipeManifest:
    path = place / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError(f"it holds a {type(document).__name__}")
        stamp = document.pop("seal", None)
        version = document.get("format")
    except FileNotFoundError as error:
        raise RecipeError(
            f"There is no recipe at {place}.",
            expected=f"a folder with {MANIFEST} and {WEIGHTS}",
            fix="Give the folder that `knowngood train` wrote, such as RUN/recipe.",
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if isinstance(version, int) and version > FORMAT:
        raise RecipeError(
            f"The recipe at {place} has format {version}; this knowngood reads up to {FORMAT}.",
            fix="Upgrade knowngood: pip install -U knowngood.",
        )
    if stamp != seal(document):
        raise _damaged(path, "its contents are not those that were saved")
    try:
        return RecipeManifest.model_validate(document)
    except ValidationError as error:
        raise _damaged(path, str(error)) from error


def _read_input_check(path: Path, manifest: RecipeManifest) -> InputCheck | None:
    if manifest.input_check is None:
        return None
    try:
        return InputCheck.load(manifest.input_check, path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error


def _damaged(path: Path, why: str) -> RecipeError:
    return RecipeError(
        f"{path} is damaged: {why}.",
        expected="the bytes that `knowngood train` saved",
        fix="Copy the recipe again from where it came, or train it again.",
    )
