"""Lets other processes on this machine use the log that is open here, through a local socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from reflow_kafka.errors import LogError, ReflowError
from reflow_kafka.log.api import Log
from reflow_kafka.log.embedded.protocol import (
    ARGUMENTS,
    POINTER,
    SOCKET,
    Request,
    Response,
    failure_of,
    receive,
    transmit,
)
from reflow_kafka.log.embedded.service import LogService

logger = logging.getLogger(__name__)

MAX_PATH = 100  # bytes; systems allow 104 to 108

_encode = msgspec.msgpack.Encoder().encode
_NOTHING = msgspec.Raw(_encode(None))


class LogServer:
    """Serves one log on ``<data_dir>/log.sock``, for this user only.

    Where that path is too long for a socket, it is made in a directory for temporary files, and
    ``<data_dir>/log.sock.path`` says where.
    """

    def __init__(self, log: Log, data_dir: Path) -> None:
        self._service = LogService(log)
        self._data_dir = data_dir
        self._server: asyncio.Server | None = None
        self._temporary: Path | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A log that cannot be served is still a log: that is a warning only."""
        if self._server is not None:
            return
        try:
            listener = _bind(self._place())
            self._server = await asyncio.start_unix_server(self._connected, sock=listener)
        except OSError as error:
            logger.warning("other processes cannot reach the log in %s: %s", self._data_dir, error)

    async def stop(self) -> None:
        """End all connections and remove the socket; never raises."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        _remove(self._data_dir / SOCKET)
        _remove(self._data_dir / POINTER)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _place(self) -> Path:
        """Where to listen. Whatever is there is left over: the data directory is locked by this process."""
        path = (self._data_dir / SOCKET).absolute()
        _remove(path)
        _remove(self._data_dir / POINTER)
        if len(os.fsencode(path)) > MAX_PATH:
            self._temporary = Path(tempfile.mkdtemp(prefix="reflow-"))
            path = self._temporary / SOCKET
            (self._data_dir / POINTER).write_text(f"{path}\n")
        return path

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (message := await receive(reader, None)) is not None:
                await transmit(writer, await self._answer(message))
        except (OSError, TimeoutError):
            pass  # the other side has gone, or does not listen: its affair
        except asyncio.CancelledError:
            pass  # stopping; asyncio would report it as an error of this callback
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, message: bytes) -> bytes:
        try:
            request = msgspec.msgpack.decode(message, type=Request)
            return _encode(Response(None, msgspec.Raw(_encode(await self._call(request)))))
        except ReflowError as error:
            return _encode(Response(failure_of(error), _NOTHING))
        except msgspec.MsgspecError as error:
            return _encode(Response(failure_of(LogError(f"no such request: {error}")), _NOTHING))

    async def _call(self, request: Request) -> Any:
        taken = ARGUMENTS.get(request.method)
        if taken is None:
            raise LogError(f"the running worker does not know the request {request.method!r}")
        arguments = msgspec.msgpack.decode(request.arguments, type=taken)
        result = await getattr(self._service, request.method)(*arguments)
        return list(result.values()) if request.method.endswith("_offsets") else result


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode has to be right from the start, not a moment later.
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
