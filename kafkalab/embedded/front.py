"""The front of the schema registry: a program that has the address that clients know, before the registry itself.

Confluent's API begins at the root of that address, Apicurio's at a longer path: the front puts the path before the
routes of the API, and passes on everything else as it is. While the registry starts, requests wait.

It imports nothing of the lab, so that it is there at once and stays small.
"""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import psutil
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.ioloop import IOLoop

HOST = "127.0.0.1"
ROUTES = {"associations", "compatibility", "config", "contexts", "exporters", "mode", "schemas", "subjects", "v1"}
_OF_ONE_CONNECTION = {  # RFC 9110, 7.6.1, with those that the front answers itself
    "connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip


class Front:
    """What passes requests on to the registry.

    Args:
        told: `pid`, the registry's process; `behind`, its address; `path`, where the API begins there; `authority`, the
            file of who signed its certificate, empty without TLS; `hold` and `answer`, how many seconds it
            may take to start, and to answer.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self._process = psutil.Process(told["pid"])
        self._behind, self._path = told["behind"], told["path"]
        self._hold, self._answer = told["hold"], told["answer"]
        trust = ssl.create_default_context(cafile=told["authority"]) if told["authority"] else False
        self._registry = httpx2.AsyncHTTPTransport(verify=trust)
        self._serves = False

    async def pass_on(self, request: HTTPServerRequest) -> None:
        """Answer a request with what the registry answers, or with why it does not."""
        connection: Any = request.connection
        try:
            answer = await self._ask(request)
            body = b"".join([part async for part in answer.aiter_raw()])
            line = ResponseStartLine("HTTP/1.1", answer.status_code, answer.reason_phrase)
            given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw]
        except httpx2.TransportError as error:
            why = f"does not answer ({type(error).__name__})" if self._lives() else "has ended"
            message = f"the registry {why}: `kafkalab logs registry` tells more"
            body = json.dumps({"error_code": 503, "message": message}).encode()
            line = ResponseStartLine("HTTP/1.1", 503, "Service Unavailable")
            given = [("content-type", "application/vnd.schemaregistry.v1+json")]
        except Exception:
            connection.stream.close()  # nobody waits for an answer that does not come
            raise
        headers = HTTPHeaders()
        for name, value in _passed(given):
            headers.add(name, value)
        if request.method == "HEAD":
            body = b""
        elif line.code not in {204, 304}:
            headers["Content-Length"] = str(len(body))
        connection.write_headers(line, headers, body)
        connection.finish()

    async def _ask(self, request: HTTPServerRequest) -> httpx2.Response:
        """Return the registry's answer; until it listens, the request waits."""
        target = self._path * (f"{request.path}/".split("/")[1] in ROUTES) + request.uri
        target = quote(target.encode("latin-1"), safe="/?#[]@!$&'()*+,;=:%~")  # bytes that HTTP has no place for
        exactly = {"target": target.encode(), "timeout": httpx2.Timeout(self._answer).as_dict()}
        headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in _passed(request.headers.get_all())
        ]
        asker: Any = request.connection
        end = time.monotonic() + self._hold
        while not (lives := self._lives()) or not self._listens():
            if not lives or time.monotonic() > end or asker.stream.closed():  # the last: who asked has gone
                raise httpx2.ConnectError("it does not listen")
            await asyncio.sleep(0.1)
        asked = httpx2.Request(
            request.method, self._behind, headers=headers, content=request.body or None, extensions=exactly
        )
        return await self._registry.handle_async_request(asked)

    def _listens(self) -> bool:
        """Return whether the registry, and nobody else, listens at its port."""
        with suppress(psutil.Error):
            self._serves = self._serves or any(
                connection.status == psutil.CONN_LISTEN and connection.laddr.port == urlsplit(self._behind).port
                for connection in self._process.net_connections("tcp")
            )
        return self._serves

    def _lives(self) -> bool:
        with suppress(psutil.Error):
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        return False


def _passed(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers that are of the message, not of one connection alone."""
    pairs = list(headers)
    named = {word.strip().lower() for name, value in pairs if name.lower() == "connection" for word in value.split(",")}
    return [(name, value) for name, value in pairs if name.lower() not in _OF_ONE_CONNECTION | named]


async def main(told: dict[str, Any]) -> None:
    """Listen at `port`, with the certificate in the file `identity` unless that is empty."""
    front, secure = Front(told), None
    if told["identity"]:
        secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secure.load_cert_chain(told["identity"])
    server = HTTPServer(lambda request: IOLoop.current().spawn_callback(front.pass_on, request), ssl_options=secure)
    server.listen(told["port"], HOST)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
