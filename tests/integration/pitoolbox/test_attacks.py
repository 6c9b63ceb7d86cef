"""An adversary meddles with the tree that is being changed: nothing outside of it ever changes.

The same adversary meets a program of the usual kind, `os.walk` with paths, to show that it bites.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pitoolbox.executor import Executor, Order
from tests import meddler, mounts, permissions
from tests.accounts import Team

pytestmark = [mounts.needs_root, pytest.mark.root, pytest.mark.soak]

Change = Callable[[Path, int], None]


def by_paths(root: Path, gid: int) -> None:
    """The usual program: every path is looked up again for each change."""
    for folder, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = os.path.join(folder, name)
            with suppress(OSError):
                os.chown(path, -1, gid, follow_symlinks=False)
                if not os.path.islink(path):
                    os.chmod(path, 0o777)


def by_directories(root: Path, gid: int) -> None:
    """The better kind: by descriptors of directories, which may have been moved away."""
    with suppress(OSError):
        for _, directories, files, fd in os.fwalk(root):
            for name in [*directories, *files]:
                with suppress(OSError):
                    os.chown(name, -1, gid, dir_fd=fd, follow_symlinks=False)


@dataclass(frozen=True)
class Attack:
    """What the adversary does, as whom, and the program that falls for it."""

    name: str
    as_root: bool = False
    victim: Change = by_paths


ATTACKS = [
    Attack("swapped_with_a_link"),
    Attack("moved_out", victim=by_directories),
    Attack("moved_in"),
    Attack("hard_link"),
    Attack("exchanged"),
    Attack("replaced"),
    Attack("device", as_root=True),
    Attack("mounted", as_root=True),
]


@contextmanager
def meddling(attack: Attack, place: Path, team: Team, number: int) -> Iterator[list[int]]:
    """The adversary at work; afterwards everything is in its place, and the list has a count."""
    who = 0 if attack.as_root else team.ada
    argv = [sys.executable, "-m", "tests.meddler", attack.name, place, who, team.foreign, number]
    done: list[int] = []
    with subprocess.Popen(
        [str(argument) for argument in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as adversary:
        assert adversary.stdout is not None
        assert adversary.stdin is not None
        try:
            assert adversary.stdout.readline() == b"ready\n"
            yield done
            assert adversary.poll() is None
            adversary.stdin.close()
            done.append(int(adversary.stdout.readline()))
            assert adversary.wait(timeout=120) == 0
        finally:
            adversary.kill()


@pytest.fixture
def ground(place: Path, team: Team, request: pytest.FixtureRequest) -> Path:
    made = place / request.node.name.translate({ord(letter): "-" for letter in "[]/"})
    made.mkdir()
    made.chmod(0o755)
    meddler.prepare(made, team.ada, team.eve, team.foreign)
    return made


def outside(ground: Path) -> dict[bytes, permissions.Entry]:
    """All that may not change; the directory where things are moved to is the adversary's own."""
    found = permissions.snapshot(ground / "outside")
    found.pop(b"drop")
    return found


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_nothing_outside_changes_whatever_is_done_to_the_tree(
    ground: Path, privileged: Executor, team: Team, attack: Attack, request: pytest.FixtureRequest
) -> None:
    """31 s on each of two file systems in full, 1 s in the slice; then the usual program."""
    full, number = (request.config.getoption(name) for name in ("--full-soak", "--seed"))
    number = time.time_ns() if number is None else number
    print(f"--seed {number}")
    before = outside(ground)
    first = permissions.order(ground / "project", team, gid=team.group, clauses=[("=", "rwX")])
    orders = [first, replace(first, gid=team.second, clauses=[("=", "o"), ("+", "X")])]
    changed, issues = 0, set[str]()
    with meddling(attack, ground, team, number) as done:
        end, turn = time.monotonic() + (31 if full else 1), 0
        while time.monotonic() < end:
            outcome = permissions.carry_out(privileged, orders[turn % 2])
            changed += len(outcome.rows)
            issues |= {issue.reason for issue in outcome.issues}
            turn += 1
    print(f"{turn} orders, {changed} changes, {done[0]} attacks; {sorted(issues)}")
    assert outside(ground) == before
    assert changed > 50
    assert done[0] > 50
    check_all_is_done(privileged, orders[0])
    assert outside(ground) == before
    check_it_bites(attack, ground, team, number, before)


def check_all_is_done(privileged: Executor, told: Order) -> None:
    """With nobody meddling, one more order leaves nothing to do."""
    assert permissions.carry_out(privileged, told).issues == []
    assert permissions.carry_out(privileged, told).rows == []


def check_it_bites(
    attack: Attack, ground: Path, team: Team, number: int, before: dict[bytes, permissions.Entry]
) -> None:
    turn, begin = 0, time.monotonic()
    while outside(ground) == before:
        assert time.monotonic() < begin + 60, "the adversary is harmless"
        with meddling(attack, ground, team, number + turn):
            for gid in [team.group, team.second] * 10:
                attack.victim(ground / "project", gid)
        turn += 1
    print(f"the usual program changed something outside after {time.monotonic() - begin:.1f} s")
