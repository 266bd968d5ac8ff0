"""A relay in front of a port, which can stop passing bytes on: a network that is cut, on one machine.

Toxiproxy does the same as a server of its own, for which a program has to be installed.
"""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Self

from kafkalab.embedded import HOST

_BYTES = 64 * 1024  # that are passed on at a time
_END_SECONDS = 0.05  # between two looks at what has not ended yet
Witness = Callable[[bytes], None]  # sees what passes, before it is passed on


class Relay:
    """Listens on a port of loopback and passes every byte to another one and back, until it is cut.

    While it is cut its connections stay open, and new ones are accepted: whoever connects hears nothing, as behind a
    cable that was pulled. What was sent meanwhile arrives once it is healed.

    Attributes:
        port: Where it listens.

    Args:
        target: The port that it passes to; nobody need listen there yet.
        host: The host of that port.
    """

    def __init__(self, target: int, host: str = HOST) -> None:
        self.port = 0
        self._target = host, target
        self._passes = asyncio.Event()
        self._passes.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"relay to {target}", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """Pass no more bytes on, in neither direction."""
        self._call(self._passes.clear)

    def heal(self) -> None:
        """Pass bytes on again, first those that were held back."""
        self._call(self._passes.set)

    def close(self) -> None:
        """End all connections and listen no more."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, change: Callable[[], None]) -> None:
        """Make a change in the thread of the loop, and wait until it is made."""
        done = threading.Event()
        for call in (change, done.set):
            self._loop.call_soon_threadsafe(call)
        done.wait()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connect, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _end(self) -> None:
        self._server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # again, for one may have begun meanwhile
            for task in others & self._connections:  # not those of asyncio that accept one: they would leave it open
                task.cancel()
            await asyncio.wait(others, timeout=_END_SECONDS)
        for transport in list(self._transports):
            transport.abort()  # close() alone waits for a peer that reads no more
        await asyncio.sleep(0)  # the closed connections take leave in the next turn of the loop

    def witnesses(self) -> tuple[Witness, Witness]:
        """Return who sees what one connection sends and receives: here nobody."""
        return lambda _: None, lambda _: None

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, until its two ends have no more or one of them breaks."""
        if task := asyncio.current_task():
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        self._transports.add(writer.transport)
        sends, receives = self.witnesses()
        with contextlib.suppress(asyncio.CancelledError), contextlib.closing(writer):
            await self._passes.wait()
            try:
                to_reader, to_writer = await asyncio.open_connection(*self._target)
                self._transports.add(to_writer.transport)
                with contextlib.closing(to_writer):
                    async with asyncio.TaskGroup() as ways:
                        ways.create_task(self._pass(reader, to_writer, sends))
                        ways.create_task(self._pass(to_reader, writer, receives))
            except* OSError:
                pass

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, witness: Witness) -> None:
        """Pass bytes from one end to the other, and its word that it has no more."""
        while data := await reader.read(_BYTES):
            await self._passes.wait()
            witness(data)
            writer.write(data)
            await writer.drain()
        await self._passes.wait()
        writer.write_eof()
