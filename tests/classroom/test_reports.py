"""A class on one cluster: names of their own, reports, the teacher's table, cells that end."""

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import replace

import clients
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import kafkalab
from kafkalab import settings
from kafkalab.classroom import reports
from kafkalab.classroom.checks import CheckError, Checks
from kafkalab.embedded.stack import free_ports
from kafkalab.settings import SCHEMAS
from tools import whole_class

HARD_OF_HEARING = """
for _ in range(2):
    try:
        time.sleep(600)
    except BaseException:
        pass
raise KeyboardInterrupt
"""


def as_learner(lab, name):
    """Return the shared cluster as a learner sees it whose environment names it."""
    return kafkalab.Lab(lab.client, lab.registry, learner=name)


@pytest.mark.parametrize("name", ["ann lee", "zoë", "a.b", "a/b", "-ann", "a" * 41])
def test_name_that_no_topic_may_have(monkeypatch, name):
    monkeypatch.setenv("KAFKALAB_LEARNER", name)
    with pytest.raises(kafkalab.LabError, match=r"KAFKALAB_LEARNER=.* should look like 'ann-2' .*letters A to Z"):
        kafkalab.connect()


def test_finding_that_would_command_a_terminal_is_escaped():
    row = {"learner": "ann\x1b[2J", "lesson": "03", "passed": 1, "tasks": 4, "last_seen": "", "lag": 0}
    shown = reports.text([{**row, "finding": "Task 1: \x1b]0;mine\x07\nfound 3"}])
    assert r"ann\x1b[2J" in shown
    assert r"Task 1: \x1b]0;mine\x07" in shown
    assert shown.count("\n") == 1
    assert all(line.isprintable() for line in shown.splitlines())


def test_learner_is_shown_and_none_changes_nothing(lab, monkeypatch):
    assert lab.name("count") == "count"
    assert "learner" not in repr(lab)
    monkeypatch.setenv("KAFKALAB_LEARNER", "ann")
    ann = kafkalab.connect()
    assert ann.name("count") == "ann.count"
    assert repr(ann).endswith(", learner ann)")


def test_learner_cannot_replace_what_is_not_theirs(lab):
    ann, ben = as_learner(lab, "ann"), as_learner(lab, "ben")
    servers = lab.client["bootstrap.servers"]
    ben.fresh_topic(ben.name("mine"))
    clients.produce(servers, "ben.mine", [b"1"])
    clients.create(servers, "everybodys")
    for name in ("ben.mine", "everybodys"):
        with pytest.raises(kafkalab.LabError, match=f"deletes only topics of their own: .*'ann.{name}' of '{name}'"):
            ann.fresh_topic(name)
    with pytest.raises(kafkalab.LabError, match=r"that of learner 'ben': it was left as it is"):
        lab.fresh_topic("ben.mine")
    assert clients.end_offset(servers, "ben.mine") == 1
    assert "everybodys" in clients.topics(servers)


def test_two_learners_of_the_same_name(lab, monkeypatch, tmp_path):
    first, second = as_learner(lab, "twin"), as_learner(lab, "twin")
    first.fresh_topic("twin.count")
    first.fresh_topic("twin.count")
    clients.produce(lab.client["bootstrap.servers"], "twin.count", [b"1"])
    monkeypatch.setattr(settings, "user_data_path", lambda *_, **__: tmp_path)  # another account
    for ask in (second.fresh_topic, second.topic):
        with pytest.raises(
            kafkalab.LabError, match=r"another learner of the name 'twin': it was left as it is, set KAFKALAB_LEARNER"
        ):
            ask("twin.count")
    assert clients.end_offset(lab.client["bootstrap.servers"], "twin.count") == 1


def test_topic_asked_for_right_after_its_deletion_has_the_partitions_asked_for(lab):
    lab.fresh_topic("again", 4)
    lab.drop_topic("again")  # forgotten by the brokers, while ZooKeeper still has it
    lab.topic("again", 4)
    assert len(lab.describe("again").partitions) == 4


def test_reports_make_the_table(lab, monkeypatch, capsys):
    cat = as_learner(lab, "cat")
    cat.fresh_topic("cat.letters")
    exercise = kafkalab.Exercise(cat, "00", tasks=2)
    with pytest.raises(CheckError, match=r"Task 1 of 2: There is no topic 'cat.none' yet. Look at the cell above."):
        check_topic(exercise, 1, "cat.none")
    check_topic(exercise, 2, "cat.letters")
    row = table(lab)["cat"]
    assert (row["lesson"], row["passed"], row["tasks"], row["lag"]) == ("00", 1, 2, 0)
    assert row["finding"] == "Task 1: There is no topic 'cat.none' yet. Look at the cell above."
    check_topic(exercise, 1, "cat.letters")
    clients.produce(lab.client["bootstrap.servers"], "cat.letters", [b"1", b"2", b"3"])
    assert clients.read(lab.client["bootstrap.servers"], "cat.letters", 1, group="cat.reader") == [b"1"]
    row = table(lab)["cat"]
    assert (row["passed"], row["finding"], row["lag"]) == (2, "", 2)
    assert capsys.readouterr().out == "Task 2 of 2: passed\nTask 1 of 2: passed\n"

    ran = subprocess.run(
        [sys.executable, "-m", "kafkalab", "class", "--json"], capture_output=True, text=True, check=True
    )
    assert row in json.loads(ran.stdout)
    shown = subprocess.run([sys.executable, "-m", "kafkalab", "class"], capture_output=True, text=True, check=True)
    assert [line.split()[:5] for line in shown.stdout.splitlines() if " cat " in f" {line} "] == [
        ["cat", "00", "2", "of", "2"]
    ]


def test_report_of_a_learner_without_a_name(lab):
    check_topic(kafkalab.Exercise(lab, "99", tasks=1), 1, reports.TOPIC)
    assert ("(no name)", "99", None) in {(row["learner"], row["lesson"], row["lag"]) for row in reports.table(lab)}


def test_what_else_is_in_the_topic_does_not_spoil_the_table(lab):
    servers = lab.client["bootstrap.servers"]
    check_topic(kafkalab.Exercise(as_learner(lab, "dan"), "98", tasks=1), 1, reports.TOPIC)
    before = table(lab)["dan"]
    clients.produce(servers, reports.TOPIC, [b"hello", b"\0", b"\0\0\0\xff\xffx", b"\xff", None], key="dan/98/1")
    foreign = clients.register(lab.registry["url"], "foreign-value", (SCHEMAS / "count.avsc").read_text("utf-8"))
    clients.produce(servers, reports.TOPIC, [b"\0" + foreign.to_bytes(4, "big") + b"\x02"], key="1")
    assert table(lab)["dan"] == before


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
def test_table_goes_on_when_the_cluster_comes_back_and_ends_quietly():
    here, there = os.openpty()
    with kafkalab.own_stack() as own:
        command = [sys.executable, "-m", "kafkalab", "class"]
        shown = bytearray()

        def shows(what):
            while select.select([here], [], [], 0.1)[0]:
                shown.extend(os.read(here, 65536))
            return what in shown

        watch = subprocess.Popen(command, env={**os.environ, **clients.named(own)}, stdout=there, stderr=there)
        try:
            as_learner(own, "eve").fresh_topic("eve.letters")
            kafkalab.wait_until(lambda: shows(b"eve"), "the table", 60)
            own.stack.kill("broker-0")
            kafkalab.wait_until(lambda: shows(b"timed out"), "word of the outage", 60)
            shown.clear()
            own.stack.start("broker-0")
            kafkalab.wait_until(lambda: shows(b"eve"), "the table again", 60)
            watch.send_signal(signal.SIGINT)
            assert watch.wait(30) == 0
            assert not shows(b"Traceback")
        finally:
            watch.kill()
            watch.wait(30)
            os.close(here)
            os.close(there)


def test_check_while_the_cluster_is_down(lab):
    (port,) = free_ports(1)
    gone = replace(lab, client={**lab.client, "bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
    with pytest.raises(kafkalab.LabError, match=r"brokers at .* do not answer .*`kafkalab status` tells what runs"):
        check_topic(kafkalab.Exercise(gone, "00", tasks=1), 1, "count")


def test_check_that_cannot_be_reported_still_checks(lab, capsys):
    (port,) = free_ports(1)
    gone = replace(lab, registry={"url": f"http://127.0.0.1:{port}"})
    lab.topic("checked")
    with kafkalab.Exercise(gone, "00", tasks=1).task(1, on=lab) as check:
        check.topic("checked", look="nothing")
    said = capsys.readouterr().out
    assert "not reported to the class: the registry did not take check.avsc" in said
    assert said.endswith("Task 1 of 1: passed\n")


def test_check_before_the_task_was_tried(lab):
    exercise = kafkalab.Exercise(lab, "00", tasks=1)
    with pytest.raises(CheckError, match="Task 1 of 1: There is no 'prediction' yet: run the cells above"):
        check_answer(exercise, lambda: prediction)  # noqa: F821 - that is the point
    with pytest.raises(CheckError, match="There is no answer yet"):
        check_answer(exercise, lambda: ...)


@pytest.mark.parametrize("given", [3, 3.0, np.int64(3), np.float64(3)])
def test_answer_may_be_any_number_of_that_size(lab, given):
    Checks(lab).answer(given, 3, look="nothing")


def test_answer_may_be_a_list_or_a_tuple(lab):
    Checks(lab).answer((1, 2), [1, 2], look="nothing")


@pytest.mark.parametrize(
    ("given", "right", "says"),
    [
        ("3", 3, "'3', a str; the answer is a number"),
        (True, 1, "True, a bool; the answer is a number"),
        ([1], [1, 2], r"\[1\], the cluster says otherwise"),
        (4, 3, "4, the cluster says otherwise"),
    ],
)
def test_wrong_answer_is_told_what_it_is(lab, given, right, says):
    with pytest.raises(CheckError, match=f"You said {says}. Look at the cell above."):
        Checks(lab).answer(given, right, look="the cell above")


def test_outcome_of_a_prediction_is_told_where_it_is_on_the_screen(lab):
    with pytest.raises(CheckError, match=r"You said 2, the topic holds 5\. Look at the cell above."):
        Checks(lab).answer(2, 5, look="the cell above", fact="the topic holds")


def run_cell(source, name, notebook):
    exec(compile(source, name, "exec"), notebook)  # noqa: S102 - as a notebook does


def test_errors_of_the_learners_code_and_of_the_check_are_told_apart(lab):
    """Two cells of one notebook: a function of the learner's, and a check that calls it or reads what it cannot."""
    notebook = {"exercise": kafkalab.Exercise(lab, "97", tasks=1)}
    run_cell("def answer():\n    return 1 / 0\n\n\nvalues = [1, 'a']", "learner", notebook)
    for body, says in [
        ("answer()", "Your code ended with ZeroDivisionError: division by zero"),
        ("sorted(values)", r"The check could not read your answer \(TypeError: .*\). Look at what the task asks"),
        ("sorted(other)", "There is no 'other' yet: run the cells above"),
    ]:
        with pytest.raises(CheckError, match=f"Task 1 of 1: {says}"):
            run_cell(f"with exercise.task(1):\n    {body}", "check", notebook)


def test_contents_are_told_apart(lab):
    servers = lab.client["bootstrap.servers"]
    lab.fresh_topic("told")
    clients.produce(servers, "told", [b"a", b"b", b"x"])
    check = Checks(lab)
    lab.fresh_topic("told-nothing")
    with pytest.raises(CheckError, match=r"no message in 'told-nothing', expected 1 message\(s\)\. Look at whether"):
        check.values("told-nothing", ["a"], look="it")
    with pytest.raises(CheckError, match=r"Found 3 message\(s\) in 'told', among them 'x', expected others"):
        check.values("told", ["a", "b", "c"], look="it")
    with pytest.raises(CheckError, match=r"Found 3 message\(s\) in 'told', but not 'c', expected 4 message"):
        check.values("told", ["a", "b", "c", "x"], look="it")
    with pytest.raises(CheckError, match=r"the right messages in 'told', but in another order"):
        check.values("told", ["b", "a", "x"], look="it", in_order=True)


@pytest.mark.skipif(sys.platform == "win32", reason="not tried there yet")
def test_cell_that_loops_for_ever_is_ended_with_words():
    loops = [
        "while True: pass",
        "import time; time.sleep(600)",
        "while True: consumer.poll(60)",
        HARD_OF_HEARING,
    ]
    nobody = {"bootstrap.servers": "127.0.0.1:1", "group.id": "waits", "log_level": 0}
    starts = [
        f"from confluent_kafka import Consumer; consumer = Consumer({nobody})",
        "from kafkalab.waiting import bound_cells; bound_cells(get_ipython(), 3)",
    ]
    cells = [nbformat.v4.new_code_cell(source) for source in (*starts, *loops, "print('goes on')")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, iopub_timeout=60, allow_errors=True).execute()
    for cell in notebook.cells[2:6]:
        assert [o.ename for o in cell.outputs if o.output_type == "error"] == ["KeyboardInterrupt"]
        said = "".join(output.get("text", "") for output in cell.outputs)
        assert said.startswith("The lab ended this cell after 3 s. If it has a loop, give it an end (a count, a time)")
    assert notebook.cells[6].outputs[0].text == "goes on\n"


@pytest.mark.timeout(2400)
def test_small_class_at_once():
    assert whole_class.hold_class(2) == []


def check_topic(exercise, number, name):
    with exercise.task(number) as check:
        check.topic(name, look="the cell above")


def check_answer(exercise, given):
    with exercise.task(1) as check:
        check.answer(given(), 3, look="the cell above")


def table(lab):
    return {row["learner"]: row for row in reports.table(lab)}
