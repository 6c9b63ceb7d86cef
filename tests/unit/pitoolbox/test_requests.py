"""A request survives the queue as it is, and nothing that was tampered with becomes one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamgr.errors import InvalidError
from pitoolbox.requests import Action, ActionKind, Request

CHGRP = Action(ActionKind.CHGRP, group="data")
names = st.binary(min_size=1, max_size=20).filter(
    lambda name: not set(name) & {0, ord("/")} and name not in (b".", b"..")
)


@given(st.lists(st.lists(names, min_size=1, max_size=3).map(b"/".join), min_size=1, max_size=5))
def test_a_request_is_the_same_after_the_queue(paths: list[bytes]) -> None:
    request = Request("cosmo", CHGRP, (*paths, b"."), recursive=True, max_depth=3, only="files")
    assert Request.from_params(json.loads(json.dumps(request.to_params()))) == request


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"paths": []}, "nothing is selected"),
        ({"paths": ["../x"]}, "no path below the project"),
        ({"paths": ["/etc"]}, "no path below the project"),
        ({"paths": ["a\0"]}, "no path below the project"),
        ({"paths": ["\u0101"]}, "paths.0"),
        ({"paths": [5]}, "paths.0"),
        ({"paths": "abc"}, "paths"),
        ({"project": 5}, "project"),
        ({"project": None}, "project"),
        ({"recursive": "yes"}, "recursive"),
        ({"override": 1}, "override"),
        ({"dry_run": None}, "dry_run"),
        ({"max_depth": -1, "recursive": True}, "max_depth"),
        ({"max_depth": 1}, "a depth is for recursive requests"),
        ({"only": "sockets"}, "only"),
        ({"undo_of": 3}, "those of the earlier"),
        ({"undo_of": 3, "retry_of": 4, "paths": []}, "either undoes"),
        ({"undo_of": "3", "paths": []}, "undo_of"),
        ({"action": {"kind": "rm"}}, "action.kind"),
        ({"action": {"kind": "chgrp"}}, "chgrp takes a group"),
        ({"action": {"kind": "chgrp", "group": ""}}, "chgrp takes a group"),
        ({"action": {"kind": "share", "mode": "g+r"}}, "share takes no argument"),
        ({"action": {"kind": "chown", "user": "ada", "mode": "g+r"}}, "chown takes a user"),
        ({"action": None}, "action"),
        ({"shell": "rm -rf /"}, "shell"),
    ],
)
def test_what_was_tampered_with_is_no_request(changes: dict[str, Any], why: str) -> None:
    params = Request("cosmo", CHGRP, (b".",)).to_params() | changes
    with pytest.raises(InvalidError, match=why):
        Request.from_params(params)


@pytest.mark.parametrize("missing", ["project", "action", "paths"])
def test_a_request_is_complete(missing: str) -> None:
    params = Request("cosmo", CHGRP, (b".",)).to_params()
    del params[missing]
    with pytest.raises(InvalidError, match=missing):
        Request.from_params(params)
