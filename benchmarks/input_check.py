"""Does a recipe know its own photographs? Each of several products against the others, and against what is none.

Products: the look-alike's two packages (drawn here), the solar cells of elpv, all of them, single-crystal and
polycrystalline ones alone, and magnetic tiles (split by part). Of each, `--photographs` at most are divided: 60 %
train, 20 % held out, 20 % test, bads among them. Measured over seeds: which share of the test is called another product
(false alarms; 0.5 % at most are wanted), of goods and of bads; which share of every other product's photographs is
(caught; 99 % are wanted), of pictures that show no product (noise, clouds, ramps, text, crops of ordinary photographs),
and of the product's own in another light, moved, turned, mirrored; defect kinds that training has not seen; small sets;
two products in one set. Blank photographs are another check's work. At last the cost: milliseconds a photograph,
seconds to learn.

The descriptor's parts, the two distances and the margin were chosen on the same sets, with other seeds.

    python benchmarks/input_check.py
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
import polars as pl
from magnetic_tile import DATA
from sklearn.datasets import load_sample_images

from knowngood.data.appearance import describe
from knowngood.data.images import decode
from knowngood.data.loading import load
from knowngood.data.pixels import fit
from knowngood.data.records import BAD
from knowngood.files import write_json
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.generate import generate
from knowngood.models.classifier import input_size
from knowngood.recipe.input_check import InputCheck, InputFacts, described, fit_distances
from knowngood.workflows.runs import versions

RESULTS = Path(__file__).parent / "results"
AREA = 224
Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Product:
    """One product's photographs, grey, at their own sizes.

    Attributes:
        images: Each (H, W) uint8.
        bad: (N,) bool.
        defects: Kind of each, or None.
        groups: (N,) of which part it is one of the photographs.
    """

    images: Sequence[Pixels]
    bad: npt.NDArray[np.bool_]
    defects: Sequence[str | None]
    groups: Rows

    def of(self, rows: Rows) -> Product:
        """The photographs in some rows."""
        kinds = [self.defects[row] for row in rows]
        return Product([self.images[row] for row in rows], self.bad[rows], kinds, self.groups[rows])


def products(folder: Path, tiles_at: Path, most: int, seed: int) -> dict[str, Product]:
    """All products, so many photographs of each at most."""
    made: dict[str, Product] = {}
    for family in ("sod", "sot23"):
        config = TapeConfig(train=most, test=0, family=family, bad_rate=0.3, abnormal=0, masks=False, seed=seed)
        made[family] = _product(load(generate(folder / family, config, workers=1)).frame, most, seed)
    cells = load("elpv").frame
    made["elpv"] = _product(cells, most, seed)
    for kind in ("mono", "poly"):
        made[kind] = _product(cells.filter(pl.col("product") == kind), most, seed)
    tiles = load(tiles_at).frame.with_columns(file=pl.col("path").str.extract(r"((?:good|bad)/[^/]+)$"))
    tiles = tiles.join(pl.read_csv(tiles_at / "groups.csv").select("file", "part_group"), on="file")
    made["tiles"] = _product(tiles, most, seed, "part_group")
    return made


def _product(frame: pl.DataFrame, most: int, seed: int, group: str | None = None) -> Product:
    frame = frame.sample(min(most, len(frame)), seed=seed, shuffle=True)
    images = [one if one.ndim == 2 else one[..., 0] for one in map(decode, frame["path"])]
    groups = np.arange(len(frame)) if group is None else frame[group].to_numpy()
    return Product(images, (frame["label"] == BAD).to_numpy(), frame["defect"].to_list(), groups)


def no_products(seed: int) -> dict[str, list[Pixels]]:
    """Pictures that show no product: 30 of each kind."""
    random = np.random.default_rng([seed, 1])
    shown = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in load_sample_images().images]
    portrait = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"), 0)
    shown += [] if portrait is None else [portrait]

    def noise() -> Pixels:
        return random.integers(0, 256, (AREA, AREA)).astype(np.uint8)

    def clouds() -> Pixels:
        soft = cv2.GaussianBlur(random.normal(size=(AREA, AREA)), (0, 0), random.uniform(2, 30))
        return cv2.normalize(soft, np.empty_like(soft), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)

    def ramp() -> Pixels:
        angle, line = random.uniform(0, 2 * np.pi), np.linspace(-1, 1, AREA)
        return np.rint(127.5 + 90 * (np.cos(angle) * line + np.sin(angle) * line[:, None])).astype(np.uint8)

    def text() -> Pixels:
        page = np.full((AREA, AREA), 255, np.uint8)
        for y in range(20, AREA, 18):
            letters = "".join(chr(random.integers(33, 126)) for _ in range(20))
            cv2.putText(page, letters, (4, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0, 1)
        return page

    def ordinary() -> Pixels:
        one = shown[random.integers(len(shown))]
        side = int(random.integers(120, min(one.shape)))
        y, x = (int(random.integers(0, size - side + 1)) for size in one.shape)
        return one[y : y + side, x : x + side]

    kinds = {"noise": noise, "clouds": clouds, "ramps": ramp, "text": text, "ordinary photographs": ordinary}
    return {name: [draw() for _ in range(30)] for name, draw in kinds.items()}


def warped(image: Pixels, turn: float = 0, aside: float = 0, zoom: float = 1) -> Pixels:
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, zoom)
    matrix[:, 2] += aside * width, aside * height
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "20 % brighter": lambda one: cv2.convertScaleAbs(one, alpha=1.2).astype(np.uint8),
    "20 % darker": lambda one: cv2.convertScaleAbs(one, alpha=0.8).astype(np.uint8),
    "turned by 3 degrees": lambda one: warped(one, turn=3),
    "moved by 3 % down and across": lambda one: warped(one, aside=0.03),
    "JPEG, quality 50": lambda one: np.asarray(cv2.imdecode(cv2.imencode(".jpg", one, [1, 50])[1], 0), np.uint8),
    "blurred, sigma 1": lambda one: cv2.GaussianBlur(one, (0, 0), 1).astype(np.uint8),
    "noisier by 3 grey levels": lambda one: np.clip(
        one + np.random.default_rng(0).normal(0, 3, one.shape), 0, 255
    ).astype(np.uint8),
    "mirrored": lambda one: one[:, ::-1],
    "upside down": lambda one: one[::-1, ::-1],
    "turned by a quarter": np.rot90,
    "nearer by 30 %": lambda one: warped(one, zoom=1.3),
    "negative": lambda one: 255 - one,
}
HARMLESS = tuple(CHANGES)[:7]


class Trial:
    """A check learned from one division of one product."""

    def __init__(
        self, product: Product, seed: int, keep: Callable[[str | None], bool] = lambda _: True, *, bads: bool = True
    ) -> None:
        sizes = [(one.shape[0], one.shape[1]) for one in product.images]
        self.size, self.product = input_size(sizes, AREA), product
        parts = np.unique(product.groups)
        share = dict(zip(parts, np.random.default_rng([seed, 2]).random(len(parts)), strict=True))
        place = np.array([share[one] for one in product.groups])
        known = np.array([keep(one) for one in product.defects]) & (bads | ~product.bad)
        train, held_out = np.flatnonzero(known & (place < 0.6)), np.flatnonzero(known & (place >= 0.6) & (place < 0.8))
        self.test: Rows = np.flatnonzero(place >= 0.8)
        began = time.perf_counter()
        found = fit_distances(
            self.fitted(product.of(train).images), self.fitted(product.of(held_out).images), seed, bads=bads
        )
        self.seconds = time.perf_counter() - began
        assert found is not None
        distances, self.limits, count = found
        facts = InputFacts(colour=False, narrowest=1, widest=1, limits=self.limits, held_out=count)
        self.check = InputCheck(facts.model_copy(update={"learned_from": len(train)}), distances)

    def fitted(self, images: Sequence[Pixels]) -> list[Pixels]:
        return [fit(np.ascontiguousarray(one), *self.size, 1) for one in images]

    def flagged(self, images: Sequence[Pixels]) -> float:
        """Share of photographs that are called another product."""
        if not images:
            return float("nan")
        return float((self.check.times_the_limit(described(self.fitted(images))) > 1).mean())


def measured(own: str, every: Mapping[str, Product], nothing: Mapping[str, list[Pixels]], seed: int) -> dict[str, Any]:
    """Everything about one product and one seed."""
    trial = Trial(every[own], seed)
    test = every[own].of(trial.test)
    goods, bads = (test.of(np.flatnonzero(test.bad == bad)).images for bad in (False, True))
    cells = ("elpv", "mono", "poly")
    related = cells if own in cells else (own,)
    good_only = Trial(every[own], seed, bads=False)
    every_bad = every[own].of(np.flatnonzero(every[own].bad)).images
    return {
        "learned from": trial.check.facts.learned_from,
        "distances": trial.check.facts.held_out,
        "limits": [round(one, 3) for one in trial.limits],
        "seconds": round(trial.seconds, 2),
        "test": {"goods": len(goods), "bads": len(bads)},
        "false alarms": {"all": trial.flagged(test.images), "goods": trial.flagged(goods), "bads": trial.flagged(bads)},
        "caught": {n: trial.flagged(p.images) for n, p in every.items() if n not in related}
        | {n: trial.flagged(images) for n, images in nothing.items()},
        "caught of the other kind of cells": {
            n: trial.flagged(p.images) for n, p in every.items() if {n, own} == {"mono", "poly"}
        },
        "good parts only": {
            "false alarms": good_only.flagged(goods),
            "bads": good_only.flagged(every_bad),
            "caught": {n: good_only.flagged(p.images) for n, p in every.items() if n not in related},
        },
        "changed": {n: trial.flagged([change(one) for one in test.images]) for n, change in CHANGES.items()},
    }


def unseen_kinds(product: Product, seed: int) -> dict[str, dict[str, float]]:
    """Of each kind of defect, the share that is called another product where training has seen none of the kind."""
    made = {}
    for kind in sorted({one for one in product.defects if one is not None}):
        trial = Trial(product, seed, lambda one, kind=kind: one != kind)  # type: ignore[misc]
        shown = [one for one, found in zip(product.images, product.defects, strict=True) if found == kind]
        made[kind] = {"photographs": len(shown), "flagged": trial.flagged(shown)}
    return made


def small_sets(every: Mapping[str, Product], sizes: Sequence[int], seeds: Sequence[int]) -> dict[str, Any]:
    """False alarms on the rest of the set, and what is caught of the others, of checks from few photographs."""
    made: dict[str, Any] = {}
    for own in ("sod", "sot23", "elpv", "tiles"):
        others = [one for name in ("sod", "sot23", "elpv", "tiles") if name != own for one in every[name].images[:100]]
        for size in sizes:
            alarms, caught = [], []
            for seed in seeds:
                rows = np.random.default_rng([seed, 3]).permutation(len(every[own].images))
                trial = Trial(every[own].of(rows[:size]), seed)
                alarms.append(trial.flagged(every[own].of(rows[size : size + 300]).images))
                caught.append(trial.flagged(others))
            made[f"{own}, {size}"] = {"false alarms": _mean(alarms), "caught": _mean(caught)}
    return made


def mixed(every: Mapping[str, Product], seed: int) -> dict[str, Any]:
    """Two products in one set: both are known, the others are not."""
    made = {}
    for pair in combinations(("sod", "sot23", "elpv", "tiles"), 2):
        first, second = (every[name] for name in pair)
        groups = np.concatenate([first.groups, second.groups + 1_000_000])
        bad = np.concatenate([first.bad, second.bad])
        both = Product([*first.images, *second.images], bad, [*first.defects, *second.defects], groups)
        trial = Trial(both, seed)
        others = {name: trial.flagged(every[name].images) for name in ("sod", "sot23", "elpv", "tiles")}
        made[" and ".join(pair)] = {
            "false alarms": trial.flagged(both.of(trial.test).images),
            "caught": {name: share for name, share in others.items() if name not in pair},
        }
    return made


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def _means(rows: Sequence[Any]) -> Any:
    """Means of equal documents, number by number."""
    if isinstance(rows[0], dict):
        return {name: _means([row[name] for row in rows]) for name in rows[0]}
    return [_means(list(some)) for some in zip(*rows, strict=True)] if isinstance(rows[0], list) else _mean(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=1000, help="of a product, at most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tiles", type=Path, default=DATA, help="folder of the magnetic tiles")
    parser.add_argument("--out", type=Path, default=RESULTS / "input_check.json")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    seeds = range(10, 10 + given.seeds)
    rows: dict[str, list[Any]] = {}
    unseen: dict[str, list[Any]] = {}
    few: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            every, nothing = products(Path(folder) / str(seed), given.tiles, given.photographs, seed), no_products(seed)
            for own in every:
                rows.setdefault(own, []).append(measured(own, every, nothing, seed))
                found = rows[own][-1]
                print(seed, own, found["false alarms"], "least caught", min(found["caught"].values()), flush=True)
            for own in ("sod", "sot23"):
                unseen.setdefault(own, []).append(unseen_kinds(every[own], seed))
        few = small_sets(every, (30, 60, 120, 300), seeds)
        pairs = mixed(every, seeds[-1])
    photograph = fit(every["sod"].images[0], AREA, AREA, 1)
    times = [_timed(lambda: describe(photograph)) for _ in range(2000)]
    document = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "gpu": None},
        "versions": versions(),
        "seeds": list(seeds),
        "harmless changes": list(HARMLESS),
        "products": {own: _means(found) for own, found in rows.items()},
        "worst false alarms of a seed": {n: max(r["false alarms"]["all"] for r in found) for n, found in rows.items()},
        "least caught of a seed": {n: min(min(r["caught"].values()) for r in found) for n, found in rows.items()},
        "defect kinds that training has not seen": {
            own: {kind: _means([one[kind] for one in found if kind in one]) for kind in found[0]}
            for own, found in unseen.items()
        },
        "small sets": few,
        "two products in one set": pairs,
        "milliseconds a photograph": round(1000 * float(np.median(times)), 3),
    }
    write_json(given.out, document)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
