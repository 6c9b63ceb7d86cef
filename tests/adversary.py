"""Changes a tree without end, so that a walk of it meets everything that can change.

`python -m tests.adversary TREE OUTSIDE SEED` works until it is killed. TREE has directories
a0/b0/c0 … a7/b7/c79 with files; OUTSIDE has b0/c0 … b7/c79 with files named SECRET, so that every
path below a swapped `a` leads somewhere.
"""

import os
import random
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

TOPS, MIDDLES, LEAVES, FILES = 8, 8, 80, 2
SECRET = "SECRET"


def prepare(tree: Path, outside: Path) -> None:
    for middle in range(MIDDLES):
        for leaf in range(LEAVES):
            for top in range(TOPS):
                fill(tree / f"a{top}/b{middle}/c{leaf}", "file")
            fill(outside / f"b{middle}/c{leaf}", SECRET)


def fill(directory: Path, name: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        (directory / f"{name}-{number}").touch()


def swap(tree: Path, outside: Path, chosen: random.Random) -> None:
    """A directory becomes a symbolic link to one outside, and itself again."""
    top = chosen.randrange(TOPS)
    inside = tree / f"a{top}"
    target = outside
    if chosen.random() < 0.5:
        middle = f"b{chosen.randrange(MIDDLES)}"
        inside, target = inside / middle, outside / middle
    away = inside.with_name(f".{inside.name}")
    inside.rename(away)
    inside.symlink_to(target)
    time.sleep(chosen.random() / 500)
    inside.unlink()
    away.rename(inside)


def reuse_inode(tree: Path, outside: Path, chosen: random.Random) -> None:
    """A directory goes and one outside of the same name is made, often with its inode number."""
    top, middle, leaf = (chosen.randrange(n) for n in (TOPS, MIDDLES, LEAVES))
    inside, secret = tree / f"a{top}/b{middle}/c{leaf}", outside / f"b{middle}/c{leaf}"
    shutil.rmtree(secret)
    shutil.rmtree(inside)
    secret.mkdir()
    swap(tree, outside, chosen)
    fill(secret, SECRET)
    fill(inside, "file")


def vanish(tree: Path, _: Path, chosen: random.Random) -> None:
    middle = tree / f"a{chosen.randrange(TOPS)}/b{chosen.randrange(MIDDLES)}"
    for leaf in chosen.sample(range(LEAVES), 5):
        shutil.rmtree(middle / f"c{leaf}")
        fill(middle / f"c{leaf}", "file")


def replace_by_file(tree: Path, _: Path, chosen: random.Random) -> None:
    leaf = tree / f"a{chosen.randrange(TOPS)}/b0/c{chosen.randrange(LEAVES)}"
    shutil.rmtree(leaf)
    leaf.touch()
    time.sleep(chosen.random() / 500)
    leaf.unlink()
    fill(leaf, "file")


def appear(tree: Path, _: Path, chosen: random.Random) -> None:
    leaf = tree / f"a{chosen.randrange(TOPS)}/b{chosen.randrange(MIDDLES)}/c0"
    for number in range(20):
        (leaf / f"new-{number}").touch()
    for number in range(20):
        (leaf / f"new-{number}").unlink()


def close_and_open(tree: Path, _: Path, chosen: random.Random) -> None:
    top = tree / f"a{chosen.randrange(TOPS)}"
    top.chmod(0o000)
    time.sleep(chosen.random() / 500)
    top.chmod(0o755)


def main(tree: Path, outside: Path, seed: int) -> None:
    chosen = random.Random(seed)
    actions = [swap, swap, reuse_inode, reuse_inode, vanish, replace_by_file, appear]
    actions.append(close_and_open)
    print("ready", flush=True)
    while os.getppid() != 1:
        with suppress(FileNotFoundError):
            chosen.choice(actions)(tree, outside, chosen)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
