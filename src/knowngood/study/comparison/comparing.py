"""`knowngood compare`: every model by the same recipe of training, on the same splits, in one table."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from knowngood.data.augmentations.policy import policy_named
from knowngood.data.loading import loaded
from knowngood.data.records import Records
from knowngood.data.units import groups_of, with_units
from knowngood.errors import ConfigError, TrainingError
from knowngood.files import check_writable, write_json, write_text
from knowngood.models.backbones import BACKBONES
from knowngood.models.cost import cost_of, images_per_second
from knowngood.parameters import checked_parameters
from knowngood.report.comparison import comparison_page
from knowngood.study.comparison.config import GROWS, CompareConfig
from knowngood.study.comparison.conventional import check_conventional, conventional_rows
from knowngood.study.comparison.document import as_table, describe
from knowngood.study.comparison.pairs import compare_rows
from knowngood.study.comparison.rows import Row
from knowngood.study.comparison.running import Made, Trainings, find_starts, plan_rows
from knowngood.study.comparison.sets import divide
from knowngood.study.comparison.variants import VariantOptions, variant_named
from knowngood.study.facts import command_for, shown, versions
from knowngood.study.runs import fingerprint_of, open_run
from knowngood.study.training import check_trainable
from knowngood.tables import write_table

DOCUMENT = "compare.json"  # the last thing that a comparison writes


@dataclass(frozen=True)
class Compared:
    """A finished comparison.

    Attributes:
        folder: With compare.json, compare.parquet, compare.csv, compare.html and models/, a run for each training.
        table: A line a row of the comparison, the highest AUC first.
        document: What compare.json holds: the rows, all pairs, every seed.
    """

    folder: Path
    table: pl.DataFrame
    document: dict[str, Any]


def compare(
    data: str | Path | Records,
    out: str | Path,
    config: CompareConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    force: bool = False,
    **options: Any,
) -> Compared:
    """Trains several models in the same way on the same splits and says which differences are real.

    A comparison that was killed goes on when the same call is made again, at the epoch that it was at. More models,
    variants, freezings, balances or seeds may be asked for in a later call: what is finished is taken over.

    Args:
        data: Folder, manifest, the word of a source ("elpv"), or records that were loaded already.
        out: Folder for the comparison.
        config: What to do; or give its fields as `options`.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        force: Replace whatever comparison is in `out`.
        **options: Fields of `CompareConfig`.

    Raises:
        UnknownNameError: No such model, variant or policy; told before anything is read.
        ConfigError: `out` holds another comparison, or options do not go together.
        DataError: The photographs cannot be trained on.
        WeightsError: Pretrained weights are required and not to be had.
        TrainingError: Not one row could be trained.
    """
    config = checked_parameters(CompareConfig, (config or CompareConfig()).model_dump() | options)
    _check_names(config)
    folder = Path(out)
    check_writable(folder, folder=True)  # before anything is computed
    records = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    records = with_units(records, config.unit_from)
    check_trainable(records)
    records = records.usable().labelled()
    finished = _finished(folder, config)
    there = open_run(folder, config, fingerprint_of(records), force, finished=finished is not None, grows=GROWS)
    if there and finished is not None:
        return Compared(folder, as_table(finished), finished)
    command = command_for(shown(data), folder, config, source, "compare", good=good, bad=bad)
    starts = find_starts(config, folder)
    plans, left_out = plan_rows(config, starts)
    if not plans:
        raise ConfigError(
            "No row is left: only pretrained networks can be frozen, and none of these has weights here.",
            fix="Add none to --freeze, or other --models (knowngood weights lists them).",
        )
    trainings = Trainings(config, folder, command)
    groups = groups_of(records)
    sets = {seed: divide(records, groups, config, seed) for seed in range(config.seed, config.seed + config.seeds)}
    for seed, divided in sets.items():
        trainings.add(divided, plans, seed)
    made = list(trainings.made(plans))
    left_out |= trainings.failed
    if not made:
        raise TrainingError(f"No row could be trained: {'; '.join(f'{k} {v}' for k, v in left_out.items())}.")
    rows = [*_rows(made), *conventional_rows(sets, config, folder)]
    document = _facts(records, config, command, left_out) | describe(
        rows, compare_rows(rows, config.confidence), config.confidence
    )
    return _written(folder, document)


def _check_names(config: CompareConfig) -> None:
    """Tells of a name that is not known, or a thing that is missing, before the images are read."""
    for model in config.models:
        BACKBONES.get(model)
    policy_named(config.augment)
    options = VariantOptions(config.augment, config.generated, config.outlier_backbone, config.seed)
    for name in config.variants:
        for change in variant_named(name):
            change.check(options)
    check_conventional(config)


def _finished(folder: Path, config: CompareConfig) -> dict[str, Any] | None:
    """Returns the document of a comparison that has all that is asked for."""
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(document, dict) and document.get("config") == config.model_dump(mode="json")
    return document if same else None


def _rows(made: Sequence[Made]) -> list[Row]:
    """Adds to the trainings what the networks cost; networks of one shape are measured once."""
    shapes = {m.network.model_dump_json(): m.network for m in made}
    speeds = images_per_second(shapes)
    rows = []
    for one in made:
        cost, network = cost_of(one.network), one.network
        rows.append(
            Row(
                key=one.plan.key,
                kind="network",
                model=one.plan.model,
                variant=one.plan.variant,
                weights=one.weights,
                pretrained=one.plan.pretrained,
                outcomes=one.outcomes,
                freeze=one.plan.freeze,
                balance=one.plan.balance,
                parameters=cost.parameters,
                multiply_adds=cost.multiply_adds,
                images_per_second=speeds[network.model_dump_json()],
                input_shape=(network.channels, network.height, network.width),
            )
        )
    return rows


def _facts(records: Records, config: CompareConfig, command: str, left_out: dict[str, str]) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    notes = list(records.notes)
    if config.seeds == 1:
        notes.append(
            "One seed: the tests say whether these trained networks differ on other images, not whether the same "
            "models trained again would. --seeds 3 or more says that too."
        )
    if not config.pretrained:
        notes.append("Every model started from random weights.")
    return {
        "command": command,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "data": {
            "source": records.source,
            "root": str(records.root),
            "licence": records.licence,
            **records.counts(),
        },
        "notes": notes,
        "left_out": left_out,
        "machine": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "gpu": gpu,
            "threads": torch.get_num_threads(),
        },
        "versions": versions(),
    }


def _written(folder: Path, document: dict[str, Any]) -> Compared:
    document = json.loads(json.dumps(document))  # as it will be read again
    table = as_table(document)
    write_table(table, folder / "compare.parquet")
    write_table(table, folder / "compare.csv")
    write_text(folder / "compare.html", comparison_page(document))
    write_json(folder / DOCUMENT, document)  # last: its presence says that the comparison is whole
    shutil.rmtree(folder / "work", ignore_errors=True)
    return Compared(folder, table, document)
