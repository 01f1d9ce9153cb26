"""The stages of `temperature_monitor.py`: plain Python, which knows nothing of streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def categorise(reading: dict[str, Any]) -> dict[str, Any]:
    """Add the category of a machine's temperature."""
    celsius = reading["celsius"]
    category = "HOT" if celsius >= 80 else "COLD" if celsius <= 20 else "NOMINAL"
    return {**reading, "category": category}


@dataclass
class Last:
    """What is remembered of a machine."""

    category: str = "UNKNOWN"


def detect_change(last: Last, reading: dict[str, Any]) -> dict[str, Any] | None:
    """Report a machine whose category is another than at its reading before."""
    before, last.category = last.category, reading["category"]
    if last.category == before:
        return None
    return {"machine": reading["machine"], "at": reading["at"], "from": before, "to": last.category}
