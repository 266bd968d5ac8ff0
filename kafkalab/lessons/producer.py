"""A small live source: an HTTP endpoint on this machine that sends lines as time passes."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CLIENT_SECONDS = 10  # after which a client that does not read is given up


class LiveSource:
    """Sends the same lines to whoever asks, one after each interval; a context manager.

    The end of the `with` block ends the answers that are still being sent.

    Args:
        lines: What each GET is answered with, from the first line on.
        interval: Seconds before each line.

    Attributes:
        url: The address, on a free port of loopback.
    """

    def __init__(self, lines: Sequence[str], interval: float) -> None:
        self._ending = threading.Event()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(lines, interval, self._ending))
        self._server.daemon_threads = False  # so that server_close waits for the answers to end
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://{HOST}:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(lines: Sequence[str], interval: float, ending: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS

        def do_GET(self) -> None:
            with suppress(OSError):  # the client went away
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.end_headers()
                for line in lines:
                    if ending.wait(interval):
                        break
                    self.wfile.write(f"{line}\n".encode())

        def log_message(self, *_: object) -> None:
            """Print nothing: the notebook is not a log."""

    return Handler
