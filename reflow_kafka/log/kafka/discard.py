"""Closing aiokafka's clients within a few seconds, whatever state they are in, and leaving nothing behind.

The library's own `stop` will not do. A producer's flushes, for ever while the broker is away. A consumer's
awaits tasks that it has just cancelled, and so cancels whoever called it. Connections are closed only when
everything written to them was read, which a broker that is stopped never does. And errors of futures that
nobody awaits are reported by the event loop when they are collected, long after they have been dealt with.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

TASKS_TIMEOUT = 1.0
CLIENT_TIMEOUT = 1.0


async def discard_producer(producer: Any) -> None:
    """End a producer without flushing it: a lane's batches count only if its transaction is over."""
    producer._closed = True
    sender = producer._sender
    await _cancel([sender._sender_task], more=sender.live)
    forget(producer._txn_manager._transaction_waiter)
    for batches in producer._message_accumulator._batches.values():
        for batch in batches:
            forget(batch._drain_waiter)  # failed with the batch, although nobody may wait for it
    await close_client(producer.client)


async def discard_consumer(consumer: Any) -> None:
    """End a consumer that belongs to no group."""
    consumer._closed = True
    fetcher, coordinator = consumer._fetcher, consumer._coordinator
    tasks = [] if coordinator is None else [coordinator._reset_committed_task]
    if fetcher is not None:
        fetcher._closed = True
        tasks += [fetcher._fetch_task, *fetcher._pending_tasks]
        for waiter in list(fetcher._fetch_waiters):
            if not waiter.done():
                waiter.set_result(None)
    await _cancel(tasks)
    await close_client(consumer._client)


async def close_client(client: Any) -> None:
    """Close a client's connections: in good order if that is quick, else by force."""
    transports = [each._writer.transport for each in client._conns.values() if each._writer is not None]
    closing = asyncio.get_running_loop().create_task(client.close())
    await asyncio.wait([closing], timeout=CLIENT_TIMEOUT)
    if not closing.done():
        for transport in transports:
            transport.abort()
        await asyncio.wait([closing], timeout=CLIENT_TIMEOUT)
        closing.cancel()
    closing.add_done_callback(forget)
    await asyncio.sleep(0)  # transports are gone one turn of the loop after they say so


def forget_positions(producer: Any) -> None:
    """Nobody waits any more for the positions that were handed over; the sender may still fail them."""
    for _, _, sent in producer._txn_manager._pending_txn_offsets:
        sent.add_done_callback(forget)


def forget(future: asyncio.Future[Any] | None) -> None:
    """Take note of a future's error, so that the loop does not report it."""
    if future is not None and future.done():
        with contextlib.suppress(asyncio.CancelledError):
            future.exception()


async def _cancel(
    tasks: Iterable[asyncio.Task[Any] | None], more: Iterable[asyncio.Task[Any]] = frozenset()
) -> None:
    """Cancel tasks, and `more` that may still be growing, until all are done or the time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TASKS_TIMEOUT
    known = {task for task in tasks if task is not None}
    while True:
        known.update(more)
        pending = {task for task in known if not task.done()}
        if not pending or loop.time() >= deadline:
            break
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)
    for task in known:
        task.add_done_callback(forget)
