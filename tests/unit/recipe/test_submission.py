"""Submissions: ids are matched by path, file name and stem, in the sample's order."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from knowngood.errors import DataError
from knowngood.recipe.submission import Sample, as_submission, plain_sample

SCORES = pl.DataFrame({"image": ["t/1.png", "t/2.png", "t/3.b.png", "u/4.png"], "defect_score": [0.1, None, 0.3, 0.4]})


def sample(*ids: str) -> Sample:
    return Sample(Path("sample.csv"), ("name", "p"), ids)


def test_ids_are_found_by_path_name_and_stem() -> None:
    frame = as_submission(SCORES, sample("u/4.png", "3.b", "1.png", "2"))
    assert frame.to_dict(as_series=False) == {"name": ["u/4.png", "3.b", "1.png", "2"], "p": [0.4, 0.3, 0.1, 1.0]}


def test_an_id_that_names_none_or_several_is_refused() -> None:
    with pytest.raises(DataError, match="1 of the 2 ids"):
        as_submission(SCORES, sample("1", "5"))
    twice = pl.DataFrame({"image": ["t/1.png", "u/1.png"], "defect_score": [0.1, 0.2]})
    with pytest.raises(DataError, match="names 2 photographs"):
        as_submission(twice, sample("1"))
    assert as_submission(twice, sample("u/1.png"))["p"].to_list() == [0.2]


def test_without_a_sample_file_names_are_ids() -> None:
    frame = as_submission(SCORES, plain_sample(SCORES["image"]))
    assert frame.columns == ["id", "label"]
    assert frame["id"].to_list() == ["1.png", "2.png", "3.b.png", "4.png"]
