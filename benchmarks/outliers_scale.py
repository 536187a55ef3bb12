"""Outliers as the work grows: seconds and memory of each detector, agreement with the exact machine, planted noise.

Features are made up (rectified mixtures of 40 ways of varying, like pooled activations) with strange rows planted, so
that nothing but the detectors is measured; a network's features are measured by `audit`. Each detector runs in a
process of its own, for its peak memory.

    python benchmarks/outliers_scale.py --sizes 1000 3000 10000 30000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from knowngood.files import write_json

ROWS = ("ocsvm", "iforest", "knn", "mahalanobis", "ocsvm_chunking", "ocsvm_nystroem")
EVERYWHERE = ("ocsvm", "iforest", "ocsvm_chunking", "ocsvm_nystroem")  # at every size, the others to --others-up-to
STRANGE = 0.005  # share of planted rows
PATCH_SHAPE = (49, 256)  # of an image, in the patch memory's rows of the table


def features(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns (count, width) float32; the first `STRANGE` of the rows vary in ways that no other does."""
    random = np.random.default_rng(seed)
    ways = np.random.default_rng(99).normal(size=(40, width)).astype(np.float32)
    ways /= np.sqrt(1 + np.arange(40, dtype=np.float32))[:, None]
    strange = int(count * STRANGE)
    rows = np.empty((count, width), np.float32)
    for start in range(0, count, 4096):
        block = slice(start, min(count, start + 4096))
        size = block.stop - start
        rows[block] = 0.4 * random.standard_normal((size, 40), np.float32) @ ways
        rows[block] += 0.3 * random.standard_normal((size, width), np.float32) + 0.2
    strengths = np.linspace(0.5, 2, strange, dtype=np.float32)[:, None]
    rows[:strange] += strengths * random.standard_normal((strange, width), np.float32)
    np.maximum(rows, 0, out=rows)
    return rows


def one(name: str, count: int, width: int, keep: Path) -> dict[str, Any]:
    """Measures one detector in this process; scores go to `keep` for the agreement."""
    from knowngood.outliers.detectors import DETECTORS

    if name == "patch_memory":
        shape = (count, *PATCH_SHAPE)
        rows = np.random.default_rng(0).standard_normal(shape, np.float32)
        rows[: int(count * STRANGE), 7] += 1.5
    else:
        rows = features(count, width)
    detector = DETECTORS.get(name)(seed=0)
    before = peak()
    start = time.perf_counter()
    detector.fit(rows)
    fitted = time.perf_counter()
    scores = detector.score(rows)
    done = time.perf_counter()
    np.save(keep, np.append(scores, detector.threshold_))
    strange = int(count * STRANGE)
    own = getattr(detector, "own_score_", scores)
    return {
        "fit_seconds": round(fitted - start, 3),
        "score_seconds": round(done - fitted, 3),
        "features_mb": round(rows.nbytes / 2**20),
        "more_memory_mb": round(peak() - before),
        "flagged": int((own > detector.threshold_).sum()),
        "strange_planted": strange,
        "strange_flagged": int((own[:strange] > detector.threshold_).sum()),
        "strange_among_top": float((np.argsort(-own, kind="stable")[:strange] < strange).mean()),
    }


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def agreement(exact: Path, other: Path) -> dict[str, float]:
    """Compares with the exact machine: order of scores, flags, and flags of rows off the solver's tolerance."""
    from scipy.stats import spearmanr

    one, two = np.load(exact), np.load(other)
    first, second = one[:-1] - one[-1], two[:-1] - two[-1]
    clear = np.abs(first) > 2e-3
    both, either = (first > 0) & (second > 0), (first > 0) | (second > 0)
    return {
        "spearman": round(float(spearmanr(first, second)[0]), 4),
        "flags_jaccard": round(float(both.sum() / max(either.sum(), 1)), 4),
        "flags_jaccard_off_margin": round(float((both & clear).sum() / max((either & clear).sum(), 1)), 4),
        "flagged_off_margin": int(((first > 0) & clear).sum()),
        "rows_off_margin": int(clear.sum()),
        "same_verdict_off_margin": round(float(((first > 0) == (second > 0))[clear].mean()), 5),
    }


def planted_noise(count: int, seed: int) -> dict[str, Any]:
    """Bad hidden in good: 10 % bad of five kinds, weak to plain; 2 % of all rows are bad called good."""
    from knowngood.outliers.label_issues import find_suspects, out_of_fold_scores

    random = np.random.default_rng(seed)
    truth = random.random(count) < 0.12
    kinds = np.random.default_rng(5).normal(size=(5, 64))[random.integers(0, 5, count)]
    strength = random.uniform(0.4, 1.6, count)[:, None]
    rows = (random.normal(size=(count, 64)) + truth[:, None] * strength * kinds).astype(np.float32)
    wrong = np.zeros(count, bool)
    wrong[random.permutation(np.flatnonzero(truth))[: count // 50]] = True
    labels = np.where(wrong, 0, truth).astype(np.uint8)
    start = time.perf_counter()
    scores = out_of_fold_scores(rows, labels, np.arange(count) % 5, seed).scores
    seconds = time.perf_counter() - start
    result: dict[str, Any] = {"seed": seed, "rows": count, "planted": int(wrong.sum()), "seconds": round(seconds, 1)}
    for rule in ("confident", "likelier"):
        found = find_suspects(scores, labels, one_sided=True, rule=rule)  # type: ignore[arg-type]
        hits = int((found.suspect & wrong).sum())
        result[rule] = {
            "suspects": int(found.suspect.sum()),
            "precision": round(hits / max(int(found.suspect.sum()), 1), 3),
            "recall": round(hits / int(wrong.sum()), 3),
            "other_side": int(found.other_side.sum()),
            "estimated_noise_in_good": round(float(found.noise[0]), 4),
            "true_noise_in_good": round(float(wrong.sum() / (labels == 0).sum()), 4),
        }
    top = np.argsort(-np.where(labels == 0, found.score, -1), kind="stable")[: wrong.sum()]
    result["precision_at_number_planted"] = round(float(wrong[top].mean()), 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 3000, 10000])
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--detectors", nargs="+", default=list(ROWS))
    parser.add_argument("--patches", type=int, nargs="*", default=[300, 1000], help="images for the patch memory")
    parser.add_argument("--others-up-to", type=int, default=10_000)
    parser.add_argument("--large", type=int, nargs="*", default=[], help="sizes for what does not grow with the square")
    parser.add_argument("--large-detectors", nargs="+", default=["iforest", "ocsvm_chunking", "ocsvm_nystroem"])
    parser.add_argument("--keep", action="store_true", help="keep the rows that --out has and add to them")
    parser.add_argument("--noise-rows", type=int, default=3000)
    parser.add_argument("--noise-seeds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("DETECTOR", "ROWS", "KEEP"), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, default=Path("runs/outliers_scale"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "outliers_scale.json")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one[0], int(given.one[1]), given.width, Path(given.one[2]))))
        return
    given.scratch.mkdir(parents=True, exist_ok=True)
    jobs = [
        (name, size)
        for size in given.sizes
        for name in given.detectors
        if name in EVERYWHERE or size <= given.others_up_to
    ]
    jobs += [(name, size) for size in given.large for name in given.large_detectors]
    jobs += [("patch_memory", size) for size in given.patches]
    table, compared = [], []
    for name, size in jobs:
        keep = given.scratch / f"{name}-{size}.npy"
        command = [sys.executable, __file__, "--one", name, str(size), str(keep), "--width", str(given.width)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        table.append({"detector": name, "rows": size, **row})
        print(table[-1], file=sys.stderr, flush=True)
        exact = given.scratch / f"ocsvm-{size}.npy"
        if name in ("ocsvm_chunking", "ocsvm_nystroem") and exact.exists():
            compared.append({"detector": name, "rows": size, **agreement(exact, keep)})
            print(compared[-1], file=sys.stderr, flush=True)
    noise = [planted_noise(given.noise_rows, seed) for seed in range(given.noise_seeds)]
    if given.keep:
        before = json.loads(given.out.read_text(encoding="utf-8"))
        before["scale"] = [row for row in before["scale"] if (row["detector"], row["rows"]) not in jobs] + table
        before["agreement_with_exact"] += compared
        before.setdefault("added", []).append(
            {"command": "python " + shlex.join(sys.argv), "load_average": os.getloadavg()}
        )
        write_json(given.out, before)
        return
    document = {
        "command": "python " + shlex.join(sys.argv),
        "machine": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "load_average": os.getloadavg(),  # what else ran: seconds are as noisy as this is high
        },
        "width": given.width,
        "patch_shape": PATCH_SHAPE,
        "scale": table,
        "agreement_with_exact": compared,
        "planted_noise": noise,
    }
    write_json(given.out, document)
    print(json.dumps(document["planted_noise"], indent=1))


if __name__ == "__main__":
    main()
