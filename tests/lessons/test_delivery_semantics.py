import json
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import matplotlib as mpl
import psutil
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

import kafkalab
from kafkalab.lessons.delivery_semantics import Worker, draw_fates

mpl.use("agg")


def note(text, job):
    with open(job["file"], "a", encoding="utf-8") as file:  # noqa: PTH123 - a worker knows no pathlib
        file.write(text)


def count_up(job):
    for number in range(job["numbers"]):
        note(json.dumps(number), job)
        if number == job.get("at"):
            getattr(psutil.Process(), job["then"])()


def refused(_job):
    raise KafkaException(KafkaError(KafkaError._FENCED, "why", True))


def wrong(job):
    return job["no such key"]


def refused_at_once(_job):
    Producer({"no such setting": 1})


def terminated(_job):
    psutil.Process().terminate()


def left_without_a_word(_job):
    import os  # noqa: PLC0415 - a worker does not know it

    os._exit(0)


def endless(job):
    note("x", job)
    while True:
        time.sleep(0.1)  # noqa: F821 - a worker knows it


def flush(job):
    with Producer(job["client"]) as producer:
        producer.produce(job["topic"], "from a worker")
        assert producer.flush(10) == 0


@pytest.fixture
def job(tmp_path):
    return {"file": str(tmp_path / "noted"), "numbers": 5}


def noted(job):
    return Path(job["file"]).read_text(encoding="utf-8")


def test_worker_calls_the_last_function_with_the_job(job):
    assert Worker([note, count_up], job).wait() == "done"
    assert noted(job) == "01234"


def test_worker_that_kills_itself_is_gone_at_that_point(job):
    assert Worker([note, count_up], {**job, "at": 2, "then": "kill"}).wait() == "killed"
    assert noted(job) == "012"


def test_worker_that_suspends_itself_goes_on_when_it_is_told_to(job):
    worker = Worker([note, count_up], {**job, "at": 2, "then": "suspend"})
    worker.wait_until_suspended()
    assert noted(job) == "012"
    worker.resume()
    assert worker.wait() == "done"
    assert noted(job) == "01234"


def test_error_of_kafka_is_an_ending_and_another_one_is_told(job):
    assert Worker([refused], job).wait() == "_FENCED, fatal"
    with pytest.raises(kafkalab.LabError, match=r"^the worker ended with KeyError: 'no such key'$"):
        Worker([wrong], job).wait()


def test_error_right_after_the_beginning_is_told(job):
    for _ in range(5):
        assert Worker([refused_at_once], job).wait() == "_INVALID_ARG"


def test_only_sigkill_is_called_killed(job):
    with pytest.raises(kafkalab.LabError, match=r"^the worker ended with the exit code -15$"):
        Worker([terminated], job).wait()
    with pytest.raises(kafkalab.LabError, match=r"^the worker ended with the exit code 0$"):
        Worker([left_without_a_word], job).wait()


def test_suspended_worker_that_is_forgotten_is_killed(job):
    worker = Worker([note, count_up], {**job, "at": 2, "then": "suspend"})
    worker.wait_until_suspended()
    process = psutil.Process(worker._process.pid)
    del worker
    kafkalab.wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "its end")


def test_worker_that_does_not_end_is_killed(job):
    worker = Worker([note, endless], job)
    with pytest.raises(kafkalab.LabError, match=r"^timed out after 0\.1 s waiting for the end of a worker$"):
        worker.wait(0.1)
    assert worker.wait() == "killed"


def test_worker_knows_the_client_and_gets_its_configuration_by_no_argument(lab):
    lab.fresh_topic("test-worker")
    worker = Worker([flush], {"client": lab.client, "topic": "test-worker"})
    with suppress(psutil.NoSuchProcess):
        assert lab.client["bootstrap.servers"] not in " ".join(psutil.Process(worker._process.pid).cmdline())
    assert worker.wait() == "done"
    lab.drop_topic("test-worker")


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_delivery_semantics import Worker, count_up, endless, note
job = {"file": sys.argv[2], "numbers": 5, "at": 2, "then": "suspend"}
worker = Worker([note, count_up], job) if sys.argv[3] == "suspended" else Worker([note, endless], job)
if sys.argv[3] == "suspended":
    worker.wait_until_suspended()
print(worker._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's rule for orphaned groups")
@pytest.mark.parametrize("state", ["running", "suspended"])
def test_worker_ends_with_a_parent_that_is_killed(job, state):
    """As a kernel that is stopped in the middle of a lesson; its session is one of its own."""
    command = [sys.executable, "-c", PARENT, str(Path(__file__).parent), job["file"], state]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, start_new_session=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    kafkalab.wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the worker's end")


def test_figure_has_a_square_for_each_order_and_says_what_is_lost_or_double():
    fates = {
        ("one", "early"): Counter("abc"),
        ("one", "late"): Counter("aab"),
        ("other", "late"): Counter(),
    }
    figure = draw_fates(fates, ["early", "late"], "abc", 2, "A title")
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [["each once", "one"], ["1 lost, 1 double"], ["no such point", "other"], ["3 lost"]]
    assert [len(axes.patches) for axes in figure.axes] == [3, 3, 0, 3]
    assert [axes.get_title() for axes in figure.axes] == ["early", "late", "", ""]
