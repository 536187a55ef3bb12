"""`knowngood explain`: where a recipe looked, as pictures, boxes and raw maps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from knowngood.cam.maps import LAST, layer_names, method_for, placed_maps
from knowngood.data.images import decode
from knowngood.data.loading import refuse_in_data
from knowngood.data.records import PassedOver
from knowngood.data.sources.walking import text_of
from knowngood.errors import ConfigError
from knowngood.files import check_writable, whole_folder, write_json
from knowngood.models.batching import device_of
from knowngood.models.classifier import Classifier
from knowngood.parameters import configured
from knowngood.progress import reporter
from knowngood.recipe.bundle import ERROR, Recipe
from knowngood.recipe.inputs import item_at
from knowngood.recipe.maps import at_size, checked_method, good_only_head, level_of
from knowngood.recipe.predicting import folders_among, pictures
from knowngood.recipe.session import Session, shared_session
from knowngood.report.pictures import scale_of
from knowngood.tables import write_table
from knowngood.workflows.configs import ExplainConfig
from knowngood.workflows.explain_output import Drawing, Looked, box_table, coco, keys_for, without_masks, write_gallery

DOCUMENT, BOXES, COCO, PAGE = "explained.json", "boxes.csv", "boxes.coco.json", "index.html"
_BATCH = 16
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Explained:
    """Where a recipe looked.

    Attributes:
        folder: With index.html, boxes.csv, boxes.coco.json, explained.json, overlays/ and strips/.
        boxes: Columns image, defect_score, decision, reason, rank, x0, y0, x1, y1, area, mean, peak, error; a row a
            box, and one row for a photograph without any. Pixels of the photograph, half-open.
        document: What explained.json holds.
    """

    folder: Path
    boxes: pl.DataFrame
    document: dict[str, Any]


def explain(
    recipe: Recipe | str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    config: ExplainConfig | None = None,
    *,
    method: str = "auto",
    layers: str = "last",
    cam_threshold: float = 0.4,
    scale: Literal["shared", "image"] = "shared",
    raw: bool = False,
) -> Explained:
    """Shows where a recipe looked in photographs; one that cannot be read costs its own row.

    Args:
        recipe: A loaded recipe or its folder.
        images: Files and folders (searched through).
        out: Folder to write; one that an earlier call wrote is replaced whole.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.

    Raises:
        ConfigError: The recipe draws no such maps, or `out` holds something else.
        UnknownNameError: No such method or layer; those that there are are named.
        DataError: No photograph is found.
    """
    config = configured(ExplainConfig, config, locals())
    folder = Path(out)
    check_writable(folder, folder=True)  # before anything is computed
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    stages = Stages.of(loaded, config)
    _free(folder)
    refuse_in_data(folder, folders_among(images))
    passed_over = PassedOver()
    paths = pictures([images] if isinstance(images, (str, Path)) else images, passed_over)
    with whole_folder(folder) as scratch:
        document, boxes = _explain(loaded, paths, config, stages, scratch, passed_over)
    return Explained(folder, boxes, document)


@dataclass(frozen=True)
class Stages:
    """Which stages of which network are shown beside the recipe's own map.

    Attributes:
        network: Of the recipe.
        method: Name of the way of making maps.
        names: Of its layers.
    """

    network: Classifier
    method: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe, config: ExplainConfig) -> Stages | None:
        """Looks whether all that is asked for can be made, before anything is read.

        Raises:
            ConfigError: It cannot.
            UnknownNameError: No such method or layer.
        """
        inspector = recipe.inspector
        checked_method(inspector, config.method)
        if config.layers.strip() == LAST:
            return None
        if good_only_head(inspector) is not None:
            raise ConfigError(
                "A recipe from good images alone has one map, of distances, and none of a stage.",
                fix="Leave --layers out.",
            )
        network = inspector.members[0]
        assert isinstance(network, Classifier)
        names = layer_names(network, config.layers)
        method = "gradcam" if config.method == "auto" else config.method
        if method_for(network, method).needs == "weights":
            raise ConfigError(
                "CAM speaks of the last stage only.",
                expected="--layers last",
                fix="Use --method gradcam for other layers.",
            )
        return cls(network, method, names)

    def maps(self, pixels: Pixels) -> dict[str, npt.NDArray[np.float32]]:
        """Returns layer to raw maps (B, H, W) of fitted photographs (B, C, H, W) uint8."""
        batch = torch.from_numpy(pixels).to(device_of(self.network))
        made = placed_maps(self.network, batch, method_for(self.network, self.method), self.names)
        return {name: heat.cpu().numpy() for name, heat in made.maps.items()}


def _explain(
    recipe: Recipe,
    paths: Sequence[Path],
    config: ExplainConfig,
    stages: Stages | None,
    folder: Path,
    passed_over: PassedOver,
) -> tuple[dict[str, Any], pl.DataFrame]:
    names = [text_of(path) for path in paths]
    keys = keys_for(names)
    raw = folder / "raw"
    raw.mkdir()
    looked = list(_looked(shared_session(recipe), list(zip(paths, names, keys, strict=True)), config, stages, raw))
    level = level_of(recipe.inspector)
    shown = [one for one in looked if one.error is None]
    drawing = Drawing(
        folder,
        raw,
        level,
        config,
        scale_of([_peaks(raw / f"{one.key}.npy") for one in shown], level),
        {}
        if stages is None
        else {n: scale_of([_peaks(_of_layer(raw, o.key, n)) for o in shown]) for n in stages.names},
        "" if stages is None else f"{stages.network.config.backbone}, {stages.method}",
    )
    task = reporter().start("draw", len(shown))
    path_of = dict(zip(keys, paths, strict=True))
    for one in shown:
        drawing.draw(one, decode(path_of[one.key]))
        reporter().advance(task, 1)
    reporter().finish(task)
    boxes = box_table(looked)
    write_table(boxes, folder / BOXES)
    write_json(folder / COCO, coco(looked, f"knowngood explain with recipe {recipe.manifest.name}"))
    write_gallery(drawing, looked, path_of, recipe, folder / PAGE)
    if not config.raw:
        shutil.rmtree(raw)
    document = _document(recipe, looked, config, stages, drawing) | passed_over.to_dict()
    write_json(folder / DOCUMENT, document)  # its presence says what the folder is
    return document, boxes


def _looked(
    session: Session,
    wanted: Sequence[tuple[Path, str, str]],
    config: ExplainConfig,
    stages: Stages | None,
    raw: Path,
) -> Iterator[Looked]:
    """Yields what is found in each photograph, in order; its maps are put into `raw`, since all may be too many."""
    task = reporter().start("maps", len(wanted))
    key_of = {name: key for _, name, key in wanted}
    items = (item_at(name, path) for path, name, _ in wanted)
    made = session.explain(items, method=config.method, fraction=config.cam_threshold)
    while batch := list(islice(made, _BATCH)):
        drawn = [one for one in batch if one.heat is not None and one.fitted is not None]
        layers: dict[str, npt.NDArray[np.float32]] = {}
        if stages is not None and drawn:
            layers = stages.maps(np.stack([one.fitted for one in drawn if one.fitted is not None]))
        place = 0
        for one in batch:
            said, key = one.prediction, key_of[one.prediction.image]
            if one.heat is None:
                yield Looked(said.image, key, decision=ERROR, error=said.error)
                continue
            np.save(raw / f"{key}.npy", one.heat.values)
            for layer, maps in layers.items():
                np.save(_of_layer(raw, key, layer), at_size(maps[place], *one.size))
            place += 1
            regions = without_masks(one.heat.regions)
            looked = Looked(said.image, key, one.size, said.defect_score, said.decision, *regions)
            yield replace(looked, reason=said.reason)
        reporter().advance(task, len(batch))
    reporter().finish(task)


def _of_layer(raw: Path, key: str, layer: str) -> Path:
    return raw / f"{key}.{layer}.npy"


def _peaks(path: Path) -> npt.NDArray[np.float32]:
    """Returns the few values of a map that a scale is made of: all of its distribution, none of its places."""
    values = np.load(path, allow_pickle=False)
    return np.asarray(np.quantile(values, np.linspace(0, 1, 101)), np.float32)


def _document(
    recipe: Recipe, looked: Sequence[Looked], config: ExplainConfig, stages: Stages | None, drawing: Drawing
) -> dict[str, Any]:
    return {
        "recipe": recipe.manifest.name,
        "revision": recipe.manifest.revision,
        "config": config.model_dump(mode="json"),
        "scale": {"low": drawing.scale.low, "high": drawing.scale.high, "level": drawing.level},
        "stages": None
        if stages is None
        else {"network": stages.network.config.backbone, "method": stages.method, "layers": list(stages.names)},
        "images": [
            {
                "image": one.image,
                "files": None if one.error else one.key,
                "defect_score": one.defect_score,
                "decision": one.decision,
                "reason": one.reason,
                "boxes": [region.to_dict() for region in one.regions],
                "error": one.error,
            }
            for one in looked
        ],
    }


def _free(folder: Path) -> None:
    """Looks whether `folder` may be replaced.

    Raises:
        ConfigError: It holds something that `explain` did not write.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DOCUMENT).is_file():
        raise ConfigError(
            f"{folder} is not empty and holds no maps of knowngood.",
            expected="an empty folder, none, or one that `knowngood explain` wrote",
            fix="Choose another --out.",
        )
