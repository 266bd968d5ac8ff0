"""A registry that can be out of reach, and pictures of what became of each message."""

import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from kafkalab.cluster import proxies
from kafkalab.cluster.lab import Lab
from kafkalab.embedded import HOST
from kafkalab.figures.colours import COLOURS
from kafkalab.waiting import ANSWER_SECONDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEYS = (COLOURS[2], COLOURS[3], COLOURS[5])
FATES = {
    "good": COLOURS[0],
    "skipped": COLOURS[4],
    "put aside": COLOURS[1],
    "lost": "black",
    "not read": "#DDDDDD",
}
"""What may become of a message, each with its colour."""


class Relay:
    """A second address of the lab's registry, which can be shut while the registry itself serves everybody else.

    It hands on what reads (GET), and it begins open.

    Attributes:
        client: What `SchemaRegistryClient` takes, with a limit for each answer.

    Args:
        lab: Whose registry answers.
    """

    def __init__(self, lab: Lab) -> None:
        proxies.pass_by()
        web = self._web = lab.rest()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = web.get(self.path)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                """Say nothing: the requests are no output of a lesson."""

        self._handler = Handler
        self._server: ThreadingHTTPServer | None = None
        self._port = 0  # any, the first time
        self.open()
        self.client: dict[str, object] = {
            "url": f"http://{HOST}:{self._port}",
            "timeout": ANSWER_SECONDS,  # the client of itself waits for ever
        }

    def open(self) -> None:
        """Listen, at the same address as before."""
        self._server = ThreadingHTTPServer((HOST, self._port), self._handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def shut(self) -> None:
        """Listen no more: a client is refused, as where no registry runs."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        """Shut for good."""
        self.shut()
        self._web.close()


def draw_fates(ways: Mapping[str, Mapping[int, str]], bad: Sequence[int], title: str) -> "Figure":
    """Return a figure with a row for each way and a square for each message, in the colour of what became of it.

    Args:
        ways: A name for the way, and for each offset one of `FATES`.
        bad: The offsets of messages that cannot be processed, which are marked with a cross.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.5 * len(ways)), layout="constrained")
    for fate, colour in FATES.items():
        squares = [(offset, row) for row, way in enumerate(ways.values()) for offset, f in way.items() if f == fate]
        if squares:
            offsets, rows = zip(*squares, strict=True)
            axes.scatter(offsets, rows, s=330, marker="s", color=colour, label=fate)
    crossed = [row for row in range(len(ways)) for _ in bad]
    axes.scatter([*bad] * len(ways), crossed, s=60, marker="x", color="white", linewidths=2)
    axes.set(title=title, xlabel="offset", ylim=(len(ways) - 0.5, -0.5))
    axes.set_yticks(range(len(ways)), list(ways))
    axes.set_xticks(sorted({offset for way in ways.values() for offset in way}))
    figure.legend(loc="outside right center", frameon=False, markerscale=0.6)
    return figure


def draw_sequences(ways: Mapping[str, Sequence[int]], keys: Sequence[str], title: str) -> "Figure":
    """Return a figure with a panel for each way: a point for each message, its offset over its place among those done.

    Args:
        ways: A name for the way, and the offsets in the sequence in which the messages were done.
        keys: The key of each offset, at most three; the points of one key are joined by a line.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, panels = plt.subplots(1, len(ways), figsize=(9, 3.4), sharex=True, sharey=True, layout="constrained")
    for axes, (way, done) in zip(panels, ways.items(), strict=True):
        for key, colour in zip(dict.fromkeys(keys), _KEYS, strict=False):
            points = [(place, offset) for place, offset in enumerate(done, 1) if keys[offset] == key]
            axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=8, label=key)
        axes.set(title=way, xlabel="place in the sequence")
        axes.set_xticks(range(1, len(keys) + 1))
    panels[0].set_ylabel("offset")
    panels[0].legend(title="key", loc="upper left")
    figure.suptitle(title)
    return figure
