"""The dry run of a policy as a page, as a CSV file and as JSON."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse

from dashboard import browse_links, charts, downloads, policy, policy_answers, policy_files
from dashboard.choices import BASES
from dashboard.policy import Outcome
from dashboard.policy_files import Reader
from datamgr.api.deps import Page, ReadSession
from scanners import answers
from scanners.queries import Row
from scanners.routes import Visible

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/v1", tags=["tiering"])

Name = Annotated[str, Path(max_length=300, pattern=r"^[^\x00]*$")]
UNUSED = {
    "atime": "not read",
    "mtime": "whose content has not changed",
    "ctime": "of which nothing has changed",
}
COLUMNS = ("path", "project", "user", "size_bytes", "alloc_bytes", "time", "state")


def _outcome(
    request: Request, session: ReadSession, visible: Visible, root: str, name: str
) -> Outcome:
    reader = Reader(session, visible, request.app.state.settings)
    return policy.outcome(reader, policy_files.named(reader, root, name))


@router.get("/tiering/policies/{root}/{name}", response_class=HTMLResponse)
def show(
    request: Request, session: ReadSession, visible: Visible, page: Page, root: Name, name: Name
) -> HTMLResponse:
    """What the policy would do now, to files that the caller may see."""
    found = _outcome(request, session, visible, root, name)
    rows = policy_answers.rows(found)
    biggest = max((row["alloc_bytes"] for row in rows), default=0)
    for row, file in zip(rows, found.oldest, strict=True):
        row["link"] = browse_links.to(row["path"].rpartition(b"/")[0] or b"/")
        row["age_s"] = found.of.scan["started_at"].timestamp() - file["time_s"]
        row["bar"] = charts.of_age(row["alloc_bytes"], biggest, row["age_s"])
    owners = {"project": found.projects, "user": found.users}
    values = {
        "found": found,
        "rows": rows,
        "bases": BASES,
        "unused": UNUSED,
        "owners": {owner: charts.with_shares(each) for owner, each in owners.items()},
        "most": policy.MOST_FILES,
        "until": policy_answers.head(found)["until"],
    }
    return page("policy.html", values)


@router.get("/tiering/policies/{root}/{name}/files.csv")
def files_csv(
    request: Request, session: ReadSession, visible: Visible, root: Name, name: Name
) -> Response:
    """The files that the page names."""
    found = _outcome(request, session, visible, root, name)
    return downloads.csv("policy", COLUMNS, policy_answers.rows(found))


@api.get(
    "/tiering/policies/{root}/{name}",
    response_model=policy_answers.PolicyAnswer,
    response_model_exclude_unset=True,
)
def answer(request: Request, session: ReadSession, visible: Visible, root: Name, name: Name) -> Row:
    """The dry run of a policy: what it would do now, to files that the caller may see."""
    found = _outcome(request, session, visible, root, name)
    rows = policy_answers.rows(found)
    return answers.of("policy", rows, **policy_answers.head(found))
