"""The web pages as one router, the files that they refer to, and the page of failures."""

from pathlib import PurePath

from fastapi import APIRouter, Response

from dashboard import browse, home, operations, policy_routes, rendering, selection, usage
from datamgr.errors import NotFoundError

router = APIRouter(include_in_schema=False)
router.include_router(home.router)
router.include_router(usage.router)
router.include_router(browse.router)
router.include_router(selection.router)
router.include_router(policy_routes.router)
router.include_router(operations.router)


@router.get("/static/{version}/{file}")
def static(version: str, file: str) -> Response:
    """A style sheet, script or icon; its address changes with its content.

    Raises:
        NotFoundError: there is none of this name.
    """
    content = rendering.static_files().get(file)
    if content is None:
        raise NotFoundError("There is nothing at this address.")
    newest = version == rendering.static_version()
    caching = "public, max-age=31536000, immutable" if newest else "no-cache"
    media_type = rendering.STATIC_TYPES[PurePath(file).suffix]
    return Response(content, media_type=media_type, headers={"Cache-Control": caching})
