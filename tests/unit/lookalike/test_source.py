"""`--data tape:...`: drawn once into the cache, then read from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowngood.data.loading import load
from knowngood.errors import ConfigError
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.source import TapeSource, config_of, folder_of


def test_it_is_drawn_once_and_again_when_it_is_not_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path))
    word = "tape:train=6,test=3,seed=2,bad-rate=0.5"
    first = load(word)
    assert (first.source, len(first)) == ("tape", 9)
    assert first.root.is_relative_to(tmp_path)
    assert any("look-alike" in note for note in first.notes)
    picture = Path(first.frame["path"][0])
    stamp = picture.stat().st_mtime_ns
    assert load(word).frame.equals(first.frame)
    assert picture.stat().st_mtime_ns == stamp
    (first.root / "tape.json").unlink()
    assert load(word).frame.equals(first.frame)
    assert picture.stat().st_mtime_ns != stamp


def test_options():
    assert config_of("tape") == TapeConfig()
    assert config_of("tape: train=5 , drift-on=all") == TapeConfig(train=5, drift_on="all")
    assert folder_of(TapeConfig(seed=1)) != folder_of(TapeConfig(seed=2))
    for wrong in ("tape:trian=5", "tape:train", "tape:train=-5", "tape:train=many"):
        with pytest.raises(ConfigError, match="train"):
            config_of(wrong)


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TapeSource().recognises(Path("tape"))
    assert not TapeSource().recognises(Path("tapeworm"))
    (tmp_path / "tape").mkdir()
    assert not TapeSource().recognises(Path("tape"))
