"""How a request goes on, for its page to follow."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from datamgr.api import live
from datamgr.api.deps import Account, ReadSession
from datamgr.config import Settings
from pitoolbox import queries
from pitoolbox.portal_requests import Id, values_of

router = APIRouter(prefix="/perms/requests", include_in_schema=False)


def _may_see(request: Request, session: ReadSession, caller: Account, task_id: Id) -> None:
    """Refuse before the stream begins, after which there is no status any more."""
    settings: Settings = request.app.state.settings
    queries.visible(session, settings, caller, task_id)


MaySee = Depends(_may_see, scope="function")


@router.get("/{task_id}/events", response_class=EventSourceResponse, dependencies=[MaySee])
async def events(request: Request, task_id: Id) -> AsyncIterator[ServerSentEvent]:
    """The live part of the page, as `live.follow` sends it."""
    watched = live.Watched(request, task_id, "perms_live.html", values_of)
    async for event in live.follow(watched):
        yield event
