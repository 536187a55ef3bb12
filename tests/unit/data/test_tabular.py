"""One reader for the tables that people give: separators, encodings, spellings, paths of Windows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from knowngood.data.labels import read_verdicts, with_verdicts
from knowngood.data.loading import load
from knowngood.data.sources.manifest import parse_boxes
from knowngood.data.tabular import is_table, located, number_of, open_table, read_frame, same_names
from knowngood.errors import DataError
from knowngood.tables import write_table

ROWS = [("Image", "Label", "Remark"), ("a.png", "OK", "x; y, z"), ("Bruch Ä.png", "NG", 'said "no"')]


def written(separator: str) -> str:
    cells = [[f'"{c}"' if '"' not in c else '"' + c.replace('"', '""') + '"' for c in row] for row in ROWS]
    return "\r\n".join(separator.join(row) for row in cells) + "\r\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "utf-32"])
def test_separators_and_encodings(tmp_path: Path, separator: str, encoding: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(written(separator).encode(encoding))
    frame = read_frame(file)
    assert frame.columns == ["image", "label", "remark"]
    assert frame.rows() == ROWS[1:]


def test_latin_1_bytes_that_windows_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("image,label\nM\xe4\x81.png,good\n".encode("latin-1"))
    assert read_frame(tmp_path / "t.csv").rows() == [("Mä\x81.png", "good")]


def test_what_spreadsheets_leave(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\n Image Path ;LABEL;;\na.png ; good;;\n\n;;;\nb.png;bad\n")
    table = open_table(tmp_path / "t.csv")
    assert table.columns == ("image_path", "label")
    assert table.place("image") == 0
    assert list(table.rows) == [["a.png", "good"], ["b.png", "bad"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,label,Label \na.png,good,bad\n", "two columns 'label' .'label', 'Label'."),
        ("file name,file-name,label\na,b,good\n", "two columns 'file_name'"),
        ("image,label\na.png,good,extra\n", "Row 2 .* has 3 cells, the header 2"),
        ("", "no header"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_frame(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["set.xlsx", "set.XLS", "set.ods"])
def test_spreadsheets_are_told_to_be_saved_as_csv(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\3\4")
    assert is_table(tmp_path / name)
    with pytest.raises(DataError, match=r"is a spreadsheet(.|\n)*CSV UTF-8"):
        load(tmp_path / name)


def test_a_text_file_is_a_table_only_with_a_column_of_images(tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("file\tclass\na.png\tgood\n")
    (tmp_path / "notes.txt").write_text("hello, this is a note\nfor you\n")
    assert is_table(tmp_path / "table.txt")
    assert not is_table(tmp_path / "notes.txt")


def test_numbers_and_boxes_with_decimal_commas() -> None:
    assert [number_of(text) for text in ("0,75", "0.75", " 1 ", "-2,5")] == [0.75, 0.75, 1, -2.5]
    assert parse_boxes("1,5;2;10,25;20") == [[1.5, 2, 10.25, 20]]
    assert parse_boxes("1,5 2 10,25 20") == [[1.5, 2, 10.25, 20]]
    assert parse_boxes("1,2,3,4") == parse_boxes("1, 2, 3, 4") == parse_boxes("[[1,2,3,4]]") == [[1, 2, 3, 4]]


def test_paths_of_windows(tmp_path: Path) -> None:
    (tmp_path / "line 1").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "line 1" / "a.png")
    wanted = str(tmp_path / "line 1" / "a.png")
    assert located("line 1\\a.png", tmp_path) == wanted
    assert located(".\\line 1\\a.png", tmp_path) == wanted
    assert located("D:\\photos\\2024\\line 1\\a.png", tmp_path) == wanted
    assert located("line 1/a.png", tmp_path) == wanted
    Image.new("L", (8, 8)).save(tmp_path / "odd\\name.png")  # a backslash may be part of a name here
    assert located("odd\\name.png", tmp_path) == str(tmp_path / "odd\\name.png")
    assert same_names(["x\\a.png", "b.png"], {"x/a.png", "b.png"}) == ["x/a.png", "b.png"]


def test_a_table_of_windows_with_other_names_is_a_set(tmp_path: Path) -> None:
    for name in ("good/1.png", "bad/2.png", "bad/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    head, *rows = (
        "File Name;Klasse;Probability",
        "good\\1.png;i.O.;0,25",
        "C:\\x\\bad\\2.png;NIO Teile;",
        "bad\\3.png;not sure;",
    )
    text = "\n".join([head, *rows])
    (tmp_path / "set.txt").write_bytes(text.encode("utf-16"))
    records = load(tmp_path / "set.txt")
    rows = records.frame.select("image", "label", "probability", "error").rows()
    assert rows == [("good/1.png", 0, 0.25, None), ("bad/2.png", 1, None, None), ("bad/3.png", None, None, None)]
    facts = {one.name: (one.label, one.images, one.guessed) for one in records.folders}
    assert facts == {
        "i.O.": ("good", 1, False),
        "NIO Teile": ("bad: bad", 1, True),
        "not sure": ("unlabelled", 1, False),
    }
    assert "'NIO Teile' is taken as bad, which is guessed" in records.notes[0]


LABELS = "image,label\na.png,{}\nb.png,{}\n"


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("0", "1"),
        ("0,0", "1,0"),
        ("0.0", "1.0"),
        ("false", "TRUE"),
        ("pass", "fail"),
        ("Gut", "Ausschuss"),
        ("O.K.", "N.G."),
    ],
)
def test_label_values(tmp_path: Path, good: str, bad: str) -> None:
    (tmp_path / "t.csv").write_text(LABELS.format(f'"{good}"', f'"{bad}"'))
    assert load(tmp_path / "t.csv").frame["label"].to_list() == [0, 1]


def test_labels_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(LABELS.format("Frontal", "Riss am Rand"))
    with pytest.raises(DataError, match=r"'Frontal'(.|\n)*--good 'Frontal'"):
        load(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"No label in .* is 'front'"):
        load(tmp_path / "t.csv", good=["front"], bad="riss am rand,frontal")
    frame = load(tmp_path / "t.csv", good="frontal").frame
    assert frame.select("label", "defect").rows() == [(0, None), (1, "Riss am Rand")]
    assert load(tmp_path / "t.csv", good=["Frontal"], bad=["RISS AM RAND"]).frame["label"].to_list() == [0, 1]


def test_verdicts_are_read_by_the_same_reader(tmp_path: Path) -> None:
    for name in ("good/1.png", "good/2.png", "good/3.png", "cut/4.png", "cut/5.png"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "set" / name)
    text = (
        "Verdict;Image;remark\nNIO;good\\1.png;\nremove;good/2.png;\nunsure;good/3.png;\nOK;cut\\4.png;\n ;cut/5.png;\n"
    )
    (tmp_path / "v.csv").write_bytes(text.encode("utf-16"))
    verdicts = read_verdicts(tmp_path / "v.csv")
    assert verdicts.select("image", "verdict").rows() == [
        ("good\\1.png", "bad"), ("good/2.png", "drop"), ("cut\\4.png", "good"),
    ]  # fmt: skip
    changed = with_verdicts(load(tmp_path / "set"), verdicts).frame
    assert dict(changed.select("image", "label").rows()) == {
        "cut/4.png": 0, "cut/5.png": 1, "good/1.png": 1, "good/3.png": 0,
    }  # fmt: skip
    (tmp_path / "w.csv").write_text("image,verdict\ngood/1.png,perhaps\n")
    with pytest.raises(DataError, match="perhaps"):
        read_verdicts(tmp_path / "w.csv")


def test_formulas_are_protected_and_come_back(tmp_path: Path) -> None:
    cells = ["=HYPERLINK(1)", "+1", "-x.png", "@a", "'=b", "plain", "it's", "'quoted'", None, "\t=c"]
    frame = pl.DataFrame({"image": cells, "score": [-0.5] * len(cells)})
    write_table(frame, tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[1] == "'=HYPERLINK(1),-0.5"
    assert lines[5] == "''=b,-0.5"
    assert lines[6] == "plain,-0.5"
    assert read_frame(tmp_path / "t.csv")["image"].to_list()[:9] == cells[:9]
    write_table(frame, tmp_path / "t.parquet")
    assert pl.read_parquet(tmp_path / "t.parquet").equals(frame)
