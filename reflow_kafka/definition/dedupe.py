"""A stage that passes equal events on once: from what a user writes to its spec."""

from __future__ import annotations

from typing import Any, Final

from reflow_kafka.definition.arguments import read_key_of, read_milliseconds, refuse_unknown
from reflow_kafka.definition.operators import Dedupe
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import UNSET, StageSpec
from reflow_kafka.definition.stages import EDGE, make_stage

OPTIONS: Final = (*EDGE, "by", "within")


def dedupe_spec(
    name: Any, place: Place, /, *, by: Any = None, within: Any = None, **options: Any
) -> StageSpec:
    """Such a stage. Unless it is given a key, what makes events equal is their key.

    Raises:
        DefinitionError: an argument is not what it must be.
    """
    if not isinstance(name, str):
        place.fail(f"its first argument is the name of the stage, not {name!r}")
    refuse_unknown(options, OPTIONS, name, place)
    what = "how far the times of equal events lie apart at most"
    time = read_milliseconds("within", within, name, place, what=what, least=0.001)
    by = read_key_of("by", by, name, place)
    keyed = options.get("key") not in (None, UNSET)
    if by is not None and not keyed:
        options["key"] = by
    return make_stage(name, place, options, operator=Dedupe(by=by if keyed else None, within=time))
