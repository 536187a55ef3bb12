"""From paths to rows of features: a network with its weights, and all that decides a row besides the photograph."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowngood.data.pixels import AS_IT_IS, fitted, needs_colour
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import Records
from knowngood.errors import ImageError
from knowngood.models.backbones import BACKBONES
from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier, NetworkConfig, input_size, kernel_config, network_for
from knowngood.models.weights.files import Weights
from knowngood.models.weights.finding import find

Rows = npt.NDArray[np.float32]


class FeatureMaker:
    """Makes the features of photographs.

    Args:
        config: Of the network; with a kernel head, stage features are made too, in the same pass.
        weights: Its pretrained weights.
        preprocessing: What is done to the photographs first.

    Attributes:
        lengths: Of a row of penultimate features and, with a kernel head, of one of stage features.
    """

    def __init__(self, config: NetworkConfig, weights: Weights, preprocessing: Preprocessing = AS_IT_IS) -> None:
        self.config, self.origin, self.preprocessing = config, weights.origin, preprocessing
        self.classifier = Classifier(config)
        self.classifier.load_trunk(weights)
        length = int(self.classifier.trunk.num_features)
        self.lengths = (length, self.classifier.feature_length) if self.stages else (length,)

    @property
    def stages(self) -> bool:
        """Whether stage features are made."""
        return self.config.head == "kernel"

    @property
    def made_by(self) -> list[object]:
        """For each kind of row what decides it besides the photograph: the keys of their caches."""
        linear = self.config.model_copy(update={"head": "linear", "stages": (), "supports": 0})
        keys: list[object] = [["penultimate", linear.model_dump(mode="json"), self.origin, *self.preprocessing.made_by]]
        return [*keys, stages_made_by(self.config, self.origin, self.preprocessing)] if self.stages else keys

    def rows(self, paths: Sequence[str], title: str) -> tuple[list[Rows], dict[int, str]]:
        """Returns features, and why some photographs have none.

        Args:
            paths: Of N photographs.
            title: Shown beside the progress bar.

        Returns:
            (N, D) float32 for each of `lengths`, NaN where a photograph cannot be decoded; place in `paths` to message.
        """
        shape, failed = (self.config.channels, self.config.height, self.config.width), {}
        pixels = np.zeros((len(paths), *shape), np.uint8)
        channels, height, width = shape
        for place, result in enumerate(fitted(paths, height, width, channels, self.preprocessing)):
            if isinstance(result, ImageError):
                failed[place] = str(result)
            else:
                pixels[place] = result
        function = self.classifier.penultimate_and_stages if self.stages else self.classifier.penultimate
        made = over_batches(self.classifier, function, pixels, np.arange(len(paths)), title)
        made[list(failed)] = np.nan
        return (np.split(made, self.lengths[:1], axis=1) if self.stages else [made]), failed


def maker_for(
    records: Records,
    backbone: str,
    *,
    weights: Path | None = None,
    image_size: int | None = None,
    stages: bool = False,
    preprocessing: Preprocessing = AS_IT_IS,
) -> FeatureMaker:
    """Returns what makes the features of a set: sizes and colour are those of all its photographs.

    Args:
        records: Usable rows.
        backbone: Registered network with pretrained weights.
        weights: File or folder with its weights, else the usual places.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        stages: Whether stage features are made too.
        preprocessing: What is done to the photographs first.

    Raises:
        WeightsError: The weights are not to be had.
        UnknownNameError: No such network.
    """
    known = find(backbone, weights)
    sizes = [(int(h), int(w)) for h, w in records.frame.select("height", "width").iter_rows()]
    height, width = input_size(sizes, image_size or BACKBONES.get(backbone).size)
    base = network_for(backbone, known, height, width, 3 if needs_colour(records) else 1)
    return FeatureMaker(kernel_config(base) if stages else base, known, preprocessing)


def stages_made_by(config: NetworkConfig, origin: str, preprocessing: Preprocessing = AS_IT_IS) -> object:
    """Returns what decides a row of stage features besides the photograph: the key of their cache.

    Args:
        config: With a kernel head; photographs are decoded at its size.
        origin: Of the weights.
        preprocessing: What is done to the photographs first.
    """
    shape = [config.channels, config.height, config.width]
    return [config.model_dump(mode="json"), origin, shape, *preprocessing.made_by]


def tensors_digest(weights: Weights) -> str:
    """Returns the SHA-256 of pretrained tensors, names and values: equal wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.state.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
