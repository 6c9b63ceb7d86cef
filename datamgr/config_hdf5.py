"""The settings of HDF5 tools: which indexes can be searched over the web, and by whom."""

from pydantic import Field

from datamgr.config_types import AbsolutePath, Section


class Hdf5IndexSettings(Section):
    """An index, made by `datamgr hdf5 index`, that can be searched on the web by this name."""

    path: AbsolutePath = Field(
        description="The directory of the index; the account of the web pages must read it."
    )
    readers: tuple[str, ...] = Field(
        (),
        description="Unix groups, by name or number, whose members may search it beside staff. "
        "They see the names and attributes of all files in it, so let them be groups that may "
        "read all of these, and give what others own an index of its own.",
    )


class Hdf5Settings(Section):
    """HDF5 tools, see `datamgr hdf5`."""

    index: dict[str, Hdf5IndexSettings] = Field(
        default_factory=dict, description="Indexes by name, see `[hdf5.index.NAME]`."
    )
