"""What all sections of the settings share."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from datamgr import units
from datamgr.config_file import absolute
from datamgr.errors import InvalidError


def _span(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return units.parse_duration_s(value)
    except InvalidError as error:
        raise ValueError(str(error)) from error  # so that pydantic says which setting it is


AbsolutePath = Annotated[Path, BeforeValidator(absolute)]
Seconds = Annotated[float, BeforeValidator(_span)]
# One plain address: nothing in it can end a header or name a second receiver.
EmailAddress = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9.-]+$", max_length=254)
]


class Section(BaseModel):
    """Common to all sections: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
