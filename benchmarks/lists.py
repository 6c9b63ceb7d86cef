"""Synthetic lists as GPFS's policy engine writes them, in the order of inodes."""

import random
from pathlib import Path
from urllib.parse import quote

FILES_PER_DIRECTORY = 30
TOP = "/gpfs/fs1"


def gpfs(path: Path, entries: int, seed: int = 1) -> None:
    """30 files a directory, depth up to 12; a third of the names needs percent-encoding."""
    chance = random.Random(seed)
    directories = _directories(max(entries // (FILES_PER_DIRECTORY + 1), 2), chance)
    files = entries - len(directories)
    times = [_time(chance) for _ in range(10_000)]
    # Inodes are given out at another pace than names: neighbours in the list are none in the tree.
    order = list(range(entries))
    chance.shuffle(order)
    with path.open("w") as file:
        for number in order:
            pick = number * 7919
            size = number * 104_729 % 10_000_000
            if number < len(directories):
                name, kind, links = directories[number], "drwxr-x---", 2
            else:
                index = number - len(directories)
                parent = directories[index * len(directories) // files]
                leaf = f"result-{index:08d}.h5" if index % 3 else f"scan%20%28{index}%29%20%232.dat"
                name, kind, links = f"{parent}/{leaf}", "-rw-r-----", 1
            file.write(
                f"{100_000 + number} {pick % 2**31} 0  {kind}%7C{links}%7C{10_000 + pick % 400}"
                f"%7C{20_000 + pick % 60}%7C{size}%7C{(size + 1023) // 1024}"
                f"%7C{times[pick % 10_000]}%7C{times[pick % 9_973]}%7C{times[pick % 9_967]}"
                f" -- {name}\n"
            )


def _directories(number: int, chance: random.Random) -> list[str]:
    found = [TOP]
    while len(found) < number:
        parent = found[max(0, len(found) - chance.randrange(1, 2000))]
        if parent.count("/") > 11:
            parent = TOP
        found.append(f"{parent}/" + quote(chance.choice(["run", "Beam line", "d", "café"]))
                     + f"-{len(found):06x}")  # fmt: skip
    return found


def _time(chance: random.Random) -> str:
    day, second = chance.randrange(28 * 12), chance.randrange(86_400)
    date = f"{chance.randrange(2015, 2027)}-{day // 28 + 1:02d}-{day % 28 + 1:02d}"
    clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return quote(f"{date} {clock}.{chance.randrange(10**6):06d}", safe="")
