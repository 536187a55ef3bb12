"""Features on a Ray cluster: the list in parts, the worker, what it writes, and the cache's way to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from knowngood.data.loading import loaded
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import Records
from knowngood.errors import DataError, WeightsError
from knowngood.files import cache_key, check_writable
from knowngood.models.classifier import NetworkConfig
from knowngood.models.features import FeatureMaker, Rows, maker_for, tensors_digest
from knowngood.models.weights.search import find
from knowngood.scale.cluster import at_cluster
from knowngood.scale.config import ClusterConfig
from knowngood.scale.parts import earlier, emptied, list_of, prepared
from knowngood.scale.spreading import Spread, spread
from knowngood.scale.workers import PartWorker, Task, unseen
from knowngood.tables import write_table

FIRST = "first"  # column: whether no photograph before it has the same bytes


def listed(records: Records, part_size: int) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yields the list of each part, and how many different photographs it has that no part before it has.

    Parts are cut by these, not by rows, so that the batches are those of one long run, copies or not.

    Args:
        records: (N rows) in the order of the result.
        part_size: Different photographs a part.
    """
    digest = pl.col("sha256")
    first = digest.is_first_distinct() | digest.is_null()
    frame = records.frame.select("image", "path", "sha256", first.alias(FIRST))
    part = (frame[FIRST].cum_sum().cast(pl.Int64) - 1) // part_size
    for number in range(int(part[-1]) + 1 if len(part) else 0):
        some = frame.filter(part == number)
        yield some, int(some[FIRST].sum())


KINDS = ("features", "stages")  # columns


@dataclass(frozen=True, kw_only=True)
class FeatureTask(Task):
    """What every worker needs to know.

    Attributes:
        network: What to build.
        weights: File or folder with its weights; None for the usual places.
        tensors: SHA-256 of the weights' tensors.
        preprocessing: What is done to the photographs first.
    """

    network: NetworkConfig
    weights: str | None
    tensors: str
    preprocessing: Preprocessing


class PartFeatures(PartWorker[FeatureTask]):
    """Computes the features of parts."""

    _maker: FeatureMaker | None = None

    def rows_of(self, number: int) -> pl.DataFrame:
        """Returns image, sha256, features, stages where the network has them, and error: a row a photograph.

        A copy has its original's row; where the original is in an earlier part that is null, to be filled in later.
        """
        listed = list_of(Path(self.task.out), number)
        first = listed.filter(FIRST)
        made, failed = self._open_maker().rows(first["path"].to_list(), f"part {number}")
        if len(failed) == len(first):
            self.refuse_unreadable(number, failed[0])
        computed = first.select("sha256").with_columns(
            *(as_column(kind, rows) for kind, rows in zip(KINDS, made, strict=False)),
            pl.Series("error", [failed.get(place) for place in range(len(first))], dtype=pl.String),
        )
        if len(first) == len(listed):
            return computed.insert_column(0, first["image"])
        return listed.select("image", "sha256").join(computed, on="sha256", how="left", maintain_order="left")

    def _open_maker(self) -> FeatureMaker:
        if self._maker is None:
            import torch

            torch.set_num_threads(self.task.cores)
            task = self.task
            if task.weights is not None and not Path(task.weights).exists():
                raise unseen(f"weights {task.weights}", "--weights")
            found = find(task.network.backbone, None if task.weights is None else Path(task.weights))
            if tensors_digest(found) != task.tensors:
                raise WeightsError(
                    f"The weights of {task.network.backbone} on {socket.gethostname()}, from {found.origin}, are not "
                    "those of the machine that asks.",
                    expected="the same tensors on all machines",
                    fix="Put one file on shared storage and give it as --weights.",
                )
            self._maker = FeatureMaker(task.network, found, task.preprocessing)
        return self._maker


def as_column(name: str, rows: Rows) -> pl.Series:
    """Returns (N, D) float32 as a column."""
    return pl.Series(name, np.ascontiguousarray(rows), dtype=pl.Array(pl.Float32, rows.shape[1]))


_ASKED = ClusterConfig(engine="ray")


@dataclass(frozen=True)
class FeatureRun(Spread):
    """What features on a cluster left: image, sha256, features, error; rows and order of `write_features`.

    Attributes:
        images: Rows.
        length: Of a row of features.
        unreadable: Rows with an error.
        origin: Of the weights.
        size: Height and width in pixels that the network saw.
    """

    images: int
    length: int
    unreadable: int
    origin: str
    size: tuple[int, int]


def features_on_cluster(
    data: str | Path | Records,
    out: str | Path,
    config: ClusterConfig = _ASKED,
    *,
    model: str = "resnet50",
    weights: Path | None = None,
    image_size: int | None = None,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    fresh: bool = False,
) -> FeatureRun:
    """Computes features on a Ray cluster, a Parquet file a part; the same call goes on after a kill.

    Args:
        data: As in `knowngood.check`; all machines of the cluster see its photographs under the same paths.
        out: Folder for the parts, seen by all machines.
        config: Address, size of a part, cores a worker.
        model: Registered network with pretrained weights.
        weights: File or folder with its weights, else each machine's usual places.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        fresh: Compute everything again.

    Raises:
        ConfigError: No cluster answers, workers have other versions, the folder belongs to something else.
        DataError: There is no photograph, the workers do not see them, or a part kills its workers.
        MissingExtraError: Ray is not installed.
        StorageError: The rows cannot be written.
        WeightsError: The weights are not to be had, or not the same on all machines.
    """
    config = config.model_copy(update={"engine": "ray"})
    check_writable(Path(out), folder=True)
    with at_cluster(config):
        records = loaded(data, source, good=good, bad=bad, out=out).usable()
        if not len(records):
            raise DataError("There is no readable image.", expected="photographs", fix="knowngood check")
        maker = maker_for(records, model, weights=weights, image_size=image_size)
        done = spread_features(records, maker, Path(out).absolute(), config, weights=weights, fresh=fresh)
    unreadable = int(done.rows().select(pl.col("error").is_not_null().sum()).collect().item())
    size = (maker.config.height, maker.config.width)
    return FeatureRun(**vars(done), images=len(records), length=maker.lengths[0], unreadable=unreadable,
                      origin=maker.origin, size=size)  # fmt: skip


def spread_features(
    records: Records,
    maker: FeatureMaker,
    folder: Path,
    config: ClusterConfig,
    *,
    weights: Path | None = None,
    fresh: bool = False,
    replace: bool = False,
) -> Spread:
    """Has workers make the features of records (N rows, all readable) that the folder lacks.

    Args:
        records: In the order of the result.
        maker: What makes them here.
        folder: Absolute, seen by all machines.
        config: Address, size of a part, cores a worker.
        weights: File or folder that `maker` has its weights from; None for the usual places.
        fresh: Make everything again.
        replace: Throw away what the folder has where it is of other photographs or another network.
    """
    weights = None if weights is None else weights.absolute()
    tensors = tensors_digest(find(maker.config.backbone, weights))
    work = (described(maker, tensors), config.part)
    job = prepared(folder, *work, lambda: listed(records, config.part), fresh=fresh, replace=replace)
    task = FeatureTask(
        out=str(folder),
        cores=config.cores,
        network=maker.config,
        weights=None if weights is None else str(weights),
        tensors=tensors,
        preprocessing=maker.preprocessing,
    )
    done = spread(PartFeatures, task, job, config.address, "features")
    copied(done.files)
    return done


def described(maker: FeatureMaker, tensors: str) -> str:
    """Returns in words what makes features, with a revision of it.

    Args:
        maker: What makes them.
        tensors: SHA-256 of the weights' tensors.
    """
    network = f"{maker.config.backbone} at {maker.config.height} x {maker.config.width}"
    return f"features of {network} ({cache_key(maker.cache_keys, tensors)[:12]})"


def copied(files: list[Path]) -> int:
    """Gives copies whose original is in another part its row; called twice it does nothing more.

    Args:
        files: Of rows, in the order of the list.

    Returns:
        How many files were changed.
    """
    lacking = [file for file in files if pl.scan_parquet(file).select(_holes().any()).collect().item()]
    if not lacking:
        return 0
    rows = pl.scan_parquet(files)
    wanted = rows.filter(_holes()).select("sha256").unique()
    found = rows.filter(~_holes()).join(wanted, on="sha256", how="semi").unique("sha256").drop("image")
    originals = found.collect(engine="streaming")
    for file in lacking:
        frame = pl.read_parquet(file)
        both = frame.join(originals, on="sha256", how="left", maintain_order="left", suffix=" of the original")
        filled = [pl.coalesce(name, f"{name} of the original") for name in originals.columns if name != "sha256"]
        write_table(both.with_columns(filled).select(frame.columns), file)
    return len(lacking)


def _holes() -> pl.Expr:
    return pl.col(KINDS[0]).is_null()


class OnCluster:
    """Makes the features that a cache lacks on a cluster, see `knowngood.models.features.Elsewhere`.

    Args:
        folder: Of the parts, seen by all machines; of other photographs or another network, they are replaced.
        config: Address, size of a part, cores a worker.
        weights: File or folder with the network's weights; None for the usual places.
    """

    def __init__(self, folder: Path, config: ClusterConfig, weights: Path | None = None) -> None:
        self.folder, self._config, self._weights = folder.absolute(), config, weights

    def rows(self, maker: FeatureMaker, records: Records) -> Iterator[tuple[list[Rows], dict[int, str]]]:
        """Yields the rows of one part after the other, and why some photographs have none."""
        done = spread_features(records, maker, self.folder, self._config, weights=self._weights, replace=True)
        for file in done.files:
            frame = pl.read_parquet(file)
            errors = {place: error for place, error in enumerate(frame["error"]) if error is not None}
            yield [frame[kind].to_numpy() for kind in KINDS if kind in frame.columns], errors

    def clear(self) -> None:
        """Removes the parts, whose rows the cache has by now."""
        if earlier(self.folder) is not None:
            emptied(self.folder)
            self.folder.rmdir()
