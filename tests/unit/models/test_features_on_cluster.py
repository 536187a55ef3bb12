"""Features on a cluster of this machine: the plain way's rows to the last bit, whoever is killed; copies once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from knowngood import errors
from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.errors import ConfigError, WeightsError
from knowngood.models.features import features, maker_for, tensors_digest, write_features
from knowngood.models.features_on_cluster import (
    FeatureRun,
    FeatureTask,
    OnCluster,
    PartFeatures,
    copied,
    features_on_cluster,
    listed,
)
from knowngood.models.weights import available, find
from knowngood.scale.config import ClusterConfig
from knowngood.scale.parts import prepared, rows_file

PART = 32
CONFIG = ClusterConfig(engine="ray", part_size=PART, worker_cores=1)
NETWORK: dict[str, Any] = {"model": "efficientnet_lite0", "image_size": 64}

pytestmark = pytest.mark.skipif(available("efficientnet_lite0") is None, reason="no weights of efficientnet_lite0")


@pytest.fixture(scope="module")
def photographs(make_set: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """253 photographs, of them 20 that are copies of ones in other parts and 3 of one next to them."""
    folder = make_set(tmp_path_factory.mktemp("many") / "many", good=150, bad=80, seed=5)
    for number in range(20):
        shutil.copy(folder / "chip" / f"chip_{number:03}.png", folder / "scratch" / f"a_copy_{number}.png")
    for number in range(3):
        shutil.copy(folder / "good" / "good_010.png", folder / "good" / f"good_010_{number}.png")
    return folder


@pytest.fixture(scope="module")
def records(photographs: Path) -> Records:
    """Listed, and then one of them was damaged: found when it is decoded."""
    found = load(photographs).usable()
    (photographs / "good" / "good_020.png").write_bytes(b"no photograph any more")
    return found


@pytest.fixture(scope="module")
def plain(records: Records, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """What the plain way writes, with nothing in the cache."""
    place = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KNOWNGOOD_CACHE", str(place / "cache"))
        made = features(records, **NETWORK)
    assert made.computed == len(records) - 23
    write_features(records, made, place / "features.parquet")
    return pl.read_parquet(place / "features.parquet")


@pytest.fixture(scope="module")
def killed(
    records: Records, two_workers: object, kill_once: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[FeatureRun, int]:
    """A run during which one of the workers is killed, and which worker that was."""
    out = tmp_path_factory.mktemp("features") / "features"
    killer, victims = kill_once(out)
    done = features_on_cluster(records, out, CONFIG, **NETWORK)
    killer.join()
    return done, victims[0]


def test_a_killed_worker_costs_only_time(killed: tuple[FeatureRun, int], plain: pl.DataFrame) -> None:
    done, victim = killed
    assert not Path(f"/proc/{victim}").exists()
    rows = done.rows().collect()
    assert rows.columns == plain.columns
    assert rows.drop("features").equals(plain.drop("features"))
    ours, theirs = rows["features"].to_numpy(), plain["features"].to_numpy()
    assert ours.tobytes() == theirs.tobytes()
    assert (done.images, done.unreadable, done.length, done.parts, done.workers) == (253, 1, 1280, 8, 2)
    assert np.isnan(ours[rows["image"].to_list().index("good/good_020.png")]).all()
    assert sorted(path.name for path in (done.folder / "rows").iterdir()) == [f"{n:07}.parquet" for n in range(8)]


def test_only_parts_that_are_not_whole_are_computed(
    killed: tuple[FeatureRun, int], records: Records, plain: pl.DataFrame, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(killed[0].folder, tmp_path / "features"))
    for number in range(8):
        file = rows_file(folder, number)
        pl.read_parquet(file).with_columns(error=pl.lit("kept")).write_parquet(file)
    rows_file(folder, 5).unlink()
    done = features_on_cluster(records, folder, CONFIG, **NETWORK)
    frame = done.rows().collect()
    assert done.taken_over == 7
    assert 0 < frame["error"].null_count() < 2 * PART
    assert frame["features"].to_numpy().tobytes() == plain["features"].to_numpy().tobytes()
    with pytest.raises(ConfigError, match="--part-size is 64"):
        features_on_cluster(records, folder, CONFIG.model_copy(update={"part_size": 64}), **NETWORK)
    with pytest.raises(ConfigError, match=r"features of efficientnet_lite0 at 64 x 64 .*, this is features of"):
        features_on_cluster(records, folder, CONFIG, model="efficientnet_lite0", image_size=96)


def test_what_a_cache_lacks_comes_from_the_cluster(
    records: Records, two_workers: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = records.with_frame(records.frame[:100])
    made = {}
    there = OnCluster(tmp_path / "parts", CONFIG)
    prepared(tmp_path / "parts", "other work", PART, lambda: listed(half, PART))  # is replaced
    for name, elsewhere in (("here", None), ("there", there)):
        monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / name))
        features(half, **NETWORK, stages=True)
        made[name] = features(records, **NETWORK, stages=True, elsewhere=elsewhere)
    wanted, got = made["here"], made["there"]
    assert wanted.stages is not None
    assert got.stages is not None
    assert got.computed == wanted.computed
    assert got.rows.tobytes() == wanted.rows.tobytes()
    assert got.stages.tobytes() == wanted.stages.tobytes()
    assert got.failed == wanted.failed
    assert len(got.failed) == 1
    there.clear()
    assert not (tmp_path / "parts").exists()


@pytest.fixture
def task(records: Records, tmp_path: Path) -> FeatureTask:
    few = records.with_frame(records.frame[-40:])
    prepared(tmp_path / "out", "these", 16, lambda: listed(few, 16))
    maker = maker_for(few, **NETWORK)
    return FeatureTask(
        out=str(tmp_path / "out"),
        cores=1,
        network=maker.config,
        weights=None,
        tensors=tensors_digest(find(NETWORK["model"])),
        preprocessing=maker.preprocessing,
        host="elsewhere",
    )


@pytest.mark.parametrize(
    ("changed", "kind", "told"),
    [
        ({"weights": "/nowhere"}, errors.RecipeError, "does not see the weights /nowhere"),
        ({"tensors": "0123"}, WeightsError, "not those of the machine that asks"),
        ({"versions": {"torch": "1.0"}}, ConfigError, "same versions"),
        ({"out": "/nowhere"}, errors.RecipeError, "does not see the folder /nowhere"),
    ],
)
def test_what_goes_wrong_is_told(task: FeatureTask, changed: dict[str, Any], kind: type, told: str) -> None:
    with pytest.raises(kind, match=told) as error:
        PartFeatures(replace(task, **changed)).status_of(0).checked()
    assert error.value.fix  # type: ignore[attr-defined]
    assert not list(Path(task.out).glob("rows/*.parquet"))


def test_photographs_that_another_machine_does_not_see(task: FeatureTask, records: Records) -> None:
    out = Path(task.out)
    gone = records.frame[-40:].with_columns(path=pl.lit("/nowhere/") + pl.col("image"))
    prepared(out, "these", 16, lambda: listed(records.with_frame(gone), 16), fresh=True)
    with pytest.raises(errors.DataError, match="Not one photograph of part 0"):
        PartFeatures(task).status_of(0).checked()
    assert not rows_file(out, 0).exists()


def test_parts_are_cut_by_different_photographs(records: Records) -> None:
    parts = list(listed(records, PART))
    assert [count for _, count in parts] == [PART] * 7 + [6]
    assert (
        pl.concat([frame for frame, _ in parts]).drop("first").equals(records.frame.select("image", "path", "sha256"))
    )
    firsts = pl.concat([frame.filter("first") for frame, _ in parts])
    assert firsts["sha256"].to_list() == records.frame["sha256"].unique(maintain_order=True).to_list()


def test_copies_are_filled_in_once(tmp_path: Path) -> None:
    kind = pl.Array(pl.Float32, 2)
    files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for file, names, rows, said in (
        (files[0], "abb", [[1, 2], [3, 4], [3, 4]], [None, "why", "why"]),
        (files[1], "bca", [None, [5, 6], None], [None] * 3),
    ):
        columns = {"image": [f"{file.stem}{one}" for one in range(3)], "sha256": list(names), "error": said}
        pl.DataFrame(columns, schema_overrides={"error": pl.String}).with_columns(
            pl.Series("features", rows, dtype=kind)
        ).write_parquet(file)
    before = files[0].read_bytes()
    assert copied(files) == 1
    assert pl.read_parquet(files[1])["features"].to_list() == [[3, 4], [5, 6], [1, 2]]
    assert pl.read_parquet(files[1])["error"].to_list() == ["why", None, None]
    assert files[0].read_bytes() == before
    assert copied(files) == 0
