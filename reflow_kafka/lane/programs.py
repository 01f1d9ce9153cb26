"""Makes the program of a timed stage, with the shelves on which it keeps what it remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import TypeVar

from reflow_kafka.definition.operators import Operator
from reflow_kafka.state.shelf import Shelf, Shelves
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.program import Program
from reflow_kafka.topology.plan import Node

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Materials:
    """What a program is made of."""

    node: Node
    stores: LaneStores
    shelves: Shelves = field(default_factory=Shelves)

    def shelf(self, prefix: bytes, encode: Callable[[T], bytes], decode: Callable[[bytes], T]) -> Shelf[T]:
        """A shelf in the stage's store, whose keys begin with `prefix` there: one byte, its own."""
        return self.shelves.add(Shelf(self.stores, self.node.name, prefix, encode, decode))


@singledispatch
def make_program(operator: Operator, materials: Materials) -> Program:
    """The program of a stage with this operator."""
    raise NotImplementedError(type(operator).__name__)
