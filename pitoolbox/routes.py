"""The pages of permission requests as one router; the core names it."""

from fastapi import APIRouter

from pitoolbox import portal_browse, portal_live, portal_requests

router = APIRouter(include_in_schema=False)
router.include_router(portal_browse.router)
router.include_router(portal_requests.router)
router.include_router(portal_live.router)
