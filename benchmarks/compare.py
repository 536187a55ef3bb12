"""The study's table: its five networks and EfficientNet-Lite0 by the same recipe of training, in one command a set.

    python benchmarks/compare.py elpv            # solar cells, small enough for 2 cores and an hour
    python benchmarks/compare.py tape            # the look-alike, the same
    python benchmarks/compare.py magnetic-tile   # split by part; four networks, the two slow ones are left to the user
    python benchmarks/compare.py contest DATA    # 30,000 photographs at full size; for a GPU, see compare_contest.sh

Networks without pretrained weights here start from random ones, and their rows say so. Options after the set are
those of `knowngood compare` and win over the ones below. A broken run goes on when it is started again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from magnetic_tile import DATA, manifest

from knowngood.files import write_json

STUDY = "resnet18,resnet50,wide_resnet50_2,resnext50_32x4d,vgg16"
CONVENTIONAL = ["--classifiers", "svm,random_forest,lda,logistic,knn"]
SIZE = ["--image-size", "96", "--epochs", "4", *CONVENTIONAL]
SMALL = ["--models", f"{STUDY},efficientnet_lite0", *SIZE]
QUICK = ["--models", "resnet18,resnet50,resnext50_32x4d,efficientnet_lite0", *SIZE]
SETS = {
    "elpv": ["elpv", *SMALL, "--augment", "strong"],  # a solar cell has no up and no left
    "tape": ["tape:train=1500,test=1000,bad_rate=0.2,seed=0", *SMALL],
    "magnetic-tile": [*QUICK, "--augment", "strong"],
    "contest": ["--models", STUDY, "--seeds", "3", "--epochs", "12", "--batch-size", "64"],
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in SETS:
        raise SystemExit(__doc__)
    name, *given = sys.argv[1:]
    out = Path(given[given.index("--out") + 1]) if "--out" in given else Path("runs") / f"compare-{name}"
    place = [] if "--out" in given else ["--out", str(out)]
    if name == "magnetic-tile":
        given.insert(0, str(manifest(DATA, Path("runs") / "magnetic-tile.csv")))
    command = [sys.executable, "-m", "knowngood", "compare", *SETS[name], *place, *given]
    subprocess.run(command, check=True)
    document = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    for row in document["rows"]:
        row.pop("roc")  # for the page
    result = Path(__file__).parent / "results" / f"{out.name.replace('-', '_')}.json"
    write_json(result, document)
    print(f"Figures: {result}")


if __name__ == "__main__":
    main()
