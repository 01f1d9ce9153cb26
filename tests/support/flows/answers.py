"""The flow of `tests.client.flows`, for workers."""

from __future__ import annotations

import os

from tests.client.flows import shop

name = os.environ["FLOW_NAME"]
flow = shop(name, f"{name}-orders")
