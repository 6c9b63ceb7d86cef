"""What an import makes of lists that are odd, incomplete, repeated or wrong."""

import gzip
import time
from pathlib import Path

import pytest

from datamgr.errors import InvalidError
from scanners.importers import tree
from tests.integration.scanners_importers.conftest import Imported

CSV = "path,kind,ino,nlink,uid,gid,size_bytes,mtime_s"
NO_LINKS = "path,kind,ino,uid,gid,size_bytes,mtime_s"


def lines(*records: str) -> bytes:
    return "".join(record + "\n" for record in records).encode()


def test_directories_that_are_not_listed_are_added_and_marked(imported: Imported) -> None:
    """The deepest directory that holds everything is the root; without names no allocation."""
    found = imported(
        "csv",
        lines("/a/b/c/d/f,f,1,1,5,6,700,8", "/a/b/x,d,2,1,5,6,4096,8", "/a/b/c-/f,f,3,1,5,6,7,8"),
        columns=CSV,
    )
    assert found.result.roots == (b"/a/b",)
    by_path = {row["path"]: row for row in found.dirs}
    assert sorted(by_path) == [b"/a/b", b"/a/b/c", b"/a/b/c-", b"/a/b/c/d", b"/a/b/x"]
    for path, row in by_path.items():
        assert row["error"] == (None if path == b"/a/b/x" else tree.NOT_LISTED)
        if row["error"]:
            assert (row["mode"], row["uid"], row["gid"], row["alloc_bytes"]) == (0, 0, 0, 0)
    ids = {path: row["dir_id"] for path, row in by_path.items()}
    assert by_path[b"/a/b/c/d"]["ancestors"] == [
        ids[b"/a/b"], ids[b"/a/b/c"], ids[b"/a/b/c/d"],
    ]  # fmt: skip
    assert by_path[b"/a/b"]["parent_id"] is None
    assert [by_path[path]["depth"] for path in (b"/a/b", b"/a/b/x", b"/a/b/c/d")] == [0, 1, 2]
    assert found.files == [b"/a/b/c-/f", b"/a/b/c/d/f"]


def test_ids_rise_within_the_files(imported: Imported) -> None:
    """Readers of one directory skip row groups by it."""
    records = [f"/a/{n % 7}/{n % 3}/{n},f,{n},1,5,6,7,8" for n in range(200)]
    found = imported("csv", lines(*records), columns=CSV)
    ids = [row["dir_id"] for row in found.entries]
    assert ids == sorted(ids)
    assert [row["dir_id"] for row in found.dirs] == list(range(1, 1 + 1 + 7 + 21))


def test_several_roots_and_what_lies_outside(imported: Imported) -> None:
    text = lines("/a/f,f,1,1,5,6,7,8", "/b/c/f,f,2,1,5,6,7,8")
    found = imported("csv", text, columns=CSV, roots=(b"/b/c", b"/a"))
    assert found.result.roots == (b"/a", b"/b/c")
    assert [row["depth"] for row in found.dirs] == [0, 0]
    with pytest.raises(InvalidError, match=r"line 2 .*outside of --root: /b/c/f"):
        imported("csv", text, columns=CSV, roots=(b"/a",))


@pytest.mark.parametrize("text", [b"", gzip.compress(b"", mtime=0)], ids=["plain", "gzip"])
def test_an_empty_list_is_refused(text: bytes, imported: Imported) -> None:
    """It is what a scanner leaves that failed."""
    with pytest.raises(InvalidError, match="nothing in the list"):
        imported("gpfs-list", text)


def test_a_root_with_nothing_in_it_is_refused(imported: Imported) -> None:
    with pytest.raises(InvalidError, match="nothing in the list lies in /b"):
        imported("csv", lines("/a/f,f,1,1,5,6,7,8"), columns=CSV, roots=(b"/a", b"/b"))


def test_only_directories(imported: Imported) -> None:
    found = imported("csv", lines("/a/b,d,1,1,5,6,7,8", "/a,d,2,1,5,6,7,8"), columns=CSV)
    assert (found.paths, found.entries) == ([b"/a", b"/a/b"], [])


def test_the_root_of_all(imported: Imported) -> None:
    found = imported("csv", lines("/f,f,1,1,5,6,7,8", "/,d,2,1,5,6,7,8"), columns=CSV)
    assert (found.paths, found.result.roots) == ([b"/"], (b"/",))
    assert found.dirs[0]["error"] is None


def test_a_path_counts_once(imported: Imported) -> None:
    """Listed twice, in one file or in two that overlap; the last change is what counts."""
    one = lines("/a,d,9,1,5,6,7,8", "/a/f,f,1,1,5,6,100,8", "/a/g,f,2,1,5,6,7,8")
    two = lines("/a,d,9,1,5,6,7,8", "/a/f,f,1,1,5,6,200,9", "/a/f,f,3,1,5,6,50,7")
    found = imported("csv", one, two, columns=CSV)
    assert {row["name"]: row["size_bytes"] for row in found.entries} == {b"f": 200, b"g": 7}
    assert len(found.dirs) == 1
    assert found.result.errors == {"repeated": 3}
    assert [row["path"] for row in found.errors] == [b"/a", b"/a/f", b"/a/f"]
    assert {row["nlink"] for row in found.entries} == {1}


def test_an_inode_with_one_link_at_two_paths(imported: Imported) -> None:
    """It moved while the list was made, or one path is gone: the roll-up counts number 0 once."""
    found = imported(
        "csv",
        lines("/a/old,f,7,1,5,6,100,8", "/b/new,f,7,1,5,6,100,8", "/b/x,f,8,1,5,6,7,8"),
        columns=CSV,
    )
    assert {row["name"]: row["nlink"] for row in found.entries} == {b"old": 0, b"new": 0, b"x": 1}
    assert found.named == {b"/b/new": "moved"}


def test_lists_without_link_counts(imported: Imported) -> None:
    """Every inode with several paths gets 0, and that is no error."""
    found = imported(
        "csv",
        lines("/a/1,f,7,5,6,100,8", "/b/2,f,7,5,6,100,8", "/b/3,f,8,5,6,7,8"),
        columns=NO_LINKS,
    )
    assert {row["name"]: row["nlink"] for row in found.entries} == {b"1": 0, b"2": 0, b"3": 1}
    assert found.errors == []


def test_lists_without_inodes(imported: Imported) -> None:
    """Nothing tells links, so that each counts."""
    found = imported(
        "csv", lines("/a/1,f,5,6,100,8", "/b/2,f,5,6,100,8"),
        columns="path,kind,uid,gid,size_bytes,mtime_s",
    )  # fmt: skip
    assert [row["nlink"] for row in found.entries] == [1, 1]


BAD = lines(
    "/a/1,f,1,1,5,6,7,8",
    '"/a/two\nlines",f,2,1,5,6,7,8',
    "/a/3,f,3,1,5,6,-7,8",
    "\x1b[31m,\u202e",
    "/a/5,f,5,1,5,6,9223372036854775808,8",
    "/a/6,f,6,1,5,6,7,8",
)


def test_an_unreadable_line_refuses_the_list(imported: Imported) -> None:
    with pytest.raises(InvalidError, match=r"list0, line 4 .*negative: /a/3,f"):
        imported("csv", BAD, columns=CSV)
    with pytest.raises(
        InvalidError, match=r"more than 2 lines.*list0, line 6: .*of size_bytes: /a/5"
    ):
        imported("csv", BAD, columns=CSV, max_bad=2)


def test_some_unreadable_lines_may_be_accepted(imported: Imported) -> None:
    found = imported("csv", BAD, columns=CSV, max_bad=3)
    assert found.files == [b"/a/1", b"/a/6", b"/a/two\nlines"]
    assert found.result.errors == {"unparsable": 3}
    assert [row["path"].rpartition(b"/")[2] for row in found.errors] == [
        b"list0, line 4", b"list0, line 5", b"list0, line 6",
    ]  # fmt: skip
    assert all(row["message"].isprintable() for row in found.errors)


def test_what_a_bad_quotation_mark_swallows_counts_as_lines(imported: Imported) -> None:
    """One bad record that may have been many lines is not one bad line."""
    text = lines('/a/1",f,1,1,5,6,7,8', *(f"/a/{n},f,{n},1,5,6,7,8" for n in range(2, 40)))
    with pytest.raises(InvalidError, match="more than 10 lines"):
        imported("csv", text, columns=CSV, max_bad=10)


def test_line_numbers_count_on_over_pieces(
    monkeypatch: pytest.MonkeyPatch, imported: Imported
) -> None:
    """Headers count, and each file begins anew."""
    from scanners.importers import pieces

    monkeypatch.setattr(pieces, "PIECE_BYTES", 300)
    good = "1|2|3|5|6|100644|7|%d|12:3f|/a/%d"
    text = lines(*(good % (n, n) for n in range(40)), "1|2|bad|/x", good % (99, 99))
    framed = b"#IDENT#|0|x|17|\n" + text + b"#complete#18\n"
    with pytest.raises(InvalidError, match=r"list1, line 42 .*1\|2\|bad\|/x"):
        imported("lester", b"#IDENT#|0|x|17|\n" + lines(good % (1, 1)) + b"#complete#\n", framed)


def test_names_with_newlines_are_joined_again(imported: Imported) -> None:
    """Where the next line cannot begin a record; what looks like one, but is none, is bad."""
    head = "[0x1:0x%x:0x0]\t%d\tf\t644\t1\t5\t6\t0\t7\t8\t1.0\t2.0\t3.0\t"
    plain = (head % (1, 1)) + "/a/x\ny\n\n1|2|z\t", (head % (2, 2)) + "/a/b"
    assert imported("lfs-find", lines(*plain)).files == [b"/a/b", b"/a/x\ny\n\n1|2|z\t"]
    forged = (head % (1, 1)) + "/a/x\n[0x1:0x1:0x0]\ty", (head % (2, 2)) + "/a/b"
    with pytest.raises(InvalidError, match="line 2 "):
        imported("lfs-find", lines(*forged))


GPFS = (
    b"%d 5 0  -rw-r--r--%%7C1%%7C5%%7C6%%7C700%%7C4%%7C2026-01-15%%2012%%3A00%%3A00.5"
    b"%%7C2099-01-15%%2012%%3A00%%3A00%%7C1969-12-31%%2023%%3A59%%3A58.5 -- /a/%s\n"
)


def test_carriage_returns_before_newlines(imported: Imported) -> None:
    """From whatever a list passed through."""
    text = (GPFS * 2 % (1, b"x", 2, b"%0D")).replace(b"\n", b"\r\n")
    assert imported("gpfs-list", text).files == [b"/a/\r", b"/a/x"]
    csv = lines("/a/1,f,1,1,5,6,7,8\r", '"/a/2\r\n",f,2,1,5,6,7,8\r')
    assert imported("csv", csv, columns=CSV).files == [b"/a/1", b"/a/2\r\n"]


def test_a_clock_that_is_ahead(imported: Imported) -> None:
    [row] = imported("gpfs-list", GPFS % (1, b"x")).entries
    assert row["mtime_s"] > time.time()
    assert row["ctime_s"] == -2


def test_a_line_of_ten_megabytes(imported: Imported) -> None:
    """It may be a name, or so many directories that they are not entered."""
    name = b"n" * 10_000_000
    found = imported("gpfs-list", GPFS * 2 % (1, name, 2, b"x"))
    assert found.files == [b"/a/" + name, b"/a/x"]
    found = imported("gpfs-list", GPFS * 2 % (1, b"x", 2, b"d/" * 5_000_000 + b"x"))
    assert (found.files, found.result.errors) == ([b"/a/x"], {"depth": 1})
    with pytest.raises(InvalidError, match=r"line 1 .*encoded") as raised:
        imported("gpfs-list", GPFS % (1, b"( " * 5_000_000))
    assert len(str(raised.value)) < 500


def test_deep_directories_are_counted_and_not_entered(imported: Imported) -> None:
    """As a walk has it: of one that is too deep it says so, of what lies in it nothing."""
    text = lines("/a/1/2/3/f,f,1,1,5,6,7,8", "/a/1/2,d,2,1,5,6,7,8", "/a/1/f,f,3,1,5,6,7,8",
                 "/a,d,4,1,5,6,7,8", "/a/1/2/f,f,5,1,5,6,7,8", "/a/x,d,6,1,5,6,7,8")  # fmt: skip
    found = imported("csv", text, columns=CSV, max_depth=1)
    assert found.files == [b"/a/1/f"]
    assert {row["path"]: row["error"] for row in found.dirs} == {
        b"/a": None, b"/a/1": tree.NOT_LISTED, b"/a/1/2": "depth", b"/a/x": None,
    }  # fmt: skip
    assert found.named == {b"/a/1/2": "depth"}


def test_bytes_that_are_no_utf8(imported: Imported) -> None:
    found = imported("gpfs-list", GPFS * 2 % (1, b"%FF%FE/%C3%28", 2, b"+"))
    assert found.files == [b"/a/+", b"/a/\xff\xfe/\xc3("]
    text = b"/a/\xff\xfe,f,1,1,5,6,7,8\n/a/b,f,2,1,5,6,7,8\n"
    assert imported("csv", text, columns=CSV).files == [b"/a/b", b"/a/\xff\xfe"]


def test_accesses_follow_the_modes_where_these_decide(imported: Imported) -> None:
    """Without that, and below what is not listed, nobody but staff sees anything."""
    text = lines("/a/b/f,f,1,5,6,7,8,,100644", "/a,d,2,5,6,7,8,,40755", "/a/b,d,3,5,6,7,8,,40750")
    columns = "path,kind,ino,uid,gid,size_bytes,mtime_s,-,mode"
    assert {row["access"] for row in imported("csv", text, columns=columns).dirs} == {None}
    found = imported("csv", text, columns=columns, modes_decide=True)
    # There is no directory above /a here that might forbid anything.
    assert [row["access"] for row in found.dirs] == ["", "110:5:6"]
    text = lines("/a/b/f,f,1,5,6,7,8", "/a,d,2,5,6,7,8")
    found = imported("csv", text, columns=NO_LINKS, modes_decide=True)
    assert {row["access"] for row in found.dirs} == {"!"}


def test_a_prefix(imported: Imported) -> None:
    text = b"#IDENT#|0|x|17|\n1|2|3|5|6|100644|7|8|12:3f|/a/b\n#complete#\n"
    found = imported("lester", text, prefix=b"/scratch/")
    assert (found.files, found.result.roots) == ([b"/scratch/a/b"], (b"/scratch/a",))


def test_gufi_in_both_of_its_forms(imported: Imported, tmp_path: Path) -> None:
    """With and without the lengths of texts, which alone tell where odd names end."""
    rest = b"\x1ef\x1e%d\x1e33188\x1e1\x1e5\x1e6\x1e7\x1e4096\x1e8\x1e1\x1e2\x1e3" + 11 * b"\x1e"
    names = [b"/a/b", b"/a/x\ny", b"/a/x\x1ef\x1e9"]
    plain = b"".join(name + rest % n + b"\n" for n, name in enumerate(names[:2], 1))
    assert imported("gufi-trace", plain + b"/a/db\x1ee\x1e\n").files == names[:2]
    counted = b"".join(
        b"%04x" % len(name) + name + rest % n + b"\n" for n, name in enumerate(names, 1)
    )
    assert imported("gufi-trace", counted).files == names
