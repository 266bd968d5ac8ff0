"""The front of the schema registry: a program that starts the registry and has the address that clients know.

Confluent's API begins at the root of that address, Apicurio's at a longer path: the front puts the path before the
routes of the API, and passes on everything else as it is. While the registry starts, requests wait. The two end
together.

It imports nothing of the lab, so that it is there at once and stays small.
"""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
import time
from pathlib import Path

import httpx2
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.iostream import StreamClosedError

HOST = "127.0.0.1"
ROUTES = {"associations", "compatibility", "config", "contexts", "exporters", "mode", "schemas", "subjects", "v1"}
IDLE_SECONDS = 2  # without a request; who asks while the archive is made has to wait for it
HOLD_SECONDS = 60  # that a request waits for a registry that starts
ANSWER_SECONDS = 60  # that the registry may take over one
MOST_BYTES = 10_000_000  # of a request's body
_OF_ONE_CONNECTION = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}  # RFC 9110, 7.6.1
_DIES_WITH_PARENT = 1  # Linux's PR_SET_PDEATHSIG


class Front:
    """The front and the registry behind it.

    Attributes:
        requests: The requests that are being answered.
    """

    def __init__(self, behind: int, path: str, archive: Path, authority: str, command: list[str]) -> None:
        self._behind, self._path, self._archive, self._command = behind, path, archive, command
        self._scheme = "https" if authority else "http"
        verify = ssl.create_default_context(cafile=authority) if authority else False
        self._registry = httpx2.AsyncHTTPTransport(verify=verify, limits=httpx2.Limits(keepalive_expiry=5))
        self._serves = asyncio.Event()
        self._gone = False
        self._taken = time.monotonic()  # when the last request came
        self.requests: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Run the registry until it ends or this process is told to, and return its exit status."""
        follow = _end_with_parent if sys.platform == "linux" else None
        registry = await asyncio.create_subprocess_exec(*self._command, preexec_fn=follow)
        if sys.platform != "win32":  # which knows no orderly end of another process
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _end, registry)
        starts = asyncio.create_task(self._await_start(registry.pid))
        status = await registry.wait()
        starts.cancel()
        self._gone = True
        self._serves.set()
        await asyncio.gather(*self.requests)
        return status

    async def _await_start(self, process: int) -> None:
        while not self._serves.is_set():
            with contextlib.suppress(httpx2.TransportError):
                answer = await self._registry.handle_async_request(
                    self._request("GET", f"{self._path}/subjects", [], b"")
                )
                await answer.aclose()
                self._serves.set()
            await asyncio.sleep(0.05)
        if not self._archive.exists():
            while (pause := self._taken + IDLE_SECONDS - time.monotonic()) > 0:  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(pause)
            await self._make_archive(process)

    async def _make_archive(self, process: int) -> None:
        """Make the class-data archive of the next starts out of what the registry has loaded; no failure counts."""
        java = Path(self._command[0])
        new = self._archive.with_name(f"{os.getpid()}-{self._archive.name}")
        told = [str(java.with_name(java.name.replace("java", "jcmd"))), "-J-XX:-UsePerfData", str(process)]
        nowhere = asyncio.subprocess.DEVNULL
        try:
            self._archive.parent.mkdir(parents=True, exist_ok=True)
            making = await asyncio.create_subprocess_exec(
                *told, "VM.cds", "dynamic_dump", f'"{new}"', stdout=nowhere, stderr=nowhere
            )
            if await making.wait() == 0:
                new.replace(self._archive)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)

    def take(self, request: HTTPServerRequest) -> None:
        """Answer a request, beside the others."""
        self._taken = time.monotonic()
        task = asyncio.create_task(self._pass_on(request))
        self.requests.add(task)
        task.add_done_callback(self.requests.discard)

    async def _pass_on(self, request: HTTPServerRequest) -> None:
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                await self._serves.wait()
            status, reason, headers, body = await self._ask(request)
        except TimeoutError:
            status, reason, headers, body = _refusal(503, f"the registry did not serve within {HOLD_SECONDS} s")
        except httpx2.TransportError as error:
            said = "the registry has ended" if self._gone else f"the registry does not answer ({error!r})"
            status, reason, headers, body = _refusal(503 if self._gone else 502, said)
        with contextlib.suppress(StreamClosedError):  # who asked has gone
            connection = request.connection
            if connection:
                connection.write_headers(ResponseStartLine("HTTP/1.1", status, reason), headers, body or None)
                connection.finish()

    async def _ask(self, request: HTTPServerRequest) -> tuple[int, str, HTTPHeaders, bytes]:
        """Return what the registry answers: status, its reason, headers and body."""
        target = request.uri or "/"
        if target.partition("?")[0].split("/")[1:2][0] in ROUTES:
            target = self._path + target
        given = [(name, value) for name, value in request.headers.get_all() if name.lower() not in _OF_ONE_CONNECTION]
        answer = await self._registry.handle_async_request(
            self._request(request.method or "GET", target, given, request.body)
        )
        try:
            body = b"".join([part async for part in answer.aiter_raw()])
        finally:
            await answer.aclose()
        headers = HTTPHeaders()
        for name, value in answer.headers.multi_items():
            if name.lower() not in _OF_ONE_CONNECTION:
                headers.add(name.title(), value)
        if "Content-Length" not in headers and answer.status_code not in {204, 304} and request.method != "HEAD":
            headers["Content-Length"] = str(len(body))
        return answer.status_code, answer.reason_phrase, headers, body

    def _request(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> httpx2.Request:
        """Return a request whose target and headers are as they were given."""
        how = {"target": target.encode("latin-1"), "timeout": httpx2.Timeout(ANSWER_SECONDS).as_dict()}
        return httpx2.Request(
            method, f"{self._scheme}://{HOST}:{self._behind}", headers=headers, content=body or None, extensions=how
        )


def _refusal(status: int, message: str) -> tuple[int, str, HTTPHeaders, bytes]:
    body = json.dumps({"error_code": status, "message": f"{message}: `kafkalab logs registry` tells more"}).encode()
    headers = HTTPHeaders({"Content-Type": "application/vnd.schemaregistry.v1+json", "Content-Length": str(len(body))})
    return status, "Service Unavailable" if status == 503 else "Bad Gateway", headers, body


def _end(registry: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        registry.terminate()


def _end_with_parent() -> None:
    """Let the system end this process as soon as its parent is gone, however that came about."""
    import ctypes  # noqa: PLC0415

    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)


async def main(told: dict[str, str], command: list[str]) -> int:
    """Serve at the address, start the registry behind it, and return its exit status.

    Args:
        told: `port` and `behind`, the two ports on loopback; `path`, where the API begins behind; `archive`, the file
            of the registry's class-data archive; `identity` and `authority`, the files of the certificate and of who
            signed it, empty without TLS.
        command: What starts the registry.
    """
    front = Front(int(told["behind"]), told["path"], Path(told["archive"]), told["authority"], command)
    secure = None
    if told["identity"]:
        secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secure.load_cert_chain(told["identity"])
    server = HTTPServer(front.take, ssl_options=secure, max_body_size=MOST_BYTES, max_buffer_size=MOST_BYTES)
    server.listen(int(told["port"]), HOST)
    return await front.run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2:])))
