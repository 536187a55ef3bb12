"""The audit's table: its columns, planted truth, one class only, and what it refuses."""

import numpy as np
import polars as pl
import pytest

from knowngood.data.records import table
from knowngood.errors import DataError, UnknownNameError
from knowngood.outliers.audit_table import audit_table


def planted() -> tuple[pl.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    count = 400
    truth = np.arange(count) < 80
    rows = (random.normal(size=(count, 12)) + 2 * truth[:, None]).astype(np.float32)
    rows[100] *= 30  # belongs to nothing
    labels: list[object] = truth.astype(int).tolist()
    labels[:6] = [0] * 6  # bad hidden in good
    labels[399] = None
    rows[7] = rows[3]
    clusters = np.arange(count)
    clusters[7] = clusters[3]  # a copy with the other label
    names = [f"{i:03}.png" for i in range(count)]
    frame = table({"image": names, "path": names, "label": labels})
    return frame, rows, np.arange(count) % 4, clusters


def test_a_row_an_image_with_everything_in_it():
    frame, rows, folds, clusters = planted()
    folds[398] = -1
    found = audit_table(frame, rows, folds, clusters, 0, detectors=["knn"])
    assert found.columns == [
        "image", "label", "ocsvm_score", "ocsvm_outlier", "iforest_score", "iforest_outlier", "outlier",
        "knn_score", "knn_outlier", "out_of_fold_score", "suspect_score", "suspect", "suspect_other_side",
        "suggested_label", "rare", "good_distance", "bad_distance", "duplicate_of", "conflicting_duplicate",
    ]  # fmt: skip
    assert found["image"].to_list() == frame["image"].to_list()
    assert found["outlier"][100]
    assert found["outlier"].equals(found["ocsvm_outlier"] & found["iforest_outlier"])
    assert found["suspect"][:6].sum() >= 5
    assert found["suspect"].sum() <= 12
    assert (
        found.filter("suspect", pl.col("label") == 0)["suggested_label"].to_list()
        == [1] * found.filter("suspect", pl.col("label") == 0).height
    )
    assert found.filter(~pl.col("suspect"))["suggested_label"].null_count() == found.height - found["suspect"].sum()
    assert found["conflicting_duplicate"][3] == "007.png"
    assert found["conflicting_duplicate"][7] == "003.png"
    assert found["duplicate_of"][7] == "003.png"
    assert found["conflicting_duplicate"].drop_nulls().len() == 2
    for row in (398, 399):  # never held out; unlabelled
        assert found["suspect_score"][row] is None
        assert not found["suspect"][row]


def test_the_same_seed_gives_the_same_table():
    frame, rows, folds, clusters = planted()
    assert audit_table(frame, rows, folds, clusters, 3).equals(audit_table(frame, rows, folds, clusters, 3))


def test_scores_from_elsewhere_are_used_as_they_are():
    frame, rows, folds, clusters = planted()
    scores = np.where(np.arange(400) < 80, 0.95, 0.05)
    found = audit_table(frame, rows, folds, clusters, scores=scores)
    assert np.flatnonzero(found["suspect"].to_numpy()).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(found["out_of_fold_score"].to_numpy(), scores)


def test_a_set_of_good_images_alone_has_outliers_and_no_suspects():
    frame, rows, folds, clusters = planted()
    good = np.arange(80, 300)
    found = audit_table(frame[good], rows[good], folds[good], clusters[good])
    assert found["iforest_outlier"][20]
    assert found["suspect"].null_count() == found["rare"].null_count() == found.height
    assert found.schema == audit_table(frame, rows, folds, clusters).schema


def test_many_images_take_a_machine_that_grows_slowly(monkeypatch):
    frame, rows, folds, clusters = planted()
    exact = audit_table(frame, rows, folds, clusters)
    monkeypatch.setattr("knowngood.outliers.audit_table.EXACT_UP_TO", 10)
    chunks = audit_table(frame, rows, folds, clusters)
    assert np.allclose(chunks["ocsvm_score"], exact["ocsvm_score"], atol=5e-3)
    monkeypatch.setattr("knowngood.outliers.audit_table.CHUNKING_UP_TO", 20)
    many = audit_table(frame, rows, folds, clusters)
    assert not np.allclose(many["ocsvm_score"], exact["ocsvm_score"], atol=5e-3)
    assert many.schema == exact.schema


def test_what_cannot_be_is_refused():
    frame, rows, folds, clusters = planted()
    with pytest.raises(DataError, match="399 of folds"):
        audit_table(frame, rows, folds[:-1], clusters)
    with pytest.raises(UnknownNameError, match="knn"):
        audit_table(frame, rows, folds, clusters, detectors=["kn"])
