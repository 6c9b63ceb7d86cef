"""Paths of any bytes come back from an address as they went."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamgr import display
from datamgr.errors import InvalidError


@given(st.binary(max_size=300))
def test_any_bytes_come_back(path: bytes) -> None:
    text = display.to_address(path)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", text)
    assert display.from_address(text) == path


@pytest.mark.parametrize("text", ["a", "%2e", "ä", "a b c d", "="])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        display.from_address(text)
