"""Group bits are those of chmod; in an ACL the entry of the group changes, and nobody's else."""

import ast
import itertools
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pitoolbox.privileged
from pitoolbox.privileged import errors, states
from tests import acls

Clauses = tuple[tuple[str, str], ...]

letters = st.text("rwxXs", max_size=4) | st.sampled_from(["u", "o", "g"])
clauses = st.lists(st.tuples(st.sampled_from("+-="), letters), min_size=1, max_size=4).map(tuple)
modes = st.integers(0, 0o777)
rights = st.integers(0, 7)


def chmod(path: Path, mode: int, told: Clauses) -> int:
    """What coreutils makes of this mode."""
    path.chmod(mode)
    if any(what for _, what in told):
        text = ",".join(f"g{operator}{what}" for operator, what in told)
        subprocess.run(["chmod", text, path], check=True)
    return stat.S_IMODE(path.stat().st_mode)


ONE_OF_EACH: list[Clauses] = [
    ((operator, what),)
    for operator, what in itertools.product(
        "+-=", ["r", "w", "x", "X", "rw", "rX", "rwx", "rwX", "u", "g", "o"]
    )
]
SEVERAL: list[Clauses] = [
    (("-", "x"), ("+", "X")),
    (("+", "x"), ("=", "rX")),
    (("=", "r"), ("+", "X")),
    (("=", "o"), ("+", "g"), ("-", "w")),
    (("=", "u"), ("-", "x")),
]
SOME_MODES = [0, 0o007, 0o040, 0o070, 0o100, 0o440, 0o604, 0o644, 0o710, 0o755, 0o770, 0o777]


@pytest.mark.parametrize("told", ONE_OF_EACH + SEVERAL, ids=str)
def test_files_and_directories_get_the_bits_that_chmod_gives(tmp_path: Path, told: Clauses) -> None:
    file, directory = tmp_path / "file", tmp_path / "directory"
    file.touch()
    directory.mkdir()
    for mode in SOME_MODES:
        ours = stat.S_IMODE(states.group_bits(stat.S_IFREG | mode, told))
        assert oct(ours) == oct(chmod(file, mode, told))
        ours = stat.S_IMODE(states.group_bits(stat.S_IFDIR | mode, told))
        assert oct(ours) == oct(chmod(directory, mode, told))


@pytest.mark.parametrize("before", [0o750, 0o2750])
@pytest.mark.parametrize("told", [(("+", "s"),), (("-", "s"),), (("=", "rx"),), (("=", "rxs"),)])
def test_the_setgid_bit_of_a_directory_is_that_of_chmod(
    tmp_path: Path, before: int, told: Clauses
) -> None:
    """As in `chmod g=rx`, which leaves the bit of a directory; with `s` it is set."""
    ours = states.group_bits(stat.S_IFDIR | before, told)
    assert oct(stat.S_IMODE(ours)) == oct(chmod(tmp_path, before, told))


@given(mode=modes, told=clauses, kind=st.sampled_from([stat.S_IFREG, stat.S_IFDIR]))
def test_doing_it_twice_changes_nothing_more(mode: int, told: Clauses, kind: int) -> None:
    once = states.group_bits(kind | mode, told)
    assert states.group_bits(once, told) == once


@given(
    mode=st.integers(0, 0o7777),
    told=clauses,
    kind=st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFSOCK]),
)
def test_no_other_bit_is_ever_touched(mode: int, told: Clauses, kind: int) -> None:
    may = 0o2070 if kind == stat.S_IFDIR else 0o070
    assert (states.group_bits(kind | mode, told) ^ (kind | mode)) & ~may == 0


@st.composite
def lists(draw: st.DrawFn) -> tuple[int, bytes]:
    """A mode and the ACL that belongs to it: its group bits are the mask."""
    mode, group, mask = draw(modes), draw(rights), draw(rights)
    users = draw(st.dictionaries(st.integers(2000, 2003), rights, max_size=2))
    groups = draw(st.dictionaries(st.integers(3000, 3003), rights, max_size=2))
    kind = draw(st.sampled_from([stat.S_IFREG, stat.S_IFDIR]))
    acl = acls.packed(mode >> 6, group, mode & 7, users=users, groups=groups, mask=mask)
    return kind | mode & ~0o070 | mask << 3, acl


@given(had=lists(), told=clauses)
def test_effective_rights_of_nobody_but_the_group_change(
    had: tuple[int, bytes], told: Clauses
) -> None:
    mode, acl = had
    after_mode, after = states.with_acl(mode, acl, told)
    before_rights, after_rights = acls.effective(acl), acls.effective(after)
    own = next(key for key in before_rights if key[0] == acls.GROUP_OBJ)
    # The group ends with what the clauses make of what it could do, no more and no less; what
    # `X` asks for is whether anybody may execute it.
    letters = [(op, what.replace("X", "x") if mode & 0o111 else what) for op, what in told]
    meant = states.group_bits(mode & ~0o070 | before_rights[own] << 3, letters)
    assert after_rights.pop(own) == meant >> 3 & 7
    before_rights.pop(own)
    assert after_rights == before_rights
    assert acls.rights(after, acls.MASK) == after_mode >> 3 & 7
    assert (after_mode ^ mode) & ~(0o2070 if stat.S_ISDIR(mode) else 0o070) == 0


@given(had=lists(), told=clauses)
def test_the_same_on_an_acl_twice_changes_nothing_more(
    had: tuple[int, bytes], told: Clauses
) -> None:
    once = states.with_acl(*had, told)
    assert states.with_acl(*once, told) == once


def test_group_rights_that_the_mask_held_back_stay_so_unless_asked_for() -> None:
    """The group has rwx and a mask of r: asked for read, it may not suddenly write."""
    acl = acls.packed(6, 7, 0, users={2000: 6}, mask=4)
    assert states.with_acl(stat.S_IFREG | 0o640, acl, (("+", "r"),)) == (stat.S_IFREG | 0o640, acl)
    _, wider = states.with_acl(stat.S_IFREG | 0o640, acl, (("+", "w"),))
    assert acls.effective(wider)[acls.GROUP_OBJ, 2**32 - 1] == 6
    assert acls.effective(wider)[acls.USER, 2000] == 4


def setfacl(path: Path, acl: bytes, mode: int, *told: str) -> tuple[int, bytes]:
    """Mode and ACL after `setfacl -n -m`."""
    path.chmod(stat.S_IMODE(mode))
    os.setxattr(path, "system.posix_acl_access", acl)
    subprocess.run(["setfacl", "-n", "-m", ",".join(told), path], check=True)
    return path.stat().st_mode, os.getxattr(path, "system.posix_acl_access")


@pytest.mark.parametrize("group", range(8))
def test_within_the_mask_it_is_what_setfacl_does(tmp_path: Path, group: int) -> None:
    path = tmp_path / "file"
    path.touch()
    for mask in (5, 7):
        mode = stat.S_IFREG | 0o604 | mask << 3
        acl = acls.packed(6, group, 4, users={2000: 6}, groups={3000: 1}, mask=mask)
        for operator, what, wanted in (("+", "r", group | 4), ("-", "x", group & ~1)):
            ours = states.with_acl(mode, acl, ((operator, what),))
            assert ours == setfacl(path, acl, mode, f"g::{wanted:o}")


def test_beyond_the_mask_it_is_what_setfacl_does_with_the_named_entries_cut_first(
    tmp_path: Path,
) -> None:
    """A mask of r, a named account of rw: the group may read and write, the account just read."""
    path = tmp_path / "file"
    path.touch()
    mode = stat.S_IFREG | 0o640
    acl = acls.packed(6, 4, 0, users={2000: 6}, groups={3000: 7}, mask=4)
    ours = states.with_acl(mode, acl, (("+", "w"),))
    assert ours == setfacl(path, acl, mode, "u:2000:r", "g:3000:r", "g::rw", "m::rw")


@pytest.mark.parametrize("acl", [b"", b"\x01\0\0\0", b"\x02\0\0\0\x01", b"\x03\0\0\0" + b"\0" * 8])
def test_an_acl_of_an_unknown_form_is_left_alone(acl: bytes) -> None:
    with pytest.raises(errors.SkippedError, match="unknown version"):
        states.with_acl(stat.S_IFREG, acl, (("+", "r"),))


def test_an_acl_without_the_groups_entry_is_left_alone() -> None:
    with pytest.raises(errors.SkippedError, match="no entry for the group"):
        states.with_acl(stat.S_IFREG, b"\x02\0\0\0", (("+", "r"),))


@given(had=lists(), wanted=lists())
def test_a_former_acl_comes_back_only_as_far_as_it_concerns_groups_and_named_accounts(
    had: tuple[int, bytes], wanted: tuple[int, bytes]
) -> None:
    try:
        back = states.restored_acl(had[1], wanted[1])
    except errors.SkippedError:
        return
    assert back is not None
    for tag in (acls.USER_OBJ, acls.OTHER):
        assert acls.rights(back, tag) == acls.rights(had[1], tag)
    whose = [(tag, number) for tag, _, number in acls.entries(had[1])]
    assert [(tag, number) for tag, _, number in acls.entries(back)] == whose


def test_the_privileged_package_imports_the_standard_library_and_itself_only() -> None:
    folder = Path(pitoolbox.privileged.__file__).parent
    imported = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    ours = {name for name in imported if name.startswith("pitoolbox.")}
    assert {name for name in ours if not name.startswith("pitoolbox.privileged")} == set()
    assert {name.split(".")[0] for name in imported - ours} <= sys.stdlib_module_names
