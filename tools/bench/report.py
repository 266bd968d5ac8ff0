"""The rows as a table in the terminal, as build/bench.json, and as a page with figures."""

import base64
import json
import platform
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import nbformat
import pandas as pd
import psutil
from matplotlib import pyplot as plt
from nbconvert import HTMLExporter

from kafkalab.figures.colours import COLOURS
from tools.bench.measure import Row


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(row: Row) -> str:
    return f"{number(min(row.values))} to {number(max(row.values))}" if len(row.values) > 1 else ""


def table(rows: Sequence[Row]) -> pd.DataFrame:
    columns = ["", "median", "unit", "repeats", "spread", "goal"]
    cells = [(r.name, number(r.value), r.unit, len(r.values), spread(r), r.goal) for r in rows]
    return pd.DataFrame(cells, columns=columns)


def printed(part: str, rows: Sequence[Row]) -> str:
    widest = max(len(row.name) for row in rows)
    lines = [
        f"{row.name:{widest}}  {number(row.value):>8} {row.unit:<10} {len(row.values):>3}  {spread(row):<22} {row.goal}"
        for row in rows
    ]
    return "\n".join([f"== {part}", *map(str.rstrip, lines), ""])


def machine() -> dict[str, object]:
    return {
        "system": platform.platform(), "python": platform.python_version(), "processors": psutil.cpu_count(),
        "memory (GB)": round(psutil.virtual_memory().total / 1e9, 1),
    }  # fmt: skip


def figure(part: str, rows: Sequence[Row]) -> tuple[bytes, str]:
    """Return a picture of a part, a panel for each unit, and its text for who cannot see it."""
    units = {unit: [row for row in rows if row.unit == unit] for unit in dict.fromkeys(row.unit for row in rows)}
    heights = [len(group) + 1.6 for group in units.values()]
    drawn, panels = plt.subplots(
        len(units), 1, figsize=(10, 0.34 * sum(heights)), layout="constrained", squeeze=False, height_ratios=heights
    )
    for axes, (unit, group) in zip(panels[:, 0], units.items(), strict=True):
        names, medians = [row.name for row in group], [row.value for row in group]
        ends = [[row.value - min(row.values), max(row.values) - row.value] for row in group]
        bars = axes.barh(names, medians, color=COLOURS[0], xerr=list(zip(*ends, strict=True)), ecolor=COLOURS[1])
        axes.bar_label(bars, [number(median) for median in medians], padding=4)
        for place, row in enumerate(group):
            for goal in (row.at_least, row.at_most):
                if goal is not None:
                    axes.plot([goal, goal], [place - 0.45, place + 0.45], color=COLOURS[2], linewidth=3)
        axes.set(xlabel=unit)
        axes.invert_yaxis()
        axes.margins(x=0.2)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter("{x:,.10g}")
    drawn.suptitle(f"{part}: medians, the spread as a line, the goal as a bar across")
    stream = BytesIO()
    drawn.savefig(stream, format="png", dpi=90)
    plt.close(drawn)
    facts = "; ".join(f"{row.name}: {number(row.value)} {row.unit}" for row in rows)
    return stream.getvalue(), f"Horizontal bars with the medians of the part {part}: {facts}."


def page(parts: Mapping[str, Sequence[Row]]) -> str:
    """Return the page: a table and a figure for each part, rendered as the lessons' pages are."""
    mpl.use("agg")
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    cells = [nbformat.v4.new_markdown_cell(f"# The bench of kafkalab\n\n{facts}")]
    for part, rows in parts.items():
        picture, alt = figure(part, rows)
        shown = table(rows).to_html(index=False, border=0)
        cell = nbformat.v4.new_markdown_cell(f"## {part}\n\n{shown}\n\n![{alt}](attachment:{part}.png)")
        cell.attachments = {f"{part}.png": {"image/png": base64.b64encode(picture).decode()}}
        cells.append(cell)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"title": "The bench of kafkalab"})
    return HTMLExporter().from_notebook_node(notebook)[0]


def write(build: Path, parts: Mapping[str, Sequence[Row]]) -> None:
    """Write bench.json and bench.html into a folder."""
    build.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "part": part, "name": row.name, "value": row.value, "unit": row.unit, "repeats": len(row.values),
            "spread": [min(row.values), max(row.values)], "goal": row.goal,
        }
        for part, measured in parts.items() for row in measured
    ]  # fmt: skip
    text = json.dumps({"machine": machine(), "rows": rows}, indent=1, ensure_ascii=False)
    (build / "bench.json").write_text(text, encoding="utf-8")
    (build / "bench.html").write_text(page(parts), encoding="utf-8")
