"""`hsi` over a directory: what the client of HPSS does and prints, as its public manual says.

FAKE_HPSS is a directory: `files/` is the name space, `tape/` says of some where they are, `log` is
the commands given. FAKE_HPSS_FAULT makes it behave badly: `COMMAND=FAULT`, or several with commas;
faults are `part` (only a part arrives, and it fails), `short` (only a part arrives, and it says
nothing), `nothing` (it does and says nothing), `garbage`, `hang`, or an exit code.
"""

import os
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_HPSS"])
FILES = HOME / "files"
FAULTS = dict(
    fault.split("=") for fault in os.environ.get("FAKE_HPSS_FAULT", "").split(",") if fault
)
ABSENT = 64
VALUED = ("-A", "-k", "-l")


class Failed(Exception):
    """A command failed: what is said, and the exit code."""


def main(argv: list[str]) -> int:
    """Run the command behind the options."""
    while argv and argv[0].startswith("-"):
        del argv[: 2 if argv[0] in VALUED else 1]
    try:
        return run(" ".join(argv))
    except Failed as error:
        sys.stderr.write(error.args[0])
        return int(error.args[1])


def run(command: str) -> int:
    """One command; the exit code."""
    with (HOME / "log").open("a") as log:
        log.write(command + "\n")
    name, _, rest = command.partition(" ")
    fault = FAULTS.get(name, "")
    if fault.isdigit():
        raise Failed(f"*** {name}: something went wrong [-5: HPSS_EIO]\n", fault)
    if fault == "garbage":
        print("FILE\tof no\tsense\x00\nFILE")
        return 0
    if fault == "hang":
        time.sleep(60)
    if fault == "nothing":
        return 0
    COMMANDS[name](rest, fault)
    return 0


def remote(path: str, name: str) -> Path:
    found = FILES / path.strip().lstrip("/")
    if not found.exists():
        raise Failed(
            f"*** {name}: No such file or directory [-2: HPSS_ENOENT]\n    {path}\n", ABSENT
        )
    return found


def cd(path: str, _: str) -> None:
    remote(path, "cd")


def ls(rest: str, _: str) -> None:
    path = rest.removeprefix("-NP ").strip()
    found = remote(path, "ls")
    for one in sorted(found.iterdir()) if found.is_dir() else [found]:
        size = one.stat().st_size
        tape = HOME / "tape" / one.name
        on_tape = tape.read_text() if tape.exists() else "\t"
        times = "11/06/2023\t08:47:20\t02/24/2024\t13:01:15"
        shown = "/" + str(one.relative_to(FILES))
        print(f"FILE\t{shown}\t{size}\t{size}\t{on_tape}\t4\t0\t1\t{times}")


def transfer(source: Path, target: Path, fault: str, name: str) -> None:
    data = source.read_bytes()
    target.write_bytes(data[: len(data) // 2] if fault in ("part", "short") else data)
    if fault == "part":
        raise Failed(f"*** {name}: Error -5 on transfer. {target}\n", 74)


def put(rest: str, fault: str) -> None:
    local, path = rest.split(" : ")
    remote(os.path.dirname(path), "put")
    transfer(Path(local), FILES / path.lstrip("/"), fault, "put")


def get(rest: str, fault: str) -> None:
    local, path = rest.split(" : ")
    transfer(remote(path, "get"), Path(local), fault, "get")


def mv(rest: str, _: str) -> None:
    old, new = rest.split(" ")
    remote(old, "mv").rename(FILES / new.lstrip("/"))


def rm(path: str, _: str) -> None:
    remote(path, "rm").unlink()


def read_in(name: str, _: str) -> None:
    failed = None
    for line in Path(name).read_text().splitlines():
        try:
            run(line)
        except Failed as error:
            sys.stdout.write("A:/home-> " + error.args[0])
            failed = error
    if failed is not None:
        raise failed


COMMANDS = {"cd": cd, "ls": ls, "put": put, "get": get, "mv": mv, "rm": rm, "in": read_in}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
