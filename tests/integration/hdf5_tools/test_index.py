"""An index of files: what is in it is found, what changes is followed, what is damaged is named."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamgr.errors import ConflictError, InvalidError
from hdf5_tools.harvest import by_h5py
from hdf5_tools.harvest import sandbox as sandbox_module
from hdf5_tools.harvest.either import EitherHarvester
from hdf5_tools.harvest.records import FileRecord
from hdf5_tools.harvest.sandbox import PATIENCE_S, Sandbox
from hdf5_tools.index import container, manifest, query, update
from hdf5_tools.index.conditions import All, AnyOf, Compare, Has, Node, Not, Pattern
from hdf5_tools.index.index import Index
from tests import mounts
from tests.commands import DATAMGR, call

WORDS = [
    "MgFe2O4",
    "MgFeO",
    "mgfeo",
    "NaCl",
    "",
    "a",
    "ab",
    "abc",
    "cab",
    "élan",
    "*",
    "a*b",
    "xMgFe",
]
NAMES = ["sample", "exposure", "mixed", "odd name"]


def write(path: Path, seed: int, objects: int = 12) -> Path:
    chance = random.Random(seed)

    def value() -> Any:
        draw = chance.random()
        if draw < 0.5:
            return chance.choice(WORDS)
        if draw < 0.6:
            return [chance.choice(WORDS) for _ in range(3)]
        if draw < 0.7:
            return np.array(
                [chance.choice([0.1, 0.5, np.nan, np.inf, -2])] * 2, chance.choice("fd")
            )
        if draw < 0.75:
            return np.uint64((1 << 64) - chance.randrange(1, 3))
        if draw < 0.8:
            return bool(chance.getrandbits(1))
        return chance.randrange(-3, 4)

    with h5py.File(path, "w", libver=chance.choice(["earliest", "latest"])) as file:
        for number in range(objects):
            place = f"g{number % 3}/d{number}"
            if number % 4:
                made = file.create_dataset(place, (number,), chance.choice("fi"))
            else:
                made = file.create_group(place)
            for name in NAMES:
                if chance.random() < 0.7:
                    made.attrs[name] = value()
    return path


class Corpus:
    """Without a long representation, for hypothesis to print."""

    def __init__(self, index: Index, objects: list[Any]) -> None:
        self.index = index
        self.objects = objects


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Twelve files in three segments, two with dead files; and what h5py says of them."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(12):
        write(folder / f"{number}.h5", number)
    index = folder / "index"
    update.update(index, [bytes(folder / f"{n}.h5") for n in range(6)])
    update.update(index, [bytes(folder / f"{n}.h5") for n in range(6, 10)])
    update.update(index, [bytes(folder / f"{n}.h5") for n in (4, 5, 6, 7, 10, 11)])
    objects = [
        (os.fsencode(folder / f"{n}.h5"), found)
        for n in range(12)
        for found in by_h5py.harvest(folder / f"{n}.h5").objects
    ]
    listed = manifest.load(index).entries
    assert [(entry.files, entry.dead_files) for entry in listed] == [(6, 2), (4, 2), (6, 0)]
    return Corpus(Index.open(index), objects)


def holds(node: Node, found: Any) -> bool:
    """What a query means, said another way."""
    match node:
        case All(terms):
            return all(holds(term, found) for term in terms)
        case AnyOf(terms):
            return any(holds(term, found) for term in terms)
        case Not(term):
            return not holds(term, found)
        case Has(name):
            return any(name == has for has, _, _ in found.attributes)
    return any(
        fulfils(value, form[0], node)
        for name, form, values in found.attributes
        if name == node.name
        for value in values
    )


def fulfils(value: Any, kind: str, node: Compare) -> bool:
    wanted: Any = node.value
    if isinstance(wanted, Pattern):
        if not isinstance(value, bytes):
            return False
        if node.operator == "=":
            text = value.lower() if wanted.folds else value
            parts = [p.lower() if wanted.folds else p for p in wanted.parts]
            return re.fullmatch(b"(?s:.*)".join(map(re.escape, parts)), text) is not None
        wanted = wanted.parts[0]
    elif isinstance(value, bytes):
        return False
    elif isinstance(value, float):
        wanted = float(wanted)
        if kind == "float32" and abs(wanted) < 3.4e38:
            wanted = float(np.float32(wanted))
    return bool(
        {"=": value == wanted, "<": value < wanted, "<=": value <= wanted,
         ">": value > wanted, ">=": value >= wanted}[node.operator]
    )  # fmt: skip


texts = st.sampled_from(WORDS).map(lambda w: w.replace("*", "\\*"))
patterns = st.builds(
    lambda a, text, b: f'"{a}{text}{b}"', st.sampled_from(["", "*"]), texts,
    st.sampled_from(["", "*", "*a*", "*4"]),
)  # fmt: skip
numbers = st.sampled_from(["0.1", "0.5", "-2", "1", "2.5", "1e300", "18446744073709551615", "-3"])
names = st.sampled_from(["sample", "exposure", "mixed", "`odd name`", "absent"])
leaves = st.one_of(
    st.builds("{} {} {}".format, names, st.sampled_from(["=", "!=", "~", "!~"]), patterns),
    st.builds("{} {} {}".format, names, st.sampled_from(["=", "<", "<=", ">", ">="]), numbers),
    st.builds('{} {} "{}"'.format, names, st.sampled_from(["<", ">="]), texts),
    st.builds("has {}".format, names),
    st.builds("{} in ({}, {})".format, names, patterns, numbers),
)
queries = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not {}".format, inner.map(lambda q: f"({q})")),
    ),
    max_leaves=5,
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=queries)
def test_a_search_finds_what_a_filter_of_all_objects_finds(corpus: Corpus, text: str) -> None:
    index, objects = corpus.index, corpus.objects
    node = query.parse(text)
    wanted = [(file, found.path) for file, found in objects if holds(node, found)]
    assert sorted(index.search(text).paths()) == sorted(wanted)


@settings(max_examples=100, deadline=None)
@given(a=leaves, b=leaves)
def test_by_file_the_objects_fulfil_it_together(corpus: Corpus, a: str, b: str) -> None:
    index, objects = corpus.index, corpus.objects
    by_file: dict[bytes, list[Any]] = {}
    for file, found in objects:
        by_file.setdefault(file, []).append(found)

    def in_file(text: str, members: list[Any]) -> bool:
        node = query.parse(text)
        terms = node.terms if isinstance(node, All | AnyOf) else (node,)
        each = [
            not any(holds(t.term, m) for m in members)
            if isinstance(t, Not)
            else any(holds(t, m) for m in members)
            for t in terms
        ]
        return any(each) if isinstance(node, AnyOf) else all(each)

    hits = index.search(f"({a}) and not ({b})", by_file=True)
    wanted = [f for f, m in by_file.items() if in_file(a, m) and not in_file(b, m)]
    assert sorted(file for file, _ in hits.paths()) == sorted(wanted)
    assert all(path == b"/" for _, path in hits.paths())


def test_everything_harvested_comes_back(corpus: Corpus) -> None:
    index, objects = corpus.index, corpus.objects
    back = {}
    for segment in index.segments:
        for number in range(segment.objects):
            if segment.alive is None or segment.alive[number]:
                found = segment.attributes_of(number)
                back[segment.paths_of(np.array([number]))[0]] = (segment.form_of(number), found)
    assert len(back) == len(objects)
    for file, found in objects:
        form, attributes = back[file, found.path]
        assert form == found.form
        wanted = {name: (form, values) for name, form, values in found.attributes}
        assert repr(attributes) == repr(dict(sorted(wanted.items())))  # NaN is not itself


def test_properties_of_objects(corpus: Corpus) -> None:
    index, objects = corpus.index, corpus.objects
    wanted = {
        '@path = "/g1/*"': lambda o: o.path.startswith(b"/g1/"),
        '@kind = "dataset" and @dtype = "float32"': lambda o: o.form[0] == "float32",
        '@shape = "5"': lambda o: o.form[1] == (5,),
        "@ndim >= 1": lambda o: o.kind == 1,
        '@file = "*/3.h5" and @kind = "group"': None,
    }
    for text, holds_of in wanted.items():
        found = sorted(index.search(text).paths())
        if holds_of is None:
            assert found
            assert {os.path.basename(file) for file, _ in found} == {b"3.h5"}
        else:
            assert found == sorted((file, o.path) for file, o in objects if holds_of(o))
    with pytest.raises(InvalidError, match="@ndim is compared with a number"):
        index.search('@ndim = "2"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("sample =", "at 'the end': a number or a \"text\" is expected"),
        ("sample = = 3", "at '= 3'"),
        ('sample = "open', "not understood"),
        ("sample 3", "after a name"),
        ("(a = 1", "closing"),
        ("a = 1 b = 2", "here `and`"),
        ("@colour = 3", "there are @path"),
        ("a > 1e999999999", "no number"),
        ('a < "x*"', "without *"),
        ("(" * 5000 + "a = 1", "nested too deeply"),
    ],
)
def test_queries_that_mean_nothing_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(said)):
        query.parse(text)


def test_an_index_follows_its_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, folder = tmp_path / "data", tmp_path / "index"
    data.mkdir()
    for number in range(3):
        write(data / f"{number}.h5", number)
    (data / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 5000)
    (data / "notes.txt").write_text("no")
    (data / "link.h5").symlink_to(data / "0.h5")
    first = call(capfd, "hdf5", "index", data, "--into", folder, "--json").json
    assert {k: first[k] for k in ("found", "read", "failed")} == {
        "found": 4,
        "read": 4,
        "failed": 1,
    }
    assert [row["path"] for row in first["rows"]] == [str(data / "broken.h5")]
    # Nothing changed: nothing is read. Then one is changed, one goes, one comes.
    again = call(capfd, "hdf5", "index", data, "--into", folder, "--update", "--json").json
    assert (again["read"], again["unchanged"]) == (0, 4)
    with h5py.File(data / "0.h5", "r+") as file:
        file.attrs["sample"] = "changed"
    (data / "1.h5").unlink()
    write(data / "new.hdf5", 9)
    opened = Index.open(folder)
    last = call(capfd, "hdf5", "index", data, "--into", folder, "--update", "--json").json
    assert (last["read"], last["unchanged"], last["removed"]) == (2, 2, 1)
    search = ("hdf5", "search", folder)
    found = call(capfd, *search, 'sample = "changed"', "--show", "sample", "--json").json
    assert [(row["file"], row["path"]) for row in found["rows"]] == [(str(data / "0.h5"), "/")]
    assert found["rows"][0]["attributes"] == {"sample": ["changed"]}
    assert len(opened.search('sample = "changed"')) == 0  # what was open shows what was
    files = {row["file"] for row in call(capfd, *search, "@ndim > -9", "--json").json["rows"]}
    assert files == {str(data / n) for n in ("0.h5", "2.h5", "new.hdf5")}
    before = sorted(Index.open(folder).search("has sample").paths())
    assert call(capfd, "hdf5", "compact", folder).exit_code == 0
    assert len(Index.open(folder).segments) == 1
    assert sorted(Index.open(folder).search("has sample").paths()) == before
    assert len(list(folder.glob("*.segment"))) == 1
    assert not list(folder.glob("*.dead"))
    table = call(capfd, *search, "has sample", "--limit", "2")
    assert "found" in table.stdout
    null = call(capfd, *search, "has sample", "--null").stdout.split("\0")
    assert set(null) - {""} == {os.fsdecode(file) for file, _ in before}
    assert call(capfd, *search, "has sample", "--csv").stdout.count("\r\n") == len(before) + 1
    summary = call(capfd, "hdf5", "attributes", folder, "--json").json
    assert next(r for r in summary["rows"] if r["name"] == "sample")["attributes"] == len(before)


def test_segments_of_mostly_dead_files_are_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    files = [bytes(write(tmp_path / f"{n}.h5", n)) for n in range(6)]

    def listed() -> list[tuple[int, int]]:
        return [(e.files, e.dead_files) for e in manifest.load(folder).entries]

    def found() -> list[tuple[bytes, bytes]]:
        return sorted(Index.open(folder).search("has sample").paths())

    update.update(folder, files)
    before = found()
    update.update(folder, files[:3])
    assert listed() == [(6, 3), (3, 0)]
    update.update(folder, files[3:4])  # of the first segment four of six
    assert listed() == [(3, 0), (1, 0), (2, 0)]
    update.update(folder, files[:3])  # nothing of one is left
    assert listed() == [(1, 0), (2, 0), (3, 0)]
    assert found() == before
    for _ in range(10):
        update.update(folder, files[5:])
        assert found() == before
    assert len(listed()) == 4
    for number in range(6, 11):
        update.update(folder, [bytes(write(tmp_path / f"{number}.h5", number))])
    assert listed() == [(11, 0)]  # there were nine
    update.compact_index(folder)
    assert listed() == [(11, 0)]
    update.update(folder, files[:1])
    update.compact_index(folder)
    assert listed() == [(11, 0)]
    assert set(before) <= set(found())


def test_what_cannot_be_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    write(tmp_path / "a.h5", 1)
    os.mkfifo(tmp_path / "pipe.h5")
    asked: list[tuple[int, tuple[Any, ...]]] = [
        (3, ("search", tmp_path / "none", "a = 1")),
        (4, ("index", tmp_path, "--into", tmp_path / "full")),
        (3, ("index", tmp_path / "none", "--into", tmp_path / "i")),
        (3, ("show", tmp_path / "none.h5")),
        (4, ("show", tmp_path / "full" / "thesis.tex")),
        (4, ("show", tmp_path / "full")),
        (4, ("show", tmp_path / "pipe.h5")),
        (4, ("index", tmp_path, "--into", tmp_path / "a.h5")),
    ]
    for exit_code, arguments in asked:
        done = call(capfd, "hdf5", *arguments)
        assert done.exit_code == exit_code, done
        assert str(tmp_path) in done.stderr
    assert os.listdir(tmp_path / "full") == ["thesis.tex"]
    update.update(tmp_path / "i", [bytes(tmp_path / "a.h5")])
    with manifest.locked(tmp_path / "i"), pytest.raises(ConflictError, match="another process"):
        update.update(tmp_path / "i", [bytes(tmp_path / "a.h5")])
    listed = tmp_path / "i" / "manifest.json"
    content = listed.read_text()
    listed.write_text(content.replace(f'"format": {manifest.FORMAT}', '"format": 1'))
    with pytest.raises(InvalidError, match=r"has the format 1.*make it again"):
        Index.open(tmp_path / "i")
    listed.write_text(content)
    segment = next((tmp_path / "i").glob("*.segment"))
    os.truncate(segment, segment.stat().st_size - 5)
    with pytest.raises(InvalidError, match="make it again"):
        Index.open(tmp_path / "i")
    segment.unlink()
    with pytest.raises(InvalidError, match="is missing"):
        Index.open(tmp_path / "i")


@mounts.needs_root
@pytest.mark.root
def test_a_full_disk_leaves_the_index_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(data / "0.h5", 0)
    with mounts.tmpfs(tmp_path / "small", 48 << 10) as place:
        assert call(capfd, "hdf5", "index", data, "--into", place / "index").exit_code == 0
        before = Index.open(place / "index").search("has sample").paths()
        assert before
        for number in range(1, 60):
            write(data / f"{number}.h5", number)
        done = call(capfd, "hdf5", "index", data, "--into", place / "index")
        assert (done.exit_code, "No space left" in done.stderr) == (7, True)
        assert Index.open(place / "index").search("has sample").paths() == before
        assert len(list((place / "index").glob("*.segment"))) == 1
    done = call(capfd, "hdf5", "index", data, "--into", "/proc/index")
    assert (done.exit_code, "/proc/index" in done.stderr) == (7, True)


def test_show_prints_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("entry/data", (3, 4), "u2").attrs["exposure"] = 0.5
    done = call(capfd, "hdf5", "show", tmp_path / "x.h5")
    assert "/entry/data  uint16 (3, 4)\n    exposure = 0.5  (float64)" in done.stdout


def hit(sandbox: Sandbox, how: signal.Signals) -> None:
    """Kill its process, or stop it and have little patience: it is not just starting now."""
    assert sandbox._process is not None
    sandbox._process.send_signal(how)
    if how == signal.SIGSTOP:
        sandbox._patience_s = 1
        stat = Path(f"/proc/{sandbox._process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_file_that_kills_or_stops_hdf5_is_named(tmp_path: Path, how: signal.Signals) -> None:
    path = os.fsencode(write(tmp_path / "x.h5", 1))
    with Sandbox() as sandbox:
        assert sandbox.harvest(path).reason is None
        hit(sandbox, how)
        record = sandbox.harvest(path)
        assert record.reason in ("HDF5 crashed (SIGKILL)", "HDF5 did not end in 1 s")
        assert record.may_pass  # the memory of the machine may have been to blame
        sandbox._patience_s = PATIENCE_S
        assert sandbox.harvest(path).reason is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_only_the_file_that_breaks_it_is_blamed_of_many_under_way(
    tmp_path: Path, how: signal.Signals
) -> None:
    """A pipe as a file: whoever harvests waits in its open, while the others wait behind it."""
    paths = [os.fsencode(write(tmp_path / f"{n}.h5", n)) for n in range(9)]
    paths[4] = os.fsencode(tmp_path / "waits.h5")
    os.mkfifo(paths[4])
    with Sandbox() as sandbox:
        for path in paths:
            assert sandbox.has_room(path)
            sandbox.ask(path)
        records = [sandbox.answer() for _ in range(4)]
        hit(sandbox, how)
        records.append(sandbox.answer())
        sandbox._patience_s = PATIENCE_S
        records += [sandbox.answer() for _ in range(4)]
    reasons = [record.reason for record in records]
    assert reasons[4] in ("HDF5 crashed (SIGKILL)", "HDF5 did not end in 1 s")
    assert reasons[:4] + reasons[5:] == [None] * 8
    assert [repr(r) for n, r in enumerate(records) if n != 4] == [
        repr(EitherHarvester().harvest(path)) for n, path in enumerate(paths) if n != 4
    ]


def test_questions_do_not_fill_the_pipe_while_answers_do(tmp_path: Path) -> None:
    """Long names, and answers of more than a pipe holds: each waits for the other, in turn."""
    folder = tmp_path / ("d" * 250) / ("e" * 250) / ("f" * 250)
    folder.mkdir(parents=True)
    with h5py.File(folder / "0.h5", "w") as file:
        file.attrs["long"] = "x" * 60_000
    for number in range(1, 200):
        os.link(folder / "0.h5", folder / f"{number:03}{'g' * 240}.h5")
    done = update.update(tmp_path / "index", [bytes(folder)], workers=2)
    assert (done.read, done.failed) == (200, 0)


def harmed(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.randrange(1, 30)):
        at = chance.randrange(len(damaged))
        damaged[at : at + 1] = bytes([chance.choice([0, 0xFF, 1, chance.randrange(256)])])
    return bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])


@pytest.mark.soak
def test_damaged_files_are_harvested_or_named(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("full_soak")
    chance = random.Random(request.config.getoption("seed") or 1)
    contents = [write(tmp_path / f"{n}.h5", n).read_bytes() for n in range(6)]
    # The slice has a file at which HDF5 turns for ever.
    with Sandbox(memory_bytes=2 << 30, patience_s=20 if full else 2) as sandbox:
        for _ in range(5000 if full else 150):
            path = tmp_path / "harmed.h5"
            path.write_bytes(harmed(chance.choice(contents), chance))
            record = sandbox.harvest(bytes(path))
            assert record.reason or record.objects


@pytest.mark.soak
def test_a_killed_indexer_leaves_a_whole_index(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("full_soak")
    kills = request.config.getoption("kills") or (200 if full else 4)
    chance = random.Random(request.config.getoption("seed") or 1)
    data, folder = tmp_path / "data", tmp_path / "index"
    data.mkdir()
    for number in range(30):
        write(data / f"{number}.h5", number)
    update.update(folder, [bytes(data)])

    def answers() -> list[tuple[bytes, bytes]]:
        return sorted(Index.open(folder).search("has sample").paths())

    for kill in range(kills):
        write(data / f"{chance.randrange(30)}.h5", 1000 + kill)
        process = subprocess.Popen(
            [*DATAMGR, "hdf5", "index", data, "--into", folder], stdout=subprocess.DEVNULL
        )
        time.sleep(0.3 + chance.random() * 0.9)
        process.kill()
        process.wait()
        found = answers()
        assert len({file for file, _ in found}) == 30
        listed = json.loads((folder / "manifest.json").read_text())["entries"]
        assert all((folder / entry["segment"]).exists() for entry in listed)
    update.update(folder, [bytes(data)], only_changed=True)
    wanted = sorted(
        (os.fsencode(path), found.path)
        for path in data.iterdir()
        for found in by_h5py.harvest(path).objects
        if any(name == b"sample" for name, _, _ in found.attributes)
    )
    assert answers() == wanted


def test_what_cannot_be_looked_at_just_now_stays_in_the_index(tmp_path: Path) -> None:
    folder, data = tmp_path / "index", tmp_path / "data"
    (data / "run").mkdir(parents=True)
    write(data / "run" / "a.h5", 1)
    roots = [bytes(data / "run"), bytes(data / "run" / "a.h5")]
    update.update(folder, roots)
    before = Index.open(folder).search("has sample").paths()
    data.rename(tmp_path / "away")
    data.symlink_to(data)  # to a loop the system gives an error, as to a permission that is missing
    done = update.update(folder, roots, only_changed=True)
    loop = "Too many levels of symbolic links"
    assert (done.removed, done.not_walked) == (0, [(root, loop) for root in roots])
    assert Index.open(folder).search("has sample").paths() == before
    data.unlink()
    done = update.update(folder, roots, only_changed=True)  # now it is gone
    assert (done.removed, done.not_walked) == (1, [])


def test_a_named_pipe_is_said_to_be_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    done = update.update(tmp_path / "index", [bytes(tmp_path / "pipe.h5")])
    assert done.not_walked == [(bytes(tmp_path / "pipe.h5"), "it is no regular file")]


def test_files_are_read_again_when_the_reason_against_it_may_have_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given permission, or left in peace by the system, a file is the same as before."""
    path = bytes(write(tmp_path / "a.h5", 1))
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(b"no HDF5")
    assert not EitherHarvester().harvest(bytes(damaged)).may_pass
    assert EitherHarvester().harvest(bytes(tmp_path / "gone.h5")).may_pass
    with monkeypatch.context() as patched:
        refused = FileRecord([], "HDF5 cannot read it: Permission denied", may_pass=True)
        answer = Sandbox.answer

        def refuses(sandbox: Sandbox) -> FileRecord:
            record = answer(sandbox)
            return refused if record.reason is None else record

        patched.setattr(Sandbox, "answer", refuses)
        done = update.update(tmp_path / "index", [path, bytes(damaged)])
        assert (done.read, done.failed) == (2, 2)
    done = update.update(tmp_path / "index", [path, bytes(damaged)], only_changed=True)
    assert (done.read, done.failed, done.unchanged) == (1, 0, 1)
    assert [file for file, _ in Index.open(tmp_path / "index").failures()] == [bytes(damaged)]
    done = update.update(tmp_path / "index", [path, bytes(damaged)], only_changed=True)
    assert (done.read, done.unchanged) == (0, 2)


def test_damage_to_an_index_is_named_with_the_way_out(tmp_path: Path) -> None:
    folder, path = tmp_path / "index", bytes(write(tmp_path / "a.h5", 1))
    paths = [path, bytes(write(tmp_path / "b.h5", 2))]
    update.update(folder, paths)
    update.update(folder, [path])
    for name in ("000001.segment", "000002.dead", "manifest.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:20])
        message = rf"{name} of the index {folder} (is damaged|was cut short); remove the index"
        with pytest.raises(InvalidError, match=message):
            Index.open(folder)
        with pytest.raises(InvalidError, match=message):
            update.update(folder, paths)
        (folder / name).write_bytes(content)
    (folder / "000001.segment").unlink()
    for ask in (Index.open, update.compact_index):
        with pytest.raises(InvalidError, match=r"000001.segment .* is missing; remove"):
            ask(folder)


def test_an_index_that_is_not_for_this_account_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "index"
    update.update(folder, [bytes(write(tmp_path / "a.h5", 1))])

    def refuse(path: object, *_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(container, "read", refuse)
    done = call(capfd, "hdf5", "search", folder, "has sample")
    assert (done.exit_code, done.stderr) == (
        5, f"datamgr: the index {folder} may not be read by this account\n"
    )  # fmt: skip
    monkeypatch.setattr(manifest, "store", refuse)
    done = call(capfd, "hdf5", "index", tmp_path, "--into", tmp_path / "new")
    assert (done.exit_code, done.stderr) == (
        5, f"datamgr: the index {tmp_path / 'new'} may not be written by this account\n"
    )  # fmt: skip


def test_ctrl_c_does_not_reach_who_reads_the_files(tmp_path: Path) -> None:
    """On a terminal it goes to a whole session; each of them would show a traceback."""
    with Sandbox() as sandbox:
        assert sandbox.harvest(bytes(write(tmp_path / "a.h5", 1))).reason is None
        assert sandbox._process is not None
        assert os.getsid(sandbox._process.pid) != os.getsid(0)


def test_who_waits_for_a_file_ends_though_nobody_asks_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the kill of the indexer: a harvest that does not end does not stay for ever."""
    os.mkfifo(tmp_path / "waits.h5")
    monkeypatch.setattr(sandbox_module, "LIFE_S", 1)
    with Sandbox() as sandbox:
        assert sandbox.harvest(os.fsencode(tmp_path / "waits.h5")).reason == (
            "HDF5 crashed (SIGALRM)"
        )


def test_output_that_does_not_fit_is_no_internal_error(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 1)
    update.update(tmp_path / "index", [bytes(tmp_path / "a.h5")])
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*DATAMGR, "hdf5", "search", tmp_path / "index", "has sample", "--csv"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 7
    assert (
        done.stderr
        == "datamgr: No space left on device; make room for what is written, or printed\n"
    )


def test_a_reader_that_goes_away_early_is_no_error(tmp_path: Path) -> None:
    """As `head` does: the shell's code for that, and nothing is said."""
    write(tmp_path / "a.h5", 1)
    update.update(tmp_path / "index", [bytes(tmp_path / "a.h5")])
    with subprocess.Popen(
        [*DATAMGR, "hdf5", "search", tmp_path / "index", "has sample", "--csv"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as searching:  # fmt: skip
        assert searching.stdout is not None
        assert searching.stderr is not None
        searching.stdout.close()
        said = searching.stderr.read()
    assert (searching.returncode, said) == (128 + signal.SIGPIPE, "")
