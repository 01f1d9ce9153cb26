"""Queries over HTTP: the server that answers them, and the client that asks other engines.

    GET /state/<stage>/<key>            the key percent-encoded; what it decodes to are the key's bytes
    GET /state/<stage>?key=<key>        the same, for keys that mean something in a path, such as ``..``
        &store=<store>                  what a named store of the stage holds, instead of its state
        &flow=<flow>                    if several flows of the engine have a stage of that name

An engine that asks another one says so in a header, and is answered from there or not at all.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes, urlencode

import msgspec

from reflow_kafka.engine.address import Address, host_of
from reflow_kafka.engine.queries import Answer, NoSuchStage, NotHere, OwnerSilent, Queries, Query, Question
from reflow_kafka.errors import ReflowError, StateUnavailable, UsageError

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from aiohttp.web import AppRunner, Request, StreamResponse
    from yarl import URL

logger = logging.getLogger(__name__)

HOP: Final = "Reflow-Hop"
"""Header of a query that has come from another engine."""
PATIENCE: Final = 5.0
"""Seconds that another engine has to answer."""
CLOSING: Final = 1.0
"""Seconds that answers under way have when the engine ends."""
_FROM_CLIENTS: Final = {"key", "store", "flow"}
_FROM_ENGINES: Final = {*_FROM_CLIENTS, "lane", "incarnation"}


def _library() -> Any:
    try:
        import aiohttp.web
    except ImportError:
        raise UsageError("http= needs aiohttp: pip install 'reflow-kafka[http]'") from None
    return aiohttp


class HttpServer:
    """Listens for queries.

    Args:
        address: where.
        advertise: where others find it; None: at `address`, or by the name of this machine.
        queries: answers them.
    """

    def __init__(self, address: Address, advertise: Address | None, queries: Queries) -> None:
        self._aiohttp = _library()
        self._address = address
        self._advertise = advertise
        self._queries = queries
        self._runner: AppRunner | None = None
        self._hosts: set[str] = set()

    async def start(self) -> str:
        """Listen; returns the address to be told to others.

        Raises:
            UsageError: the address cannot be used.
        """
        web = self._aiohttp.web
        app = web.Application()
        app.router.add_get("/state/{rest:.*}", self._state)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSING)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._address.host, self._address.port).start()
        except OSError as error:
            await runner.cleanup()
            raise UsageError(f"cannot listen for queries at {self._address}: {error}") from error
        self._runner = runner
        found = Address(self._address.host, runner.addresses[0][1])
        told = self._advertise or found
        if told.is_wildcard:
            told = Address(socket.gethostname(), told.port)
        if told.port == 0:
            told = Address(told.host, found.port)
        if found.is_loopback:
            self._hosts = {"localhost", "127.0.0.1", "::1", found.host.lower(), told.host.lower()}
        logger.info("answering queries at http://%s/state/STAGE/KEY", told)
        return str(told)

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _state(self, request: Request) -> StreamResponse:
        try:
            self._check_host(request)
            query, parameters = _read(request)
            if HOP in request.headers:
                answer = self._queries.answer(_question(query, parameters))
            else:
                answer = await self._queries.ask(query)
        except ReflowError as error:
            return self._refusal(error)
        return self._response(200 if answer.found else 404, answer)

    def _check_host(self, request: Request) -> None:
        """A name that leads here from elsewhere, in a browser say, does not open what is for this machine."""
        if self._hosts and host_of(request.host) not in self._hosts:
            raise UsageError(f"found host {request.host!r}, wanted one of {', '.join(sorted(self._hosts))}")

    def _refusal(self, error: ReflowError) -> StreamResponse:
        status, headers = 500, {}
        if isinstance(error, NotHere):
            status = 421
        elif isinstance(error, StateUnavailable):
            status = 504 if isinstance(error, OwnerSilent) else 503
            headers["Retry-After"] = f"{error.retry_after:.0f}"
        elif isinstance(error, UsageError):
            status = 404 if isinstance(error, NoSuchStage) else 400
        return self._response(status, {"error": str(error)}, headers)

    def _response(self, status: int, body: object, headers: dict[str, str] | None = None) -> StreamResponse:
        response: StreamResponse = self._aiohttp.web.Response(
            status=status,
            body=msgspec.json.encode(body),
            content_type="application/json",
            headers={"Cache-Control": "no-store", **(headers or {})},
        )
        return response


def _read(request: Request) -> tuple[Query, dict[str, str]]:
    """A query and its parameters; the library's own decoding would lose bytes that are no text."""
    path, _, query = request.raw_path.partition("?")
    stage, slash, key = path.removeprefix("/state/").partition("/")
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="surrogateescape",
            max_num_fields=9,
        )
    except ValueError as error:
        raise UsageError(f"found {query!r} after the path, wanted name=value: {error}") from None
    parameters = dict(pairs)
    known = _FROM_ENGINES if HOP in request.headers else _FROM_CLIENTS
    for name in parameters.keys() - known:
        raise UsageError(f"unknown parameter {name!r}; there is {', '.join(sorted(known))}")
    if bool(slash) == ("key" in parameters) or len(parameters) < len(pairs):
        raise UsageError("wanted one key: /state/STAGE/KEY or /state/STAGE?key=KEY")
    raw = unquote_to_bytes(key) if slash else parameters["key"].encode("utf-8", "surrogateescape")
    return Query(unquote(stage), raw, parameters.get("store"), parameters.get("flow")), parameters


def _question(query: Query, parameters: dict[str, str]) -> Question:
    try:
        return Question(query, int(parameters["lane"]), parameters["incarnation"])
    except (LookupError, ValueError) as error:
        raise UsageError(f"found {parameters}, wanted lane and incarnation: {error!r}") from None


class HttpOthers:
    """Asks other engines."""

    def __init__(self) -> None:
        self._aiohttp = _library()
        self._session: ClientSession | None = None

    async def ask(self, address: str, question: Question) -> Answer:
        """Ask the engine at an address; see `Others.ask`."""
        aiohttp = self._aiohttp
        if self._session is None:
            limit = aiohttp.ClientTimeout(total=PATIENCE)
            self._session = aiohttp.ClientSession(timeout=limit, headers={HOP: "1"})
        try:
            async with self._session.get(_url(address, question), allow_redirects=False) as response:
                return _answer(response.status, await response.read(), address)
        except TimeoutError as error:
            raise OwnerSilent(f"the engine at {address} did not answer within {PATIENCE:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NotHere(
                f"lane {question.lane} of {question.query.flow!r} was last run by the engine at {address}, "
                f"which cannot be reached ({error}): it has ended, or its address is not for others "
                "(http_advertise=)"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def _url(address: str, question: Question) -> URL:
    from yarl import URL

    query = question.query
    parameters = {
        "key": query.key,
        "store": query.store,
        "flow": query.flow,
        "lane": question.lane,
        "incarnation": question.incarnation,
    }
    given = urlencode({name: value for name, value in parameters.items() if value is not None})
    return URL(f"http://{address}/state/{quote(query.stage, safe='')}?{given}", encoded=True)


def _answer(status: int, body: bytes, address: str) -> Answer:
    """What another engine has answered, or why it has not."""
    with contextlib.suppress(msgspec.DecodeError):
        return _answers.decode(body)
    try:
        why = _refusals.decode(body)["error"]
    except (msgspec.DecodeError, LookupError):
        why = f"HTTP status {status}"
    message = f"the engine at {address} does not answer: {why}"
    raise StateUnavailable(message) if status in (503, 504) else NotHere(message)


_answers = msgspec.json.Decoder(Answer)
_refusals = msgspec.json.Decoder(dict[str, str])
