"""Whose page is made next: few at a time, and never all of them for one account."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# With those who are looked up they stay below the connections of `datamgr.db.CONNECTIONS`, so no
# page waits for the connection of one that waits for a thread. More would only share one core.
PAGES = 8
PAGES_OF_ONE = 3
LOOKS = 3


class Turns:
    """Lets `pages` requests go on at once, `pages_of_one` of each account, in order of arrival.

    For one event loop. Who waits because of their own requests takes nobody's place.
    """

    def __init__(self, pages: int = PAGES, pages_of_one: int = PAGES_OF_ONE) -> None:
        self._all = asyncio.Semaphore(pages)
        self._pages_of_one = pages_of_one
        self._accounts: dict[int, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, uid: int) -> AsyncIterator[None]:
        """Wait for a turn of this account; it lasts for the block."""
        own, asking = self._accounts.get(uid, (asyncio.Semaphore(self._pages_of_one), 0))
        self._accounts[uid] = own, asking + 1
        try:
            async with own, self._all:
                yield
        finally:
            own, asking = self._accounts.pop(uid)
            if asking > 1:
                self._accounts[uid] = own, asking - 1

    @property
    def accounts(self) -> int:
        """How many accounts have a turn or wait for one."""
        return len(self._accounts)
