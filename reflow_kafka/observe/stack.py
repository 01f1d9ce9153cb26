"""Where a thread stands at this moment, in words for the person whose code it runs."""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from reflow_kafka.definition.place import is_users, short

_COMPILED: Final = re.compile(r"<stage (?P<name>\w+) \d+>")
"""The file name of a stage's loop, which `lane.compile` makes."""
_LOOP: Final = str(Path(asyncio.__file__).parent)
_LANE: Final = str(Path(__file__).parent.parent / "lane")
_LINES: Final = 12
"""Frames that are shown at most."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a thread stands."""

    place: str
    """``flow.stage[lane]`` of the stage whose work it does; empty if it does none's."""
    line: str
    """``file:line in function``, the innermost of the user's code; of any code if there is none of that."""
    stack: str
    """The stack from there on, or its last frames."""


def standing(thread: int) -> Standing | None:
    """Where the thread of this identity stands; None if there is none."""
    innermost = sys._current_frames().get(thread)
    if innermost is None:
        return None
    frames = list(_frames(innermost))
    # Further out than the loop lies the program that started it.
    step = list(itertools.takewhile(lambda f: not f.f_code.co_filename.startswith(_LOOP), frames)) or frames
    users = [frame for frame in step if is_users(frame.f_code.co_filename)]
    shown = users[0] if users else step[0]
    inner = step[: step.index(users[-1]) + 1] if users else step
    stack = traceback.StackSummary.extract((f, f.f_lineno) for f in reversed(inner[:_LINES]))
    code = shown.f_code
    line = f"{short(code.co_filename)}:{shown.f_lineno} in {code.co_qualname}"
    return Standing(_place(frames), line, "".join(stack.format()).rstrip())


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """From the innermost outwards."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place(frames: list[FrameType]) -> str:
    """Found in the stack itself, so that no worker has to say for each event what it is doing."""
    stage = ""
    for frame in frames:
        file = frame.f_code.co_filename
        if not stage and (compiled := _COMPILED.fullmatch(file)):
            stage = compiled["name"]
        if file.startswith(_LANE):
            worker = frame.f_locals.get("self")
            node = getattr(worker, "node", None)
            if node is not None:
                # Of a chain the stage that runs is another one than the worker's.
                return str(worker).replace(f".{node.name}[", f".{stage or node.name}[")
    return stage
