"""What is asked for by one request, checked."""

from pydantic import AwareDatetime, BaseModel, ConfigDict

from tiering.questions import Action


class Request(BaseModel):
    """What is to be done to files of a root.

    `recursive`: to everything below directories. `punch`: free the blocks of what was put.
    `unguarded`: make stubs although nothing stops root from reading zeros in them. `until`: how
    long a pin holds. Of a scrub, `older_than_s`: only what was not read for so long, `bytes_per_s`:
    at most, `repair`: from a good copy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    action: Action
    recursive: bool = False
    punch: bool = False
    unguarded: bool = False
    until: AwareDatetime | None = None
    older_than_s: int = 0
    bytes_per_s: int | None = None
    repair: bool = False
