"""Where photographs come from: folders, archives, tables, standard input, URLs."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from knowngood.data.images import decode
from knowngood.errors import DataError, ImageError
from knowngood.recipe.archives import members
from knowngood.recipe.inputs import item_at, stream


@pytest.fixture
def folder(parts: Path) -> Path:
    return parts / "chip"


def contents(found):
    return [(os.path.basename(item.name), item.read()) for item in found.items]


@pytest.fixture
def wanted(folder):
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def test_a_folder_and_files(folder, wanted):
    found = stream(folder)
    assert found.total == len(wanted)
    assert contents(found) == wanted
    assert contents(stream([folder, folder / wanted[0][0]])) == wanted  # once
    assert contents(stream(str(folder / wanted[2][0]))) == [wanted[2]]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_archives(folder, wanted, tmp_path, kind):
    path = tmp_path / f"some.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"in/{file.name}")
            archive.writestr("in/notes.txt", "not a picture")
            archive.writestr("in/empty.png", "")
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.add(file, f"in/{file.name}")
            archive.addfile(tarfile.TarInfo("in/empty.png"))
    found = list(stream(path).items)
    assert [item.name for item in found[:-1]] == [f"{path}/in/{name}" for name, _ in wanted]
    assert [item.read() for item in found[:-1]] == [data for _, data in wanted]
    with pytest.raises(ImageError, match="empty"):
        found[-1].read()


@pytest.mark.parametrize("kind", ["tar", "zip", "url"])
def test_pages_of_tiff_files_in_archives_and_behind_urls(tmp_path, kind):
    import fsspec

    frames = [Image.new("L", (20, 10), value) for value in (10, 200)]
    file = io.BytesIO()
    frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.png")
    (tmp_path / "s.tif").write_bytes(file.getvalue())
    place = tmp_path / f"some.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name in ("s.tif", "a.png"):
                archive.write(tmp_path / name, name)
    elif kind == "tar":
        with tarfile.open(place, "w") as archive:
            for name in ("s.tif", "a.png"):
                archive.add(tmp_path / name, name)
    else:
        place = "memory://pages-test"
        for name in ("s.tif", "a.png"):
            fsspec.filesystem("memory").pipe(f"/pages-test/{name}", (tmp_path / name).read_bytes())
    items = list(stream(place).items)
    assert sorted(item.name.rsplit("/", 1)[1] for item in items) == ["a.png", "s.tif#page=1", "s.tif#page=2"]
    assert {item.name.rsplit("/", 1)[1]: decode(item.read()).max() for item in items} == {
        "a.png": 10,
        "s.tif#page=1": 10,
        "s.tif#page=2": 200,
    }
    for number, item in enumerate(stream(place, contents=False).items):  # as a cluster lists and reads them again
        if kind == "url":
            assert item_at(item.name, item.place).read() == items[number].read()
        else:
            assert item.member == number
            assert next(members(place, number))[1]() == items[number].read()


def test_a_damaged_archive_is_told(tmp_path):
    for name in ("a.tar", "a.zip"):
        (tmp_path / name).write_bytes(b"nonsense" * 200)
        with pytest.raises(DataError, match="cannot be read"):
            list(stream(tmp_path / name).items)


def test_tables_name_paths_beside_them(folder, wanted, tmp_path):
    paths = [os.path.relpath(folder / name, tmp_path) for name, _ in wanted]
    (tmp_path / "list.csv").write_text("label,image\n" + "".join(f"bad,{path}\n" for path in paths))
    pl.DataFrame({"path": paths}).write_parquet(tmp_path / "list.parquet")
    for name in ("list.csv", "list.parquet"):
        assert contents(stream(tmp_path / name)) == wanted
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column image or path"):
        list(stream(tmp_path / "other.csv").items)


def test_standard_input_names_a_path_a_line(folder, wanted):
    lines = "".join(f"{folder / name}\n" for name, _ in wanted)
    assert contents(stream("-", stdin=io.StringIO(lines + "\n"))) == wanted
    with pytest.raises(DataError, match="No picture in -"):
        stream("-", stdin=io.StringIO(""))
    (missing,) = stream("-", stdin=io.StringIO("nowhere.png")).items
    with pytest.raises(ImageError, match="no file"):
        missing.read()


def test_urls(folder, wanted):
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, data in wanted:
        memory.pipe(f"/plant/line1/{name}", data)
    memory.pipe("/plant/line1/notes.txt", b"no picture")
    memory.pipe("/plant/empty.png", b"")
    try:
        found = list(stream("memory://plant/line1").items)
        assert [item.name for item in found] == [f"memory://plant/line1/{name}" for name, _ in wanted]
        assert [item.read() for item in found] == [data for _, data in wanted]
        (one,) = stream("memory://plant/empty.png").items
        with pytest.raises(ImageError, match="empty"):
            one.read()
        with pytest.raises(DataError, match="There is no memory://plant/nowhere"):
            stream("memory://plant/nowhere")
        for wrong in ("nonsense://plant", "reference://plant", "simplecache::memory://plant", "zip://a::memory://b"):
            with pytest.raises(DataError, match="no protocol that is read here"):
                stream(wrong)
        assert contents(stream(folder.as_uri())) == wanted
    finally:
        memory.rm("/plant", recursive=True)


def test_a_bad_url_in_a_table_costs_its_row(tmp_path, wanted, monkeypatch):
    import fsspec

    def no_such_thing(*_args: object, **_more: object) -> None:
        raise AssertionError("a reference file system was made")

    monkeypatch.setattr("fsspec.implementations.reference.ReferenceFileSystem.__init__", no_such_thing)
    fsspec.filesystem("memory").pipe("/table/one.png", wanted[0][1])
    bad = {
        "reference://": "no protocol that is read here",
        "reference://?fo=memory://evil.json": "no protocol",
        "filecache::reference://x": "no protocol",
        "github://a:b@c/d.png": "no protocol",
        "nonsense://x.png": "no protocol",
        "memory://table/nowhere.png": "cannot be read",
        "http://127.0.0.1:1/one.png": "cannot be read",
        "http://[::bad/one.png": "",
        "http://": "",
        "s3://bucket/one.png": "needs the package s3fs",
    }
    path = tmp_path / "urls.csv"
    path.write_text("image\n" + "\n".join(["memory://table/one.png", *bad, "memory://table/one.png?again"]) + "\n")
    items = list(stream(path).items)
    assert [item.name for item in items][1:-1] == list(bad)
    assert items[0].read() == wanted[0][1]
    for item, why in zip(items[1:-1], bad.values(), strict=True):
        with pytest.raises(ImageError, match=why or item.name[:7]):
            item.read()


def test_names_are_listed_as_they_are_taken(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("image\n" + "".join(f"{n}.png\n" for n in range(50_000)))
    found = stream(path)
    assert os.path.basename(next(found.items).name) == "0.png"
    assert found.total is None


def test_what_archives_and_urls_hold_besides_photographs(folder, wanted, tmp_path):
    import fsspec

    image = wanted[0][1]
    files = {
        "in/a.png": image,
        "in/IMG_7": image,
        "in/IMG_8.HEIC": image,
        "in/sensor.raw": bytes(range(256)),
        "in/notes.txt": b"no picture",
        "in/.DS_Store": b"\0",
        "in/Thumbs.db": b"\0",
        "__MACOSX/in/._a.png": b"\0\5\x16\7",
    }
    memory = fsspec.filesystem("memory")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped, tarfile.open(tmp_path / "a.tgz", "w:gz") as tarred:
        for name, data in files.items():
            zipped.writestr(name, data)
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            tarred.addfile(facts, io.BytesIO(data))
            memory.pipe(f"/mixed/{name}", data)
    try:
        for place in (tmp_path / "a.zip", tmp_path / "a.tgz", "memory://mixed"):
            found = stream(place)
            items = {item.name.rsplit("/", 1)[-1]: item for item in found.items}
            assert set(items) == {"a.png", "IMG_7", "IMG_8.HEIC", "sensor.raw"}, place
            assert all(items[name].read() == image for name in ("a.png", "IMG_7", "IMG_8.HEIC"))
            with pytest.raises(ImageError, match=r"sensor.raw' has the ending .raw, which is not read"):
                items["sensor.raw"].read()
            assert found.passed_over.counts == {"the ending .txt, which photographs do not have": 1}
    finally:
        memory.rm("/mixed", recursive=True)


def test_a_member_is_found_again_by_its_number(folder, wanted, tmp_path):
    from knowngood.recipe.archives import members

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in {
            "x.txt": b"no",
            "a.raw": b"\1\2",
            "b.png": wanted[0][1],
            ".c.png": b"",
            "d.png": b"d",
        }.items():
            archive.writestr(name, data)
    whole = [name for name, _ in members(tmp_path / "a.zip", contents=False)]
    assert [name.rsplit("/", 1)[-1] for name in whole] == ["a.raw", "b.png", "d.png"]
    for start in range(3):
        assert [name for name, _ in members(tmp_path / "a.zip", start)] == whole[start:]


def test_tables_of_any_kind_name_photographs(folder, wanted, tmp_path):
    paths = [os.path.relpath(folder / name, tmp_path) for name, _ in wanted]
    windows = "\r\n".join(["Label;File Name", *(f"NG;{path}".replace("/", "\\") for path in paths)])
    (tmp_path / "list.csv").write_bytes(windows.encode("utf-16"))
    (tmp_path / "list.txt").write_text("\n".join(["label|path", *(f"NG|{path}" for path in paths)]))
    for name in ("list.csv", "list.txt"):
        assert contents(stream(tmp_path / name)) == wanted
    (tmp_path / "list.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="is a spreadsheet"):
        list(stream(tmp_path / "list.xlsx").items)
