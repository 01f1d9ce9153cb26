"""Reading the answers to requests. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reflow_kafka.definition.spec import ANY, UpstreamRef
from reflow_kafka.errors import ReflowError, RequestFailed
from reflow_kafka.log.api import Record
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.topology.plan import Plan
from reflow_kafka.topology.replies import REPLY_FROM, header

ERROR = "reflow.error."


class Answers:
    """Knows the types of all that a flow answers with."""

    def __init__(self, plan: Plan) -> None:
        self._decoders: Mapping[str, Callable[[bytes], Any]] = {
            str(UpstreamRef(node.name, output.name)): edge_codec(output.type, output.format).decode
            for node in plan.all_nodes
            for output in node.outputs
            if output.topic == plan.reply_topic
        }
        self._untyped = edge_codec(ANY).decode

    def read(self, record: Record) -> Any:
        """The value; None for a tombstone.

        Raises:
            RequestFailed: the request became a dead letter.
            ReflowError: the answer cannot be read: the flow that runs is another version of this one.
        """
        stated = header(record.headers, REPLY_FROM)
        if stated is None:
            raise RequestFailed(*(_text(record, ERROR + fact) for fact in ("stage", "type", "message")))
        if record.value is None:
            return None
        output = stated.decode("utf-8", "replace")
        try:
            return self._decoders.get(output, self._untyped)(record.value)
        except (ValueError, RecursionError) as error:
            raise ReflowError(
                f"the answer of {output!r} cannot be read: {error}; is the flow that runs another "
                "version of the one given to this client?"
            ) from error


def _text(record: Record, name: str) -> str:
    return (header(record.headers, name) or b"").decode("utf-8", "replace")
