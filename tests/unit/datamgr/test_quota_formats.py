"""What quota systems print, read from texts of the shapes they print."""

import pytest

from datamgr import quota_formats
from datamgr.errors import InvalidError
from datamgr.quota_formats import KIB, Limits, QuotaLine

MM_HEADER = (
    "mmrepquota::HEADER:version:reserved:reserved:filesystemName:quotaType:id:name:blockUsage:"
    "blockQuota:blockLimit:blockInDoubt:blockGrace:filesUsage:filesQuota:filesLimit:"
    "filesInDoubt:filesGrace:remarks:quota:defQuota:fid:filesetname:\n"
)
MMREPQUOTA = (
    "*** Report for USR GRP FILESET quotas on gpfs0\n"
    + MM_HEADER
    + "mmrepquota::0:1:::gpfs0:FILESET:0:root:337419744:0:0:163840:none:1395:"
    "0:0:400:none:i:on:off:::\n"
    "mmrepquota::0:1:::gpfs0:FILESET:408:co%3Asmo:341467872:2147483648:2147483648:0:none:6286:"
    "2000000:3000000:0:none:e:on:off:::\n"
    "mmrepquota::0:1:::gpfs0:USR:5001:ada:858080:31457280:36700160:0:none:35939:300000:1000000:0:"
    "none:e:on:off:2:home:\n"
)


def test_filesets_are_read_by_the_names_of_the_header() -> None:
    root, cosmo = quota_formats.parse_mmrepquota(MMREPQUOTA)
    assert root == QuotaLine(3, ("root",), Limits(0, 0), Limits(0, 0), 337419744 * KIB, 1395)
    assert cosmo.names == ("co:smo",)
    assert cosmo.quota_bytes == Limits(2147483648 * KIB, 2147483648 * KIB)
    assert cosmo.quota_inodes == Limits(2000000, 3000000)
    assert (cosmo.usage_bytes, cosmo.usage_inodes) == (341467872 * KIB, 6286)


def test_another_order_of_fields_is_followed() -> None:
    text = (
        "mmrepquota::HEADER:quotaType:filesLimit:filesQuota:filesUsage:blockLimit:blockQuota:"
        "blockUsage:filesetname:name:\n"
        "mmrepquota::0:FILESET:6:5:4:3:2:1:x:y:\n"
    )
    (line,) = quota_formats.parse_mmrepquota(text)
    assert line == QuotaLine(2, ("y",), Limits(2 * KIB, 3 * KIB), Limits(5, 6), KIB, 4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no HEADER"),
        (MMREPQUOTA[: len(MMREPQUOTA) - 40], "cut short"),
        (MMREPQUOTA.replace("blockLimit", "other"), "lacks 'blockLimit'"),
        (MMREPQUOTA.replace("6286", "6k"), "line 4: '6k' is no whole number"),
        (MMREPQUOTA.replace("6286", "9" * 30), "out of range"),
        (MMREPQUOTA.replace("341467872", "9" * 18), "out of range"),
        ("mmrepquota::0:1:::gpfs0:FILESET:0:root:\n", "HEADER"),
    ],
)
def test_a_damaged_mmrepquota_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        list(quota_formats.parse_mmrepquota(text))


LFS = """\
Disk quotas for prj 1001 (pid 1001):
     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
        /scratch 1225350212*  524288000 576716800 6d6h28m43s   21516  850000  935000       -
pid 1001 is using default block quota setting
Disk quotas for grp cosmo (gid 5001):
     Filesystem    used   bquota  blimit  bgrace   files   iquota  ilimit  igrace
/a/very/long/name/of/a/file/system
                      12       0   1024       -       3       0       0       -
lustre-MDT0000_UUID
                       4       -       0       -       3       -       0       -
lustre-OST0000_UUID    8       -    1024       -       -       -       -       -
Total allocated inode limit: 0, total allocated block limit: 1024
"""


def test_lfs_quotas_of_several_projects_and_groups_are_read() -> None:
    project, group = quota_formats.parse_lfs_quota(LFS)
    assert project == QuotaLine(
        3, ("1001",), Limits(524288000 * KIB, 576716800 * KIB), Limits(850000, 935000),
        1225350212 * KIB, 21516,
    )  # fmt: skip
    assert group == QuotaLine(
        8, ("cosmo", "5001"), Limits(0, 1024 * KIB), Limits(0, 0), 12 * KIB, 3
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no quotas"),
        ("Disk quotas for usr ada (uid 1):\n", "about a user"),
        (LFS.replace("1225350212*", "1.1T"), "-h` rounds"),
        (LFS.replace(" 524288000 ", " 500G "), "-h` rounds"),
        (LFS.replace("1225350212*", "[1225350212]"), "inaccurate"),
        (LFS.replace("Disk quotas", "Quotas"), "no quotas"),  # -q: whose is it?
    ],
)
def test_an_lfs_output_that_is_rounded_or_unsure_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        list(quota_formats.parse_lfs_quota(text))


def test_csv_may_have_usage_and_leave_fields_empty() -> None:
    text = 'project,quota_bytes,quota_inodes,usage_bytes,usage_inodes\r\n"a,b",10,0,,7\r\n'
    (line,) = quota_formats.parse_csv(text)
    assert line == QuotaLine(2, ("a,b",), Limits(10), Limits(0), None, 7)
    (line,) = quota_formats.parse_csv("project,quota_bytes,quota_inodes\nx,,5\n")
    assert line == QuotaLine(2, ("x",), Limits(None), Limits(5))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "first line"),
        ("name,quota\n", "first line"),
        ("project,quota_bytes,quota_inodes\nx,1\n", "line 2 has not"),
        ("project,quota_bytes,quota_inodes\nx,1,2,3\n", "line 2 has not"),
        ("project,quota_bytes,quota_inodes\nx,1T,2\n", "'1T' is no whole number"),
        ("project,quota_bytes,quota_inodes\nx,-1,2\n", "'-1' is no whole number"),
        ('project,quota_bytes,quota_inodes\n"x,1,2\n', "no CSV"),
    ],
)
def test_other_csv_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        list(quota_formats.parse_csv(text))


@pytest.mark.parametrize(
    ("limits", "soft", "hard"),
    [
        (Limits(10, 20), 10, 20),
        (Limits(0, 20), 20, 20),
        (Limits(10, 0), 10, 10),
        (Limits(0, 0), 0, 0),
        (Limits(10), 10, 10),
        (Limits(None), None, None),
    ],
)
def test_the_soft_limit_counts_unless_there_is_none(
    limits: Limits, soft: int | None, hard: int | None
) -> None:
    assert (limits.effective(hard=False), limits.effective(hard=True)) == (soft, hard)


def test_a_map_gives_projects_for_names() -> None:
    assert quota_formats.parse_map("# of Lustre\n1001 = cosmo\n\nx=y=z\n") == {
        "1001": "cosmo", "x": "y=z",
    }  # fmt: skip
    for wrong in ("cosmo\n", "=x\n", "a=\n", "a=b\na=c\n"):
        with pytest.raises(InvalidError, match="of the map"):
            quota_formats.parse_map(wrong)
