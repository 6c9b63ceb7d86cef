"""Numbers, times and records of tar headers, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import acls
from tiering.archive import acl, entry, pax
from tiering.archive.entry import Entry
from tiering.archive.store import DamagedError

names = st.binary(min_size=1, max_size=300).filter(lambda n: b"\0" not in n and n[-1:] != b"/")


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(0, b"0"), (1, b"0.000000001"), (-1_500_000_000, b"-1.500000000"), (10**18, b"1000000000")],
)
def test_times_are_decimal_seconds(time_ns: int, text: bytes) -> None:
    assert pax.encode_time(time_ns) == text


@given(st.integers(-(2**62), 2**62))
def test_times_come_back(time_ns: int) -> None:
    assert pax.decode_time(pax.encode_time(time_ns)) == time_ns


@given(st.dictionaries(st.binary(min_size=1).filter(lambda k: b"=" not in k), st.binary()))
def test_records_come_back(records: dict[bytes, bytes]) -> None:
    assert pax.decode_records(pax.encode_records(records)) == records


@pytest.mark.parametrize(
    "body", [b"x", b"7 a=b\n", b"5 a=b\n", b"99 a=b\n", b"6 aab\n", b"-3 a=b\n"]
)
def test_malformed_records_are_damage(body: bytes) -> None:
    with pytest.raises(DamagedError):
        pax.decode_records(body)


@given(
    path=names,
    link=names,
    kind=st.sampled_from("fdlhpcb"),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 1),
    mtime_ns=st.integers(-(2**62), 2**62),
    size=st.integers(0, 2**62),
    xattrs=st.dictionaries(names.map(lambda n: b"user." + n), st.binary()),
)
def test_entries_come_back(  # type: ignore[no-untyped-def]
    *, path, link, kind, mode, uid, mtime_ns, size, xattrs
) -> None:
    before = Entry(
        path=path,
        kind=kind,
        mode=mode,
        uid=uid,
        mtime_ns=mtime_ns,
        size_bytes=size if kind == "f" else 0,
        link=link if kind in "lh" else b"",
        xattrs=xattrs,
        note={"inode": [1, 2]},
    )
    blocks = entry.encode(before)
    extended = pax.decode(blocks[: pax.BLOCK])
    header = pax.decode(blocks[-pax.BLOCK :])
    assert extended is not None and header is not None and entry.is_extended(extended)
    records = pax.decode_records(blocks[pax.BLOCK : pax.BLOCK + extended.size])
    assert entry.decode(records, header) == before


def test_lists_come_back() -> None:
    packed = acls.packed(7, 5, 0, users={1000: 6, 3_000_000_000: 4}, groups={100: 1}, mask=7)
    text = acl.to_text(packed)
    assert text.startswith(b"user::rwx,user:1000:rw-,user:3000000000:r--,group::r-x,")
    assert acl.from_text(text) == packed
    with pytest.raises(DamagedError):
        acl.from_text(b"user:rwx")
