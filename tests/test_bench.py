"""The bench measures, and writes what it has measured: with tiny counts, and no time is judged."""

import json

import pytest

from tools.bench import __main__ as bench
from tools.bench import report, start
from tools.bench.measure import ratio, row

TINY = {
    "produce": {"runs": 1, "messages": 400, "sizes": {100: (1, 0.6)}},
    "consume": {"runs": 1, "messages": 400, "sizes": {100: (1, 0.6)}},
    "table": {"runs": 2, "messages": 500, "memory": 1000},
    "figure": {"runs": 2, "messages": 500},
    "growth": {"runs": 1, "sizes": (200, 400, 800)},
}


@pytest.mark.parametrize("part", TINY)
def test_a_part_measures(lab, part, tmp_path):
    rows = list(bench.PARTS[part](lab, **TINY[part]))
    assert len({row.name for row in rows}) == len(rows)
    assert {len(row.values) for row in rows} <= {1, 2}
    report.write(tmp_path, {part: rows})
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [entry["name"] for entry in written["rows"]] == [row.name for row in rows]
    assert {frozenset(entry) for entry in written["rows"]} == {
        frozenset(("part", "name", "value", "unit", "repeats", "spread", "goal"))
    }
    page = (tmp_path / "bench.html").read_text()
    assert f'alt="Horizontal bars with the medians of the part {part}' in page
    assert "data:image/png;base64" in page
    assert all(row.name in report.printed(part, rows) for row in rows)


def test_a_stack_of_each_way_starts():
    assert [row.unit for row in start.rows(1, (1,), ("kraft",))] == ["s", "s", "s", "times", "MB", "s", "s"]


def test_a_goal_is_told_beside_its_figure():
    assert ratio("a / b", [2, 4, 9], [1, 2, 3], at_least=2).goal == "at least 2: reached"
    assert row("a", [1, 2], "s", at_most=1).goal == "at most 1: missed"
    assert row("a", [1], "s").goal == ""


def test_a_part_that_fails_leaves_the_others(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "PARTS", {"setup": lambda: 1 / 0, "series": lambda: [row("a", [1], "s")]})
    with pytest.raises(SystemExit) as ended:
        bench.main.callback((), tmp_path)
    assert ended.value.code == 1
    assert "setup failed: ZeroDivisionError" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "bench.json").read_text())["rows"]) == 1
