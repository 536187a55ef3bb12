"""What a training starts from: networks, their weights, the size that they see, and the photographs at that size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from knowngood.data.augmentation import policy_named
from knowngood.data.pixels import PixelStore, needs_colour, store_pixels
from knowngood.data.preprocessing import Preprocessing, preprocessing_for
from knowngood.data.records import Records
from knowngood.files import write_json
from knowngood.models.backbones import BACKBONES
from knowngood.models.classifier import NetworkConfig, common_shape, input_size, network_for
from knowngood.models.weights.files import Weights
from knowngood.models.weights.search import PREFERRED, available, find, preferred
from knowngood.progress import reporter
from knowngood.training.config import TrainConfig
from knowngood.training.image_size import SizeChoice, choose_size
from knowngood.training.targets import Rows


def choose_model(config: TrainConfig) -> str:
    """Returns the network to train: the one asked for, else the first preferred one whose weights are here."""
    if config.model is not None:
        return config.model
    return preferred() if config.pretrained else "resnet18"


def check_names(config: TrainConfig) -> None:
    """Checks whether the network and the transforms that a configuration names are registered.

    Raises:
        UnknownNameError: One is not.
    """
    if config.model is not None:
        BACKBONES.get(config.model)
    policy_named(config.augment)


def frozen_models(config: TrainConfig, main: str) -> list[str]:
    """Returns the networks that stay frozen: the main one, and for the preset best a second opinion."""
    if config.preset == "standard" or not config.pretrained:
        return []
    others = [name for name in PREFERRED if name != main and config.weights is None and available(name)]
    return [main, *others[:1]] if config.preset == "best" else [main]


@dataclass(frozen=True)
class Start:
    """What a training starts from: networks, their weights, and the photographs at the networks' size.

    Attributes:
        main: Name of the network that is trained.
        weights: Network to its starting weights; None for random ones.
        bases: Network to its configuration with a linear head.
        shape: Channels, height and width of the photographs.
        store: Of all rows of the records.
        preprocessing: What was done to the photographs.
    """

    main: str
    weights: Mapping[str, Weights | None]
    bases: Mapping[str, NetworkConfig]
    shape: tuple[int, int, int]
    store: PixelStore
    preprocessing: Preprocessing

    @property
    def provenance(self) -> dict[str, str]:
        """Origin and licence of the starting weights."""
        used = [weights for weights in self.weights.values() if weights is not None]
        source = {"weights": "; ".join(weights.origin for weights in used) or "random"}
        return source | ({"licence": "; ".join(weights.licence for weights in used)} if used else {})


_PASSED = {"frozen": 1.5e9, "fine-tuned": 1.7e9}  # pixels, in some 20 and 45 minutes on two cores
_ON_GPU = 30  # times as many


def chosen_size(
    records: Records, groups: Rows, config: TrainConfig, folder: Path, preprocessing: Preprocessing | None = None
) -> SizeChoice | None:
    """Returns the size for `--image-size auto`, kept in the folder of the run; None without pretrained weights.

    Args:
        records: Usable rows with a split.
        groups: (N,) what belongs together in cross-validation, from `groups_of`.
        config: Of the training.
        folder: Of the run.
        preprocessing: Of `preprocessing_of`, where the caller has it already.

    Raises:
        WeightsError: Pretrained weights are asked for and not to be had.
    """
    check_names(config)
    if not config.pretrained:
        return None
    kept = folder / "image_size.json"
    if kept.is_file():
        return SizeChoice(**json.loads(kept.read_text(encoding="utf-8")))
    name = choose_model(config)
    weights = find(name, config.weights)
    sizes = photograph_sizes(records)
    channels = 3 if needs_colour(records) else 1
    tuned = config.fine_tuning_epochs > 0
    train = int((records.frame["split"] == "train").sum())
    chosen = choose_size(
        records,
        groups,
        BACKBONES.get(name).size,
        lambda side: network_for(name, weights, *input_size(sizes, side), channels),
        weights,
        preprocessing or preprocessing_of(records, config),
        folder,
        photographs=train * config.fine_tuning_epochs if tuned else len(records),
        most_pixels=_PASSED["fine-tuned" if tuned else "frozen"] * (_ON_GPU if torch.cuda.is_available() else 1),
        seed=config.seed,
    )
    write_json(kept, asdict(chosen))
    reporter().say(f"image size {chosen.side}: {chosen.sentence}")
    return chosen


def start_training(
    records: Records,
    config: TrainConfig,
    pixels: Path,
    preprocessing: Preprocessing | None = None,
    *,
    side: int | None = None,
) -> Start:
    """Finds networks and weights, decodes the photographs, and reports what the user should know of them.

    Args:
        records: Usable rows.
        config: Of the training.
        pixels: Folder for decoded photographs; those that are there are used.
        preprocessing: Of `preprocessing_of`, where the caller has it already.
        side: Of `chosen_size`; networks whose own is larger keep theirs.

    Raises:
        ConfigError: The region of interest does not fit the photographs.
        UnknownNameError: No such network.
        WeightsError: Pretrained weights are asked for and not to be had.
    """
    check_names(config)
    main = choose_model(config)
    preprocessing = preprocessing or preprocessing_of(records, config)
    weights: dict[str, Weights | None] = {main: None}
    if config.pretrained:
        weights = {name: find(name, config.weights) for name in dict.fromkeys([main, *frozen_models(config, main)])}
    bases = base_networks(records, config, weights, side)
    shape = common_shape(list(bases.values()))
    channels, height, width = shape
    store = store_pixels(records, pixels, height, width, channels, preprocessing)
    for warning in store.warnings(records):
        reporter().say(warning)
    return Start(main, weights, bases, shape, store, preprocessing)


def preprocessing_of(records: Records, config: TrainConfig) -> Preprocessing:
    """Returns what is done to these photographs before a network sees them.

    Raises:
        ConfigError: The region of interest does not fit them.
    """
    frame = records.frame.filter(records.frame["error"].is_null())
    sizes = [(int(h), int(w)) for h, w in frame.select("height", "width").iter_rows()]
    return preprocessing_for(config.roi, config.mask_leads, sizes)


def photograph_sizes(records: Records) -> list[tuple[int, int]]:
    """Returns height and width of each photograph."""
    return [(int(h), int(w)) for h, w in records.frame.select("height", "width").iter_rows()]


def base_networks(
    records: Records, config: TrainConfig, starts: Mapping[str, Weights | None], chosen: int | None = None
) -> dict[str, NetworkConfig]:
    """Returns what each network sees: the photographs' own proportions, at its own size or the one asked for."""
    sizes = photograph_sizes(records)
    channels = 3 if needs_colour(records) else 1
    bases = {}
    for name, weights in starts.items():
        height, width = input_size(sizes, config.side or max(chosen or 0, BACKBONES.get(name).size))
        bases[name] = network_for(name, weights, height, width, channels)
    return bases
