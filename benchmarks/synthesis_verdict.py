"""The verdict on made bad images, on the look-alike: none, transforms, transplants, StyleGAN, all; few bads and many.

Takes the generator that stylegan_tape.py has left, draws samples, makes as many transplants, judges the samples and
trains a classifier on every training set, paired over seeds, tested on the same real test images. The generator knows
all training bads, so that its rows with fewer are an upper bound (the judgement says so).

    python benchmarks/stylegan_tape.py --kimg 90 && python benchmarks/synthesis_verdict.py
    python benchmarks/synthesis_verdict.py --bad-counts 30,100,300,all --preset standard --epochs 8 \
        --classifier-model resnet18  # on a GPU
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as the command line does

import argparse
import datetime
import json
import platform
import shlex
import sys
from pathlib import Path

from stylegan_tape import DATA, IMAGES, RESULTS

from knowngood.cli.output import at_work
from knowngood.data.loading import load
from knowngood.experiments.synthesis import judge
from knowngood.files import write_json
from knowngood.workflows.generate import sample, transplant
from knowngood.workflows.runs import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, default=Path("runs/stylegan-tape"))
    parser.add_argument("--family", default="sod")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--bad-counts", default="30,100,all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--classifier-model", default=None)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs/synthesis-verdict"))
    parser.add_argument("--out", type=Path, default=RESULTS / "synthesis_verdict.json")
    given = parser.parse_args()
    word = DATA.format(family=given.family)
    masked = load(word.replace("masks=false", "masks=true"))  # the same pictures, and where their defects are
    names = ("seeds", "model", "image_size", "preset", "classifier_model", "epochs", "bad_counts")
    options = {name: getattr(given, name) for name in names}
    with at_work():
        samples = sample(given.generator, given.runs / "samples", given.count)
        transplant(masked, given.runs / "transplants", given.count)
        done = judge(samples.folder, masked, given.runs / "judged", classifier=True, **options)
        other = judge(given.runs / "transplants", masked, given.runs / "judged-transplants", model=given.model,
                      image_size=given.image_size)  # fmt: skip
    document = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine()},
        "versions": versions(),
        "data": word,
        "stylegan": done.document,
        "transplants": other.document,
    }
    write_json(given.out, document)
    print(json.dumps(done.document.get("classifier", {}).get("effects", []), indent=1)[:4000])
    print("pages:", given.runs / "judged" / "judge.html", IMAGES)


if __name__ == "__main__":
    main()
