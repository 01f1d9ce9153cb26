"""Firings of a clock, none of which may be missing or come twice."""

import os

from reflow_kafka import Flow

PERIOD = 300
"""Milliseconds."""
NAME = os.environ["FLOW_NAME"]

flow = Flow(NAME, partitions=3)
flow.sink("firings", after=flow.source("tick", every=PERIOD / 1000, missed="all"), topic=f"{NAME}-firings")
