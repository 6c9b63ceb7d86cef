"""Runs a program nearly as a systemd unit would, where no systemd runs.

`python -m tests.under_unit UNIT COMMAND…` reads SystemCallFilter= of the unit file, asks
systemd-analyze what its @sets are, and loads the filter by libseccomp. `before` is what gives the
rest of the unit first: account and capabilities, no network, and a /proc of own processes alone.
Source: systemd.exec(5), "System Call Filtering"; seccomp_rule_add(3).
"""

import ctypes
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DEPLOY = Path(__file__).parents[1] / "deploy"
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def values(unit: Path, key: str) -> list[str]:
    """What the unit says of a key, in order."""
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def before(unit: Path, uid: int) -> tuple[str, ...]:
    """What starts a program as the unit would: unshare, setpriv and this module."""
    caps = values(unit, "AmbientCapabilities")[0].lower().replace("cap_", "+").replace(" ", ",")
    # PrivateNetwork=, ProtectProc= with ProcSubset=, ProtectSystem= with ReadWritePaths=.
    temporary = tempfile.gettempdir()
    namespaces = (
        "mount -t proc -o hidepid=invisible,subset=pid proc /proc && "
        f"mount --bind {temporary} {temporary} && "
        'mount -o remount,bind,ro / && exec "$@"'
    )
    rights = (
        f"--reuid={uid}", "--regid=65534", "--clear-groups", "--no-new-privs",
        f"--inh-caps=-all,{caps}", f"--ambient-caps=-all,{caps}", f"--bounding-set=-all,{caps}",
    )  # fmt: skip
    unshare = ("unshare", "--net", "--mount", "sh", "-c", namespaces, "sh")
    filtered = (sys.executable, "-m", "tests.under_unit", str(unit))
    return (*unshare, "setpriv", *rights, "--", *filtered)


def before_root(unit: Path) -> tuple[str, ...]:
    """The same of a unit whose account is root, with the capabilities it keeps: setpriv and us."""
    kept = values(unit, "CapabilityBoundingSet")[0].lower().replace("cap_", "+").replace(" ", ",")
    rights = ("--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{kept}")
    return ("setpriv", *rights, "--", sys.executable, "-m", "tests.under_unit", str(unit))


def expand(name: str) -> set[str]:
    """The system calls of a set such as @system-service."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    inner = [line.strip() for line in told.splitlines()[1:] if not line.strip().startswith("#")]
    return set().union(*(expand(one) for one in inner if one))


def allowed(unit: Path) -> set[str]:
    calls = expand("@default")
    for line in values(unit, "SystemCallFilter"):
        taken = line.startswith("~")
        for name in line.removeprefix("~").split():
            calls = calls - expand(name) if taken else calls | expand(name)
    return calls | expand("@default") | {"execve"}


def load(calls: set[str]) -> None:
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERRNO | errno.EPERM)))
    for name in calls:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    if library.seccomp_load(context) != 0:
        raise OSError("the filter cannot be loaded")


if __name__ == "__main__":
    allowed_calls = allowed(Path(sys.argv[1]))
    if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:  # PR_SET_MDWE, as MemoryDenyWriteExecute=
        raise OSError("memory can be made executable")
    load(allowed_calls)
    os.execv(sys.argv[2], sys.argv[2:])
