"""Figures that move while messages arrive."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from kafkalab.figures.colours import COLOURS

_SHARE = 0.06  # of the time goes into drawing, at the most
_POINTS = 1000  # of one series are kept; past that every second one goes


class LiveFigure:
    """One figure in the output of a cell that is drawn anew while points come in; a context manager.

    Drawing takes a fixed share of the time, and a series keeps a bounded number of points, so that the cost does not
    grow with the number of messages.

    Args:
        panels: The titles of the panels, side by side, each with the names of its series.
        xlabel: The label of the horizontal axes, with the unit.
        ylabel: The label of the vertical axes, with the unit.
        alt: What the picture shows at the end, in a full sentence: the picture's alternative text.
        colours: Of the series, in their order.
    """

    def __init__(
        self,
        panels: Mapping[str, Sequence[str]],
        xlabel: str,
        ylabel: str,
        alt: str = "",
        colours: Sequence[str] = COLOURS,
    ) -> None:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

        self.figure, all_axes = plt.subplots(1, len(panels), figsize=(9, 3.2), squeeze=False, layout="constrained")
        self._lines = {}
        following = iter(colours)
        for axes, (title, names) in zip(all_axes[0], panels.items(), strict=True):
            axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
            for name in names:
                (self._lines[name],) = axes.plot([], [], ".-", color=next(following), label=name, markersize=4)
            if len(names) > 1:
                axes.legend(loc="upper left")
        self._points: dict[str, list[tuple[float, float]]] = {name: [] for name in self._lines}
        self._last: dict[str, tuple[float, float]] = {}
        self._strides = dict.fromkeys(self._lines, 1)
        self._skipped = dict.fromkeys(self._lines, 0)
        self._next_drawing = 0.0
        self._metadata = {"image/png": {"alt": alt}}
        self._handle = None

    def add(self, name: str, x: float, y: float) -> None:
        """Add a point to a series; the figure follows as soon as it may."""
        self._last[name] = (x, y)
        self._skipped[name] += 1
        if self._skipped[name] >= self._strides[name]:
            self._skipped[name] = 0
            self._points[name].append((x, y))
            if len(self._points[name]) > _POINTS:
                del self._points[name][1::2]
                self._strides[name] *= 2
        if time.monotonic() > self._next_drawing:
            self.draw()

    def draw(self) -> None:
        """Draw now, and say when the next drawing may be."""
        start = time.monotonic()
        for name, line in self._lines.items():
            if self._points[name]:
                line.set_data(*zip(*self._points[name], self._last[name], strict=True))
        for axes in self.figure.axes:
            axes.relim()
            axes.autoscale_view()
        if self._handle:
            self._handle.update(self.figure, metadata=self._metadata)
        end = time.monotonic()
        self._next_drawing = end + (end - start) / _SHARE

    def __enter__(self) -> Self:
        from IPython.display import display  # noqa: PLC0415

        self._handle = display(self.figure, display_id=True, metadata=self._metadata)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import matplotlib.pyplot as plt  # noqa: PLC0415

        self.draw()
        plt.close(self.figure)
