"""However a list is cut, its records stay whole and none is lost."""

import gzip
import io
import subprocess
from pathlib import Path

import pytest

from datamgr.errors import InvalidError, NotFoundError
from scanners.importers import pieces
from scanners.importers.formats import by_name

CSV = "path,kind,uid,gid,size_bytes,mtime_s"
TEXTS = {
    "gpfs-list": b"".join(b"%d 1 0  x -- /a/%d\n" % (n, n) for n in range(50)),
    "lfs-find": b"".join(b"[0x1:0x%x:0x0]\t/a\n[b]\tc\n" % n for n in range(50)),
    "lester": b"".join(b"%d|2|3|/a\nb|c|\n" % n for n in range(50)),
    "gufi-trace": b"".join(b"/a\n%d\x1ed\x1e\n" % n for n in range(50)),
    "csv": b"".join(b'"/a\n""%d""\n",f\n' % n for n in range(50)),
}


def frame(name: str, text: bytes) -> bytes:
    return b"#IDENT#|0.9|x|17|\n" + text + b"#complete#18\n" if name == "lester" else text


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 50)
    monkeypatch.setattr(pieces, "STREAM_PIECE_BYTES", 50)
    monkeypatch.setattr(pieces, "_WINDOW_BYTES", 7)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd", "two gzip members"])
def test_pieces_hold_every_record_once(name: str, packed: str, tmp_path: Path) -> None:
    text, file = frame(name, TEXTS[name]), tmp_path / "list"
    middle = len(text) // 2
    packs = {
        "plain": lambda: text,
        "gzip": lambda: gzip.compress(text),
        "zstd": lambda: (
            subprocess.run(["zstd", "-c"], input=text, capture_output=True, check=True).stdout
        ),
        "two gzip members": lambda: gzip.compress(text[:middle]) + gzip.compress(text[middle:]),
    }
    file.write_bytes(packs[packed]())
    list_format = by_name(name, CSV if name == "csv" else None)
    cut = list(pieces.cut([str(file), str(file)], list_format))
    assert [piece.number for piece in cut] == list(range(len(cut)))
    assert len(cut) > 10
    texts = [piece.read() for piece in cut]
    assert b"".join(texts) == 2 * TEXTS[name]
    assert sum(piece.first_line is not None for piece in cut) == 2
    records = [record for text in texts for record in list_format.records(text)]
    assert records == 2 * list_format.records(TEXTS[name])
    assert len(records) == 100


@pytest.mark.usefixtures("tiny")
def test_standard_input_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(gzip.compress(TEXTS["gpfs-list"])))
    monkeypatch.setattr("sys.stdin", stdin)
    cut = pieces.cut(["-"], by_name("gpfs-list"))
    assert b"".join(piece.read() for piece in cut) == TEXTS["gpfs-list"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("gpfs-list", TEXTS["gpfs-list"][:-5], "cut short"),
        ("lfs-find", TEXTS["lfs-find"][:-1], "cut short"),
        ("gpfs-list", gzip.compress(TEXTS["gpfs-list"])[:-20], "Truncated"),
        ("gpfs-list", gzip.compress(TEXTS["gpfs-list"][:-5]), "cut short"),
        ("lester", TEXTS["lester"], "#IDENT#"),
        ("lester", b"", "#IDENT#"),
        ("lester", frame("lester", TEXTS["lester"])[:-20], "#complete#"),
        ("lester", frame("lester", TEXTS["lester"]) + b"1|2|3|/x\n", "#complete#"),
        ("lester", gzip.compress(frame("lester", TEXTS["lester"])[:-20]), "#complete#"),
    ],
)
def test_a_list_that_is_cut_short_is_refused(
    name: str, text: bytes, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "list"
    file.write_bytes(text)
    with pytest.raises(InvalidError, match=said):
        list(pieces.cut([str(file)], by_name(name)))


def test_what_is_no_list_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pieces, "LONGEST_RECORD_BYTES", 1000)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 50)
    monkeypatch.setattr(pieces, "STREAM_PIECE_BYTES", 50)
    monkeypatch.setattr(pieces, "_WINDOW_BYTES", 100)
    file = tmp_path / "list"
    file.write_bytes(b"x" * 10_000 + b"\n")
    for name in ("gpfs-list", "csv"):
        with pytest.raises(InvalidError, match="no record ends"):
            list(pieces.cut([str(file)], by_name(name, CSV if name == "csv" else None)))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        list(pieces.cut([str(tmp_path / "none")], by_name("lfs-find")))
    with pytest.raises(InvalidError, match="cannot be read"):
        list(pieces.cut([str(tmp_path)], by_name("lfs-find")))


def test_csv_may_end_without_a_newline(tmp_path: Path) -> None:
    """RFC 4180: the last record may or may not have an ending line break."""
    file = tmp_path / "list"
    file.write_bytes(b"/a,f\n/b,f")
    [piece] = pieces.cut([str(file)], by_name("csv", CSV))
    assert piece.read() == b"/a,f\n/b,f\n"
