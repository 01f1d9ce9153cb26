"""Options that take some of several names."""

from __future__ import annotations

from typing import Any

import click


class Names(click.ParamType):
    """Some of several names, separated by commas, or ``all``."""

    name = "names"

    def __init__(self, *known: str) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Check and divide."""
        if not isinstance(value, str):
            return list(value)
        names = list(self._known) if value == "all" else [name for name in value.split(",") if name]
        if unknown := [name for name in names if name not in self._known]:
            self.fail(f"found {', '.join(unknown)}, wanted some of {', '.join(self._known)}", param, ctx)
        return names
