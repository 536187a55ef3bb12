"""StyleGAN of few bads: does it help to be shown good parts first? KID over as many photographs, paired over seeds.

Every arm is one `stylegan_tape.py`: 60 bads of the look-alike (SOD, grey) and its good parts, less what validation and
calibration take (the result says how many were learned from), the same seeds, the same number of photographs in all.
"plain" is shown bads alone; "good first" good parts for the first quarter, then bads; "good first, frozen" the same,
with the finest two blocks of the residual discriminator kept as good parts taught them (freeze-D). KID swings from tick
to tick: it is compared as the mean over the ticks of the last third, by EfficientNet-Lite0, and at the end, by VGG-16
too. The trainings share the cores, one thread each, `--at-once` at a time; one that is finished is not made again.

    python benchmarks/good_first.py
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from knowngood.data.records import BAD, GOOD
from knowngood.files import write_json
from knowngood.metrics.comparisons import over_seeds
from knowngood.synthesis.writing import TRAINING_IMAGES

HERE = Path(__file__).parent
SHARED = "--resolution 32 --base 1024 --bads 60 --model resnet50 --join-kimg 2 --tick 2"


def folder_of(arm: str, seed: int, given: argparse.Namespace) -> Path:
    return Path(given.runs) / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"


def trained(arm: str, options: list[str], seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Returns what one training's benchmark says, and makes it where it is not there."""
    run = folder_of(arm, seed, given)
    out = run.with_suffix(".json")
    if not out.is_file():
        command = [sys.executable, str(HERE / "stylegan_tape.py"), *shlex.split(SHARED), "--seed", str(seed), *options]
        with out.with_suffix(".log").open("w") as log:
            subprocess.run(
                [*command, "--run", str(run), "--out", str(out)],
                check=True, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    print(arm, seed, "KID", found["final"]["value"], flush=True)
    return found


def late(history: list[dict[str, float]], kimg: float) -> float:
    """Mean KID over the ticks of the last third."""
    return float(np.mean([row["kid"] for row in history if row["kimg"] > kimg * 2 / 3]))


def against(arm: list[float], plain: list[float]) -> dict[str, Any]:
    """The paired difference over seeds; all are measured against the same held-out bads."""
    found = over_seeds(np.subtract(arm, plain), np.zeros(len(arm)))
    outcome = found.outcome(higher_is_better=False)
    return {"difference": found.mean, "interval": found.interval, "repeats": found.seeds, "outcome": outcome}


def learned_from(arm: str, seed: int, given: argparse.Namespace) -> list[int]:
    """How many bads and good parts the networks were shown: validation and calibration take theirs first."""
    labels = pl.read_parquet(folder_of(arm, seed, given) / TRAINING_IMAGES)["label"]
    return [int((labels == label).sum()) for label in (BAD, GOOD)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kimg", type=float, default=28.0, help="in all, in every arm")
    parser.add_argument("--good-kimg", type=float, default=7.0, help="of them good parts, where they come first")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=Path, default=Path("runs/good-first"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "good_first.json")
    given = parser.parse_args()
    first = ["--good-kimg", str(given.good_kimg), "--kimg", str(given.kimg - given.good_kimg)]
    arms = {
        "plain": ["--kimg", str(given.kimg)],
        "good first": first,
        "good first, frozen": [*first, "--freeze-blocks", "2"],
    }
    given.runs.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(given.at_once) as pool:
        asked = {
            (arm, seed): pool.submit(trained, arm, options, seed, given)
            for seed in range(given.seeds)
            for arm, options in arms.items()
        }
        found = {key: each.result() for key, each in asked.items()}
    rulers: dict[str, Callable[[Any], float]] = {
        "efficientnet_lite0, mean of the last third": lambda row: late(row["history"], given.kimg),
        "efficientnet_lite0, at the end": lambda row: float(row["final"]["value"]),
        "vgg16, at the end": lambda row: float(row["by vgg16"]["final"]["value"]),
    }
    values = {
        name: {arm: [round(read(found[arm, seed]), 4) for seed in range(given.seeds)] for arm in arms}
        for name, read in rulers.items()
    }
    last = found["plain", 0]
    document = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        **{name: last[name] for name in ("date", "machine", "versions", "data", "features", "references", "untrained")},
        "shared": SHARED,
        "arms": arms,
        "bads and good parts learned from": {
            arm: [learned_from(arm, seed, given) for seed in range(given.seeds)] for arm in arms
        },
        "p at the end": {arm: [found[arm, seed]["history"][-1]["p"] for seed in range(given.seeds)] for arm in arms},
        "kid": values,
        "against plain": {
            name: {arm: against(each[arm], each["plain"]) for arm in arms if arm != "plain"}
            for name, each in values.items()
        },
        "kid over kimg": {
            f"{arm} {seed}": [[row["kimg"], row["kid"]] for row in each["history"]]
            for (arm, seed), each in found.items()
        },
    }  # fmt: skip
    write_json(given.out, document)
    print(json.dumps({name: document[name] for name in ("kid", "against plain")}, indent=1))


if __name__ == "__main__":
    main()
