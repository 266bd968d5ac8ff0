"""Where a server was looked for: a connection to it, in the clear or by TLS, and why there is none."""

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CONNECT_SECONDS = 3  # for each step of a connection


@dataclass(frozen=True)
class Endpoint:
    """A host and port that a client dials.

    Attributes:
        host: The host's name or address.
        port: Its port.
        name: What findings call it, which may say where the address comes from.
        fix: What to do if the address is the wrong one.
        properties: Those of the client that dials it; what they say of TLS holds here too.
        file: Where these properties are from.
    """

    host: str
    port: int
    name: str
    fix: str
    properties: Mapping[str, object]
    file: str

    def dial(self, *, tls: bool = False, verify: bool = False) -> socket.socket:
        """Connect, with the client's own certificate where it has one.

        Args:
            tls: By TLS.
            verify: Whether the server's certificate has to be one that the client trusts.
        """
        context = self._context(verify=verify) if tls else None
        connection = socket.create_connection((self.host, self.port), timeout=CONNECT_SECONDS)
        return context.wrap_socket(connection, server_hostname=self.host) if context else connection

    def answers(self, greeting: bytes, answer: bytes, *, tls: bool = False) -> bool:
        """Return whether a server has this in the beginning of its answer to a greeting."""
        with suppress(OSError), self.dial(tls=tls) as connection:
            connection.sendall(greeting)
            return answer in connection.recv(100)
        return False

    def is_web(self, *, tls: bool) -> bool:
        """Return whether a web server is there."""
        return self.answers(b"GET / HTTP/1.0\r\n\r\n", b"HTTP/", tls=tls)

    def unreachable(self) -> str | None:
        """Return why nobody can connect, None where somebody can."""
        try:
            self.dial().close()
        except (socket.gaierror, UnicodeError):
            return f"this machine does not know the host of {self.name}"
        except TimeoutError:
            return f"nobody answered at {self.name} within {CONNECT_SECONDS} s (a firewall, or a host that is down)"
        except ConnectionRefusedError:
            return f"nobody listens at {self.name}"
        except (OSError, OverflowError) as error:
            return f"{self.name} cannot be reached ({error})"
        return None

    def is_this_machine(self) -> bool:
        """Return whether the address is one of this machine itself."""
        with suppress(OSError), self.dial() as connection:
            there = connection.getpeername()[0]
            return there.startswith("127.") or there in {"::1", connection.getsockname()[0]}
        return False

    def _context(self, *, verify: bool) -> ssl.SSLContext:
        of_tls = {name: str(value) for name, value in self.properties.items() if name.startswith("ssl.")}
        authority = of_tls.get("ssl.ca.location")
        if verify and authority != "probe":
            folder = authority if authority and Path(authority).is_dir() else None
            file = None if folder else authority
            context = ssl.create_default_context(cafile=file, capath=folder, cadata=of_tls.get("ssl.ca.pem"))
        else:
            context = ssl.create_default_context()
        context.check_hostname = verify and of_tls.get("ssl.endpoint.identification.algorithm") != "none"
        context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which Python 3.13 sets, and librdkafka does not
        if own := of_tls.get("ssl.certificate.location"):
            context.load_cert_chain(own, of_tls.get("ssl.key.location"), of_tls.get("ssl.key.password", ""))
        return context
