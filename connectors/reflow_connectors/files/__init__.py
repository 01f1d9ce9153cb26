"""Files: CSV and JSON lines, read with exact resumption and written exactly once."""

from reflow_connectors.files.sink import CsvSink, JsonLinesSink
from reflow_connectors.files.source import CsvSource, JsonLinesSource

__all__ = ["CsvSink", "CsvSource", "JsonLinesSink", "JsonLinesSource"]
