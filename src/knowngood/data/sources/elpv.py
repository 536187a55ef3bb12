"""The `elpv` set: 2,624 real photographs of solar cells from the package elpv-dataset."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from knowngood.data.records import BAD, GOOD, table
from knowngood.data.sources import Listing
from knowngood.errors import DataError

LICENCE = (
    "ELPV photographs: CC BY-NC-SA 4.0 (no commercial use); cite Deitsch et al., Segmentation "
    "of photovoltaic module cells in uncalibrated electroluminescence images, 2021."
)
_NOTES = (
    "A cell is bad when its annotated probability of a defect is at least 0.5; probabilities of 1/3 and 2/3 "
    "mean that the expert was not sure.",
    "The labels carry no module number, so cells of one solar module may fall on both sides of a split.",
    "Cells 1735 to 1784 were photographed again as 2277 to 2326, and many neighbours are cut from one "
    "crystal: near-duplicates are kept on one side of a split.",
)


class ElpvSource:
    """Reads `labels.csv` (image, probability, mono or poly) and the images that it names."""

    summary = "the word elpv: 2,624 solar cells of the package elpv-dataset (CC BY-NC-SA 4.0)"

    def recognises(self, path: Path) -> bool:
        """Returns whether `path` is the word elpv, or a folder with the set's label table."""
        if str(path) == "elpv" and not path.exists():
            return True
        labels = path / "labels.csv"
        if not labels.is_file() or not (path / "images").is_dir():
            return False
        with labels.open("rb") as handle:
            first = handle.readline(200).split()
        return len(first) == 3 and first[0].startswith(b"images/") and first[2] in (b"mono", b"poly")

    def read(self, path: Path) -> Listing:
        """Lists the cells with their probability of being defective.

        Raises:
            DataError: The package is not installed, or its label table is not as expected.
        """
        root = path if (path.is_dir() and str(path) != "elpv") or (path / "labels.csv").is_file() else _installed()
        labels = root / "labels.csv"
        rows: list[tuple[object, ...]] = []
        try:
            lines = labels.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(
                f"{str(labels)!r} cannot be read: {error.strerror}.",
                fix="pip install --force-reinstall elpv-dataset",
            ) from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_row(root, labels, number, line))
        if not rows:
            raise DataError(f"{str(labels)!r} lists no cells.", fix="pip install --force-reinstall elpv-dataset")
        names = ("image", "path", "label", "defect", "probability", "product")
        columns: dict[str, list[object]] = {n: [row[i] for row in rows] for i, n in enumerate(names)}
        return Listing(table(columns), licence=LICENCE, notes=_NOTES, root=root)


def _row(root: Path, labels: Path, number: int, line: str) -> tuple[object, ...]:
    try:
        name, text, product = line.split()
        probability = float(text)
    except ValueError as error:
        raise DataError(
            f"Line {number} of {str(labels)!r} is {line[:60]!r}.", expected="image, probability, mono or poly"
        ) from error
    bad = probability >= 0.5
    defect = "defective" if bad else None
    return name, str((root / name).absolute()), BAD if bad else GOOD, defect, probability, product


def _installed() -> Path:
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "The data set elpv is not installed.",
            expected="the package elpv-dataset (91 MB)",
            fix="pip install elpv-dataset",
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"
