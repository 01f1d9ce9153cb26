"""The console: a sink that prints."""

from reflow_connectors.console.sink import PrintSink

__all__ = ["PrintSink"]
