"""The approximate audit on a cluster of this machine: blocks elsewhere, the same table as here."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from knowngood.outliers import audit_table as audit
from knowngood.outliers import detectors as blocks
from knowngood.outliers import label_issues as out_of_sample
from knowngood.outliers.audit_table import audit_table
from knowngood.scale import mapping
from knowngood.scale.cluster import at_cluster
from knowngood.scale.config import ClusterConfig
from knowngood.training import svm_head as kernel

COUNT, LENGTH = 600, 200


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("machine", ["ocsvm", "ocsvm_chunking", "ocsvm_nystroem"])
def test_the_same_suspects(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    labels = (np.arange(COUNT) % 5 == 0).astype(np.uint8)
    rows = random.normal(0, 1, (COUNT, LENGTH)).astype(np.float32)
    rows[labels == 1, :20] += 1
    rows[::90] *= 4  # do not belong
    given = labels.copy()
    given[7::100] ^= 1
    frame = pl.DataFrame({"image": [f"{one}" for one in range(COUNT)], "label": given})
    monkeypatch.setattr(audit, "machine_for", lambda count: machine)
    monkeypatch.setattr(kernel, "MOST_ROWS", 300)  # so that rows are left over for machines of some 8,000 rows
    monkeypatch.setattr(out_of_sample, "MOST_ROWS", 300)
    monkeypatch.setattr(blocks, "VALUES", 400 * LENGTH)  # several blocks

    def table() -> pl.DataFrame:
        folds, alone = np.arange(COUNT) % 4, np.arange(COUNT)
        return audit_table(frame, rows, folds, alone, detectors=("knn", "mahalanobis"), rule="likelier")

    here, sent = table(), []
    with at_cluster(ClusterConfig(engine="ray", worker_cores=1)):
        cluster = mapping._current.get()
        with mapping.mapping_by(lambda function, some: cluster(function, _counted(some, sent))):
            there = table()
    assert len(sent) > 30
    verdicts = [name for name, kind in here.schema.items() if kind not in (pl.Float64, pl.Float32)]
    assert here.select(verdicts).equals(there.select(verdicts))
    assert here["suspect"].sum() > 5
    for name in set(here.columns) - set(verdicts):
        np.testing.assert_allclose(here[name].to_numpy(), there[name].to_numpy(), rtol=1e-9, atol=1e-9)


def _counted(pieces, sent):
    for piece in pieces:
        sent.append(1)
        yield piece
