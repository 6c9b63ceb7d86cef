"""`datamgr find` finds what a walk with the same question finds."""

import base64
import csv
import io
import json
import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datamgr.cli import main
from scanners import record
from tests.commands import DATAMGR, call, run_command
from tests.integration.find.conftest import Scanned
from tests.mounts import needs_root
from tests.trees import DAY_S, MIB

pytestmark = [needs_root, pytest.mark.root]
Test = Callable[[bytes, os.stat_result], bool]


def walked(scanned: Scanned, test: Test) -> set[bytes]:
    """The paths below the root, itself included, for which the test holds."""
    top = os.fsencode(scanned.root)
    found = [top]
    for path, directories, files in os.walk(top):
        found += [os.path.join(path, name) for name in (*directories, *files)]
    return {path for path in found if test(path, os.lstat(path))}


Found = Callable[..., list[bytes]]


@pytest.fixture
def found(scanned: Scanned, capfdbinary: pytest.CaptureFixture[bytes]) -> Found:
    """The bytes that `datamgr find … --null` prints, as paths."""

    def run(*arguments: str | bytes | Path) -> list[bytes]:
        assert main.run(["find", *map(os.fsdecode, arguments), "--null"]) == 0
        printed = capfdbinary.readouterr().out
        assert printed.endswith(b"\0") or not printed
        return printed.split(b"\0")[:-1]

    return run


def kind_of(status: os.stat_result) -> str:
    return record.KINDS[stat.S_IFMT(status.st_mode) >> 12]


def name_of(path: bytes) -> bytes:
    return os.path.basename(path)


def test_without_criteria_everything_is_found_once(scanned: Scanned, found: Found) -> None:
    paths = found()
    assert len(paths) == len(set(paths))
    assert set(paths) == walked(scanned, lambda *_: True)


CASES: list[tuple[list[str], Callable[[Scanned], Test]]] = [
    (["--kind", "f"], lambda s: lambda p, st: kind_of(st) == "f"),
    (["--kind", "d"], lambda s: lambda p, st: kind_of(st) == "d"),
    (["--kind", "l,p"], lambda s: lambda p, st: kind_of(st) in "lp"),
    (["--larger-than", "1M"], lambda s: lambda p, st: st.st_size > MIB),
    (["--smaller-than", "4k", "--kind", "f"],
     lambda s: lambda p, st: st.st_size < 4096 and kind_of(st) == "f"),
    (["--older-than", "1y"], lambda s: lambda p, st: st.st_mtime < s.started_s - 365 * DAY_S),
    (["--newer-than", "30d", "--kind", "f"],
     lambda s: lambda p, st: st.st_mtime > s.started_s - 30 * DAY_S and kind_of(st) == "f"),
    (["--older-than", "150d", "--newer-than", "1y"],
     lambda s: lambda p, st: s.started_s - 365 * DAY_S < int(st.st_mtime)
     < s.started_s - 150 * DAY_S),
    (["--older-than", "1y", "--basis", "atime"],
     lambda s: lambda p, st: st.st_atime < s.started_s - 365 * DAY_S),
    (["--newer-than", "1d", "--basis", "ctime", "--kind", "f"],
     lambda s: lambda p, st: kind_of(st) == "f"),
    (["--user", "60001"], lambda s: lambda p, st: st.st_uid == 60_001),
    (["--group", "60102"], lambda s: lambda p, st: st.st_gid == 60_102),
    (["--user", "root", "--kind", "d"],
     lambda s: lambda p, st: st.st_uid == 0 and kind_of(st) == "d"),
    (["--name", "*.h5"], lambda s: lambda p, st: name_of(p).endswith(b".h5")),
    (["--name", "run?"], lambda s: lambda p, st: name_of(p).startswith(b"run")),
    (["--path-glob", "*/run[13]/*"], lambda s: lambda p, st: b"/run1/" in p or b"/run3/" in p),
    (["--path-glob", "*\n*"], lambda s: lambda p, st: b"\n" in p),
    (["--project", "alpha"], lambda s: lambda p, st: below(s, p, "alpha")),
    (["--project", "beta", "--name", "*.txt"],
     lambda s: lambda p, st: below(s, p, "beta") and p.endswith(b".txt")),
    (["--project", "alpha", "--larger-than", "1M", "--older-than", "100d", "--user", "60001",
      "--kind", "f", "--name", "*.h5"],
     lambda s: lambda p, st: below(s, p, "alpha") and st.st_size > MIB and p.endswith(b".h5")
     and st.st_mtime < s.started_s - 100 * DAY_S),
    (["--kind", "b"], lambda s: lambda p, st: False),
]  # fmt: skip


def below(scanned: Scanned, path: bytes, *parts: str) -> bool:
    top = os.fsencode(scanned.root.joinpath(*parts))
    return path == top or path.startswith(top + b"/")


def test_every_criterion_means_what_it_says(
    scanned: Scanned, capfd: pytest.CaptureFixture[str]
) -> None:
    empty = []
    for arguments, question in CASES:
        assert main.run(["find", *arguments, "--json"]) == 0
        rows = json.loads(capfd.readouterr().out)["rows"]
        paths = [base64.b64decode(r["path_b64"]) if "path_b64" in r else r["path"].encode()
                 for r in rows]  # fmt: skip
        wanted = walked(scanned, question(scanned))
        assert (len(paths), set(paths)) == (len(wanted), wanted), arguments
        if not wanted:
            empty.append(arguments)
    assert empty == [["--kind", "b"]]


@pytest.mark.parametrize("parts", [("alpha",), ("alpha", "run2"), ("odd",), ()])
def test_below_a_directory(scanned: Scanned, found: Found, parts: tuple[str, ...]) -> None:
    top = scanned.root.joinpath(*parts)
    assert set(found(top)) == walked(scanned, lambda path, _: below(scanned, path, *parts))


def test_patterns_and_paths_are_bytes(scanned: Scanned, found: Found) -> None:
    for pattern, test in [
        (b"*\xff*", lambda name: b"\xff" in name),
        (b"*['\"]*", lambda name: b"'" in name or b'"' in name),
        (b"\\*\\ *", lambda name: name.startswith(b"* ")),
        (b"?", lambda name: len(name) == 1),
    ]:
        wanted = walked(scanned, lambda path, _, test=test: test(name_of(path)))
        assert wanted
        assert set(found(b"--name", pattern)) == wanted
    odd = os.path.join(os.fsencode(scanned.root), b"odd", b"\xc3\x28")
    assert found(odd) == [odd, odd + b"/\xc3\x28"]


def test_a_relative_path_is_of_this_directory(
    scanned: Scanned, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scanned.root / "alpha")
    assert set(found("run1/../run0/.")) == walked(
        scanned, lambda path, _: below(scanned, path, "alpha", "run0")
    )


def test_an_archiver_takes_what_is_found(scanned: Scanned, tmp_path: Path) -> None:
    archive = tmp_path / "odd.tar"
    command = f"{' '.join(DATAMGR)} find {scanned.root}/odd --kind f --null"
    subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {command} | tar -c --null -T - -f {archive} -P"],
        check=True, timeout=60,
    )  # fmt: skip
    subprocess.run(["tar", "-d", "-P", "-f", archive], check=True, timeout=60)
    listed = subprocess.run(["tar", "-tf", archive, "-P"], capture_output=True, check=True).stdout
    assert len(listed.splitlines()) == len(
        walked(scanned, lambda p, st: below(scanned, p, "odd") and kind_of(st) == "f")
    )


@pytest.mark.parametrize("limit", [[], ["--limit", "7"]])
def test_orders(scanned: Scanned, found: Found, limit: list[str]) -> None:
    number = 7 if limit else None
    everything = walked(scanned, lambda *_: True)
    status = {path: os.lstat(path) for path in everything}
    orders: dict[str, Callable[[bytes], object]] = {
        "path": lambda path: path,
        "size": lambda path: (-status[path].st_size, path),
        "age": lambda path: (int(status[path].st_mtime_ns // 10**9), path),
    }
    for order, key in orders.items():
        assert found("--sort", order, *limit) == sorted(everything, key=key)[:number]
    # What was read since the scan, by this comparison or another test, has another time now.
    still = {path for path in everything if status[path].st_atime < scanned.started_s}
    files = [path for path in still if kind_of(status[path]) == "f"]
    by_reading = sorted(files, key=lambda path: (int(status[path].st_atime_ns // 10**9), path))
    asked = ("--sort", "age", "--basis", "atime", "--kind", "f")
    shown = found(*asked)
    assert [path for path in shown if path in still] == by_reading
    assert found(*asked, *limit) == shown[:number]


def test_a_limit_without_an_order(scanned: Scanned, found: Found) -> None:
    assert len(found("--limit", "5")) == 5
    assert set(found("--limit", "5")) <= walked(scanned, lambda *_: True)


def test_json_is_one_object_with_a_line_for_each_row(
    scanned: Scanned, capfd: pytest.CaptureFixture[str]
) -> None:
    done = call(capfd, "find", scanned.root / "beta/large", "--json")
    assert (done.exit_code, done.stdout) == (3, "")
    done = call(capfd, "find", "--name", "large", "--json")
    [row] = done.json["rows"]
    status = (scanned.root / "beta/large").stat()
    assert row == {
        "path": f"{scanned.root}/beta/large", "kind": "f", "mode": status.st_mode,
        "user": "root", "uid": 0, "group": "root", "gid": 0, "size_bytes": 5 * MIB,
        "alloc_bytes": 0, "nlink": 1, "atime_s": int(status.st_atime),
        "mtime_s": -3 * 365 * DAY_S, "ctime_s": int(status.st_ctime),
    }  # fmt: skip
    assert len(done.stdout.splitlines()) == 2
    assert call(capfd, "find", "--name", "nosuch", "--json").json["rows"] == []


def test_csv_has_the_exact_bytes_beside_the_text(
    scanned: Scanned, capfd: pytest.CaptureFixture[str]
) -> None:
    done = call(capfd, "find", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    exact = {base64.b64decode(r["path_b64"]) if r["path_b64"] else r["path"].encode() for r in rows}
    assert exact == walked(scanned, lambda *_: True)


def test_lines_are_safe_to_show(scanned: Scanned, capfd: pytest.CaptureFixture[str]) -> None:
    done = call(capfd, "find")
    assert len(done.stdout.splitlines()) == len(walked(scanned, lambda *_: True))
    assert "\x1b" not in done.stdout
    large = next(line for line in done.stdout.splitlines() if line.endswith("/beta/large"))
    assert large.split()[:5] == ["f", "5.0", "MiB", "1967-01-02", "root"]


def test_a_reader_that_stops_is_no_error(scanned: Scanned) -> None:
    for form in ("--null", "--json"):
        with subprocess.Popen(
            [*DATAMGR, "find", form], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.wait(timeout=120) != 0
            assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["/nosuch"], 3, "/nosuch is no directory of a current scan"),
        (["--project", "nosuch"], 3, "there is no project 'nosuch'"),
        (["--filesystem", "nosuch"], 3, "there is no scan of nosuch"),
        (["--user", "nosuch"], 3, "there is no account 'nosuch'"),
        (["--group", "nosuch"], 3, "there is no unix group 'nosuch'"),
        (["--older-than", "soon"], 4, "--older-than: 'soon' is no duration"),
        (["--larger-than", "big"], 4, "--larger-than: 'big' is no size"),
        (["--name", "a\\"], 4, "a pattern ends with a backslash"),
        (["--kind", "x"], 4, "--kind takes letters of"),
        (["--kind", ""], 4, "--kind takes letters of"),
        (["--csv", "--json"], 2, "exclude each other"),
        (["--limit", "0"], 2, "0 is not in the range"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    scanned: Scanned,
    arguments: list[str],
    exit_code: int,
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    done = call(capfd, "find", *arguments)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert words in done.stderr
    if exit_code != 2:
        assert len(done.stderr.splitlines()) == 1


def test_without_a_scan_it_says_how_to_make_one(settings: object) -> None:
    done = run_command("find")
    assert done.exit_code == 3
    assert "datamgr scan run PATH" in done.stderr


def test_ages_are_those_of_the_scan(scanned: Scanned, found: Found) -> None:
    """The file that changes in nine days is newer than anything, before it and after."""
    assert time.time() >= scanned.started_s - 1
    tomorrow = os.fsencode(scanned.root / "beta/of-tomorrow")
    assert tomorrow in found("--newer-than", "0s")
    assert tomorrow not in found("--older-than", "0s")


def test_a_scan_whose_files_were_taken_away_is_no_empty_answer(
    scanned: Scanned, capfd: pytest.CaptureFixture[str]
) -> None:
    store = scanned.settings.scan_store_dir
    aside = store.rename(store.with_name("aside"))
    try:
        done = call(capfd, "find")
    finally:
        aside.rename(store)
    assert (done.exit_code, done.stdout) == (7, "")
    assert "is gone" in done.stderr
