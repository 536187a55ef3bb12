"""Good-only training: an inspector that scores the distance to features of good photographs (PatchCore or kNN)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from knowngood.data.pixels import PixelStore
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import GOOD, Records
from knowngood.errors import DataError, WeightsError
from knowngood.files import whole_file
from knowngood.metrics.calibration import Calibration
from knowngood.metrics.thresholds import UNKNOWN, Threshold, proportion_interval, threshold_at_overkill
from knowngood.models.backbones import BACKBONES
from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier, Inspector, NetworkConfig
from knowngood.models.features import features
from knowngood.models.heads import NearestHead, PatchHead, smooth_maps
from knowngood.models.weights.files import Weights
from knowngood.outliers.patchcore import PatchCore, k_centres
from knowngood.progress import track
from knowngood.training.config import TrainConfig
from knowngood.training.fit import Clock, Fitted
from knowngood.training.start import start_training
from knowngood.wording import counted, percent, percent_range

SHARE = 0.1  # of the candidate patches goes into the coreset, up to --coreset-size
POOL = 50_000  # candidate patches: as many from every photograph, drawn at random; 0.3 GB with ResNet-50
_BLOCK = 16  # photographs whose patches are in memory together

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def fit_one_class(
    records: Records, config: TrainConfig, folder: Path, preprocessing: Preprocessing | None = None
) -> Fitted:
    """Fits the good training photographs and scores all others by their distance to them.

    Args:
        records: Usable rows with a split in every row; only good rows of train are fitted.
        config: With `one_class`.
        folder: For decoded photographs and for the coreset; a killed run resumes from there.
        preprocessing: Of `preprocessing_of`, where the caller has it already.

    Returns:
        As `fit_inspector`. Training rows have no score: they are the reference.

    Raises:
        WeightsError: There are no pretrained weights.
        DataError: Fewer than two good photographs can be fitted.
    """
    if not config.pretrained:
        raise WeightsError("--one-class needs a pretrained network, and --no-pretrained was given.")
    clock = Clock()
    at_start = start_training(records, config, folder / "pixels", preprocessing)
    clock.lap("decode")
    store, base, weights = at_start.store, at_start.bases[at_start.main], at_start.weights[at_start.main]
    assert weights is not None  # pretrained ones were asked for
    job = _Job(records, store, config, folder, at_start.preprocessing)
    notes: dict[str, object] = {"network": at_start.main, "input": list(at_start.shape), "detector": config.detector}
    fit = job.nearest if config.detector == "knn" else job.patches
    classifier, raw_scores = fit(base, weights, notes, clock)
    inspector = Inspector((classifier.config,))
    inspector.members = torch.nn.ModuleList([classifier])
    unseen = np.full(len(records), np.nan)
    source, done = at_start.provenance, at_start.preprocessing
    return Fitted(inspector, raw_scores, unseen, store.failed, [], notes, source, clock.laps, done)


ORDINARY = 0.1  # score of the median held-out good unit of a good-only recipe; its threshold has the score 0.5


def calibrated(
    labels: npt.NDArray[np.uint8], raw_scores: npt.NDArray[np.float64], config: TrainConfig
) -> tuple[Calibration, Threshold]:
    """Returns calibration and threshold from held-out good images alone.

    score = sigmoid((raw score - q) / t): q is the threshold of the raw score for the overkill budget, and t gives the
    median good unit the score `ORDINARY`. The guarantee depends on ranks only, which no increasing map changes.

    Args:
        labels: (N,) of the calibration split; bad rows are ignored.
        raw_scores: (N,) distances, higher is more abnormal.
        config: Budgets and confidence.
    """
    good = raw_scores[labels == GOOD]

    def chosen(values: npt.NDArray[np.float64], budget: float) -> Threshold:
        return threshold_at_overkill(values, overkill=budget, confidence=config.confidence)

    middle, cut = float(np.median(good)), chosen(good, config.overkill_budget).threshold
    spread = max(cut - middle, 1e-3 * abs(cut), 1e-6)  # copies of one image have no spread
    temperature = spread / float(np.log(1 / ORDINARY - 1))
    calibration = Calibration(temperature=temperature, bias=-cut / temperature, note=_note(len(good)))
    scores = calibration.apply(good)
    threshold = chosen(scores, config.overkill_budget)
    if config.review_overkill is None:
        return calibration, threshold
    upper = chosen(scores, config.review_overkill)
    sentence = (
        f"{threshold.sentence} Between the two thresholds a person looks; of the goods at most "
        f"{percent(upper.certified_overkill_rate)} are rejected unseen."
    )
    reject = max(threshold.threshold, upper.threshold)
    return calibration, replace(threshold, reject_from=reject, sentence=sentence)


def escapes(test: dict[str, Any] | None) -> str:
    """Returns a sentence on the escape rate of a good-only recipe: measured on the test split, or unknown."""
    if test is None or not test["n_bad"]:
        return UNKNOWN
    missed, bads = test["confusion"]["fn"], test["n_bad"]
    interval = percent_range(proportion_interval(missed, bads))
    return (
        f"escape rate: {missed} of {counted(bads, 'bad test image')} escaped, {percent(missed / bads)} "
        f"(exact 95 % interval {interval}); measured on these defects only, and not certified"
    )


def _note(goods: int) -> str:
    return (
        f"From {counted(goods, 'held-out good image')}: a score of {ORDINARY:g} is an ordinary good unit, 0.5 "
        "is the threshold for the overkill budget. Scores order units; they are no probabilities."
    )


class _Job:
    """The photographs of one run: which are fitted, which are scored."""

    def __init__(
        self,
        records: Records,
        store: PixelStore,
        config: TrainConfig,
        folder: Path,
        preprocessing: Preprocessing,
    ) -> None:
        self.store, self.config, self.folder, self.records = store, config, folder, records
        self.preprocessing = preprocessing
        frame = records.frame
        sound = ~np.isin(np.arange(len(records)), list(store.failed))
        good = (frame["label"] == GOOD).fill_null(False).to_numpy()
        split = frame["split"].to_numpy()
        self.learn: Rows = np.flatnonzero(sound & good & (split == "train"))
        self.others: Rows = np.flatnonzero(sound & (split != "train"))
        self.holdout: Rows = np.flatnonzero(sound & good & (split == "calibration"))
        if len(self.learn) < 2 or not len(self.holdout):
            raise DataError(
                f"{len(self.learn)} good images to fit and {len(self.holdout)} to set the threshold by.",
                expected="at least 2 and 1; dozens make a useful inspector",
                fix="Add good images, or divide anew with --resplit.",
            )

    def patches(
        self, base: NetworkConfig, weights: Weights, notes: dict[str, object], clock: Clock
    ) -> tuple[Classifier, Floats]:
        """Fits PatchCore; sets the level of its regions on the maps of held-out good photographs."""
        stages = BACKBONES.get(base.backbone).stages[1:3]  # middle ones: local, yet more than edges
        config = base.model_copy(update={"head": "patch_memory", "stages": stages, "supports": 1})
        classifier = Classifier(config)
        classifier.load_trunk(weights)
        memory = self._kept() if (self.folder / "memory.safetensors").is_file() else None
        if memory is None:
            memory = self._chosen(classifier)
            with whole_file(self.folder / "memory.safetensors") as scratch:
                save_file({"memory": memory}, scratch)
        clock.lap("memory")
        head = PatchHead(memory.shape[1], len(memory))
        head.remember(torch.from_numpy(memory))
        classifier.head, classifier.config = head, config.model_copy(update={"supports": len(memory)})

        def score_and_peak(images: Tensor) -> Tensor:
            distances = head.distances(classifier.patch_maps(images))
            return torch.stack(
                [head.raw_scores(distances), smooth_maps(distances, base.height, base.width).amax((1, 2))], dim=1
            )

        scored = np.full((len(self.records), 2), np.nan, np.float32)
        scored[self.others] = over_batches(classifier, score_and_peak, self.store.pixels, self.others, "scores")
        level = threshold_at_overkill(
            scored[self.holdout, 1], overkill=self.config.overkill_budget, confidence=self.config.confidence
        ).threshold
        head.level.fill_(level)
        notes |= {"patches remembered": len(memory), "patch length": memory.shape[1], "stages": list(stages)}
        notes["region level"] = level
        clock.lap("scores")
        return classifier, scored[:, 0]

    def nearest(
        self, base: NetworkConfig, weights: Weights, notes: dict[str, object], clock: Clock
    ) -> tuple[Classifier, Floats]:
        """Fits the nearest neighbours of whole photographs on their penultimate features, which are cached."""
        deep = features(
            self.records,
            base.backbone,
            weights=self.config.weights,
            image_size=self.config.side,
            preprocessing=self.preprocessing,
        ).rows
        rows = deep[self.learn]
        if len(rows) > self.config.coreset_size:
            rows = rows[k_centres(rows, self.config.coreset_size, np.random.default_rng(self.config.seed))]
        clock.lap("features")
        classifier = Classifier(base.model_copy(update={"head": "knn", "supports": len(rows)}))
        classifier.load_trunk(weights)
        head = NearestHead(rows.shape[1], len(rows))
        head.remember(torch.from_numpy(rows))
        classifier.head = head
        raw_scores = np.full(len(self.records), np.nan, np.float32)
        with torch.inference_mode():
            raw_scores[self.others] = head(torch.from_numpy(deep[self.others])).numpy()
        notes["images remembered"] = len(rows)
        clock.lap("scores")
        return classifier, raw_scores

    def _kept(self) -> Floats | None:
        """Returns the memory that a killed run had chosen, if it is whole."""
        with contextlib.suppress(SafetensorError, KeyError):
            return load_file(self.folder / "memory.safetensors")["memory"]
        return None

    def _chosen(self, classifier: Classifier) -> Floats:
        random = np.random.default_rng([self.config.seed, 1])
        most = self.config.coreset_size
        detector = PatchCore(seed=self.config.seed, share=SHARE, most=most, pool=max(POOL, most))
        return detector.remember(lambda: self._blocks(classifier, max(POOL, most), random))

    def _blocks(self, classifier: Classifier, pool: int, random: np.random.Generator) -> Iterator[Floats]:
        """Yields patches (B, P, D) of the photographs to learn from: as many of each as fit into the pool."""
        each = -(-pool // len(self.learn))
        classifier.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for start in track(range(0, len(self.learn), _BLOCK), "patches"):
            rows = self.learn[start : start + _BLOCK]
            images = np.ascontiguousarray(self.store.pixels[rows])
            with torch.inference_mode():
                maps = classifier.patch_maps(torch.from_numpy(images))
            patches = maps.flatten(2).transpose(1, 2).numpy()
            count = patches.shape[1]
            if each < count:
                chosen = np.argsort(random.random((len(rows), count)), axis=1)[:, :each]
                patches = np.take_along_axis(patches, chosen[..., None], axis=1)
            yield np.ascontiguousarray(patches)
