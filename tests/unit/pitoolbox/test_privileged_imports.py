"""What runs with privileges is the standard library and `pitoolbox.privileged` alone."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pitoolbox.privileged

PACKAGE = Path(pitoolbox.privileged.__file__).parent
NAME = "pitoolbox.privileged"
# What an auditor would have to read as well, or what opens a way out.
UNWANTED = {"subprocess", "socket", "pickle", "shutil", "tempfile", "importlib", "multiprocessing"}

BOOT = """
import sys
sys.path.insert(0, sys.argv[1])
import pitoolbox.privileged.__main__
for name, module in sorted(sys.modules.items()):
    place = getattr(module, "__file__", None)
    if place and name.partition(".")[0] not in sys.stdlib_module_names and name != "__main__":
        print(name)
"""


def imported(source: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name} imports relatively"
            yield str(node.module)


def test_it_imports_the_standard_library_and_itself() -> None:
    sources = sorted(PACKAGE.rglob("*.py"))
    assert len(sources) >= 5
    for source in sources:
        for name in imported(source):
            top = name.partition(".")[0]
            own = name == NAME or name.startswith(f"{NAME}.")
            assert own or top in sys.stdlib_module_names, f"{source.name} imports {name}"
            assert top not in UNWANTED, f"{source.name} imports {name}"


def test_it_runs_nothing_by_name() -> None:
    """No shell, no program, no code made of text."""
    calls = {"system", "popen", "eval", "exec", "compile", "__import__", "fork", "posix_spawn"}
    for source in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else ""
                name = called.id if isinstance(called, ast.Name) else name
                assert name not in calls and not name.startswith(("execv", "spawn")), source.name


def test_it_starts_isolated_without_site_packages() -> None:
    """Nothing else of this project, and nothing installed, is even there to be imported."""
    place = str(PACKAGE.parents[1])
    flags = ("-I", "-S", "-X", "utf8")
    done = subprocess.run(
        [sys.executable, *flags, "-c", BOOT, place], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert loaded[:2] == ["pitoolbox", NAME]
    assert all(name.startswith(NAME) for name in loaded[1:]), loaded

    policy = {"roots": ["/nowhere"], "min_uid": 1000, "min_gid": 1000, "account": [65534, 65534]}
    policy |= {"staff_users": [], "staff_groups": []}
    run = f"import sys, runpy; sys.path.insert(0, {place!r}); runpy.run_module({NAME!r}, "
    run += "run_name='__main__', alter_sys=True)"
    done = subprocess.run(
        [sys.executable, *flags, "-c", run, json.dumps(policy)],
        input="{}\n", capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert "ready" in answers[0] and answers[1] == {"refused": "there is no order"}


def test_it_is_short_enough_to_be_read_at_once() -> None:
    lines = sum(len(source.read_text().splitlines()) for source in PACKAGE.rglob("*.py"))
    assert lines < 1200
