"""A run's folder: begun, gone on with after a kill, returned when finished, never overwritten by accident."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from knowngood.data.records import Records
from knowngood.errors import ConfigError
from knowngood.files import storage_errors, write_json
from knowngood.progress import reporter

CONFIG, FIGURES = "config.json", "metrics.json"  # the first and the last thing that a run writes


def open_run(
    folder: Path,
    config: BaseModel,
    fingerprint: str,
    force: bool,
    *,
    finished: bool | None = None,
    grows: Collection[str] = (),
) -> bool:
    """Says whether the run in `folder` is finished; if not, leaves the folder ready to begin or to go on.

    Args:
        folder: Of the run.
        config: What the run is to do.
        fingerprint: Of its data, from `fingerprint_of`.
        force: Delete whatever run is there.
        finished: Whether it is finished if it is the same; by default when its figures are there.
        grows: Fields of `config` in which a run may differ from the one before and still go on with it.

    Raises:
        ConfigError: The folder holds something else, or another run that took time.
        StorageError: The folder cannot be made.
    """
    kept = {name: value for name, value in _plain(config).items() if name not in grows}
    wanted: dict[str, Any] = {"config": kept, "data": fingerprint}
    new = {name: value for name, value in _plain(type(config)()).items() if name in kept}
    path = folder / CONFIG
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file.", expected="a folder for the run", fix="Choose another --out.")
    occupied = folder.is_dir() and any(folder.iterdir())
    if occupied and not path.is_file():
        raise ConfigError(
            f"{folder} is not empty and holds no run of knowngood.",
            expected="an empty folder or none (--force deletes runs, not other files)",
            fix="Choose another --out.",
        )
    if occupied and force:
        shutil.rmtree(folder)
    elif occupied:
        return _go_on(folder, wanted, new, (folder / FIGURES).is_file() if finished is None else finished)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)
    return False


def fingerprint_of(records: Records) -> str:
    """Returns a hash of the images' bytes, labels and splits, whatever their order."""
    rows = records.frame.select("image", "sha256", "label", "split").sort("image").rows()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _plain(config: BaseModel) -> dict[str, Any]:
    """Returns a configuration as JSON types; a path is the same however it is spelled."""
    paths = {name: os.path.abspath(value) for name, value in config if isinstance(value, Path)}
    return config.model_dump(mode="json") | paths


def _go_on(folder: Path, wanted: dict[str, Any], defaults: dict[str, Any], finished: bool) -> bool:
    held = _held(folder / CONFIG)
    held["config"] = defaults | held["config"]  # options that the run was made without
    if held == wanted:
        said = "is finished already; --force makes it again" if finished else "is gone on with"
        reporter().say(f"the run in {folder} {said}")
        if not finished:
            _sweep(folder)
        return finished
    if _has_results(folder):
        options = wanted["config"]
        changed = [name for name in options if held.get("config", {}).get(name) != options[name]]
        what = f"other options ({', '.join(changed)})" if changed else "other images or labels"
        raise ConfigError(f"{folder} holds a run with {what}.", fix="Choose another --out, or replace it with --force.")
    reporter().say(f"the run in {folder} had other options or images and no results yet: it begins anew")
    shutil.rmtree(folder / "work", ignore_errors=True)
    write_json(folder / CONFIG, wanted)
    return False


def _held(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        held = None
    if not isinstance(held, dict) or not {"config", "data"} <= set(held):
        raise ConfigError(f"{path} is not what knowngood wrote.", fix="Choose another --out.")
    return held


def _has_results(folder: Path) -> bool:
    """Says whether a run, or one inside it, holds anything that took long: figures, recipe, checkpoint, answer."""
    return any(
        next(folder.glob(f"{inside}{kept}"), None)
        for inside in ("", "models/*/*/")
        for kept in (FIGURES, "recipe", "work/*.ckpt", "found/*.json")
    )


def _sweep(folder: Path) -> None:
    """Removes what a killed run had half written."""
    for scratch in folder.glob(".*.tmp"):
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)
