"""The amounts by directory are those of a count of all files, whatever was done to these."""

import random
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr.db import Database
from tiering import below
from tiering.below import Amount
from tiering.models import TierFile, TierVersion, tier_amount

FOLDERS = [b"", b"a/", b"a/b/", b"a/b/c/", b"a0/", b"a-b/", b"odd \\\n\xff/", b"z/"]

CHANGES = ("again", "state", "rename", "remove", "back", "forget")


def counted(session: orm.Session, folder: bytes) -> dict[str, Amount]:
    """What is below a directory, file by file."""
    found: dict[str, Amount] = {"B": Amount(), "H": Amount()}
    wanted = (
        sa.select(TierFile.path, TierFile.state, TierVersion.size_bytes)
        .join(TierVersion, TierVersion.id == TierFile.version_id)
        .where(TierFile.root == "r", TierFile.deleted_at.is_(None), TierFile.state != "G")
    )
    for path, state, size in session.execute(wanted):
        if path.startswith(folder):
            of = found[state]
            found[state] = Amount(of.files + 1, of.bytes + size)
    return found


def add_version(session: orm.Session, file: TierFile, size_bytes: int) -> int:
    version = TierVersion(
        file_id=file.id, size_bytes=size_bytes, mtime_ns=0, ctime_ns=0, sha256=b"", adler32=0
    )
    session.add(version)
    session.flush()
    return version.id


def do_something(session: orm.Session, chance: random.Random, number: int) -> None:
    """A file put, or changed in one way."""
    ids = session.scalars(sa.select(TierFile.id)).all()
    what = chance.choice(
        ("put", "put", "put", "put", "again", "state", "rename", "remove", "back", "forget")
    )
    path = chance.choice(FOLDERS) + b"f%d" % number
    if what == "put" or not ids:
        file = TierFile(
            root=chance.choice(("r", "r", "other")), filesystem="f", inode=number,
            generation=1, path=path, state="G",
        )  # fmt: skip
        session.add(file)
        session.flush()
        file.version_id, file.state = add_version(session, file, chance.randrange(1000)), "B"
        session.flush()
        return
    file = session.get_one(TierFile, chance.choice(ids))
    if what == "forget":
        session.delete(file)
        session.flush()
        return
    new: dict[str, Any] = {
        "again": lambda: {"version_id": add_version(session, file, chance.randrange(1000))},
        "state": lambda: {"state": chance.choice("GBH")},
        "rename": lambda: {"path": path},
        "remove": lambda: {"deleted_at": sa.func.now()},
        "back": lambda: {"deleted_at": None},
    }[what]()
    session.execute(sa.update(TierFile).where(TierFile.id == file.id).values(new))
    session.expire_all()


def test_amounts_equal_a_count_after_anything(database: Database) -> None:
    chance = random.Random(7)
    asked = [b"." if not folder else folder.rstrip(b"/") for folder in FOLDERS]
    for turn in range(12):
        with database.transaction() as session:
            for number in range(25):
                do_something(session, chance, turn * 100 + number)
        with database.transaction() as session:
            wanted = [counted(session, folder) for folder in FOLDERS]
            assert below.archived(session, "r", asked) == wanted
            if turn % 3 == 2:
                below.compact(session, "r")
                assert below.archived(session, "r", asked) == wanted
    assert wanted[0]["B"].files > 20
    with database.transaction() as session:
        rows = session.execute(
            sa.select(tier_amount.c.folder, tier_amount.c.state).where(tier_amount.c.root == "r")
        ).all()
        assert len(rows) == len(set(rows))


def test_nothing_is_known_of_what_was_never_put(database: Database) -> None:
    with database.transaction() as session:
        assert below.archived(session, "r", [b"a", b"."]) == [
            {"B": Amount(), "H": Amount()},
            {"B": Amount(), "H": Amount()},
        ]
        assert below.archived(session, "r", []) == []


def test_a_table_that_is_emptied_leaves_nothing_behind(database: Database) -> None:
    """As before it is made again from the archive."""
    with database.transaction() as session:
        for number in range(3):
            do_something(session, random.Random(number), number)
        session.execute(sa.text("TRUNCATE tier_file CASCADE"))
        assert session.scalar(sa.select(sa.func.count()).select_from(tier_amount)) == 0


def test_a_pin_adds_no_row(database: Database) -> None:
    with database.transaction() as session:
        file = TierFile(root="r", filesystem="f", inode=1, generation=1, path=b"x", state="G")
        session.add(file)
        session.flush()
        file.version_id, file.state = add_version(session, file, 10), "B"
        session.flush()
        session.execute(sa.update(TierFile).values(pinned_by="ada"))
        assert session.scalar(sa.select(sa.func.count()).select_from(tier_amount)) == 1
