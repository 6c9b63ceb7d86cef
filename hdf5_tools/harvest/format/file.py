"""An open file: its bytes, its sizes, and what is looked up in it again and again."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hdf5_tools.harvest.format.global_heap import GlobalHeap
from hdf5_tools.harvest.format.messages import Walks
from hdf5_tools.harvest.format.source import Forms, Source, forms
from hdf5_tools.harvest.format.superblock import Superblock, undefined

if TYPE_CHECKING:
    from hdf5_tools.harvest.format.attribute import Plan
    from hdf5_tools.harvest.format.fractal_heap import FractalHeap


@dataclass(slots=True)
class File:
    """`offset`, `length`: sizes of addresses and lengths in bytes. `nowhere`: the address of
    nothing. `paths`: of the objects by their addresses. `shared_heaps`: message type → the heap of
    its shared messages. `walks`: what was learned of object headers, also in other files.
    `plans`: the same of attributes, but in this file only.
    """

    source: Source
    superblock: Superblock
    walks: Walks
    offset: int = field(init=False)
    length: int = field(init=False)
    nowhere: int = field(init=False)
    forms: Forms = field(init=False)
    global_heap: GlobalHeap = field(init=False)
    shared_heaps: dict[int, "FractalHeap"] = field(default_factory=dict)
    committed: dict[tuple[int, int], bytes] = field(default_factory=dict)
    paths: dict[int, bytes] = field(default_factory=dict)
    plans: dict[bytes, "Plan"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.offset, self.length = self.superblock.offset, self.superblock.length
        self.nowhere = undefined(self.offset)
        self.forms = forms(self.offset, self.length)
        self.global_heap = GlobalHeap(self.source, self.forms)
