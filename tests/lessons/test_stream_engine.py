import contextlib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import clients
import matplotlib as mpl
import psutil
import pytest
from confluent_kafka import Producer

import kafkalab
from kafkalab.embedded.processes import free_ports
from kafkalab.embedded.stack import Stack
from kafkalab.figures.colours import COLOURS
from kafkalab.lessons import stream_engine
from kafkalab.lessons.stream_engine import Engine, Flink, draw_lateness, flink, forget
from kafkalab.settings import NOTEBOOKS

mpl.use("agg")

LESSON = "16_stream_engine.ipynb"
SERVERS = ("jobmanager", "taskmanager-0", "gateway")
CHILD = f"""
import sys, kafkalab
own = kafkalab.own_stack(beside={SERVERS!r})
own.stack.start("taskmanager-0")
print(own.stack.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A stack in a folder whose name has a blank and a letter beyond ASCII."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("mein Stück")))
        made = kafkalab.own_stack(beside=(*SERVERS, "taskmanager-1"))
    with made as own:
        own.stack.start("taskmanager-0")
        yield own


@pytest.fixture(scope="module")
def engine(own):
    with contextlib.closing(Engine(Flink.of(own))) as engine:
        yield engine


def processes_in(folder):
    def command(process):
        try:
            return process.cmdline()
        except psutil.Error:
            return []

    return [process for process in psutil.process_iter() if any(str(folder) in part for part in command(process))]


def test_a_statement_has_rows_and_a_wrong_one_an_error_that_says_what_is_wrong(engine):
    assert engine.sql("SELECT a + 1 AS b FROM (VALUES (1), (2)) AS t (a);")["b"].tolist() == [2, 3]
    with pytest.raises(kafkalab.LabError, match="'nowhere' not found"):
        engine.sql("SELECT a FROM nowhere")


def test_every_server_listens_on_loopback_only(own):
    pids = [row["pid"] for row in own.stack.processes() if row["name"] in SERVERS]
    listening = [c for pid in pids for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= len(SERVERS)
    assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {"127.0.0.1"}


def test_a_killed_task_manager_is_noticed_and_starts_again(own, engine):
    assert engine.slots() == {"taskmanager-0": 2}
    own.stack.kill("taskmanager-0")
    kafkalab.wait_until(lambda: not engine.slots(), "the job manager to notice", 60)
    own.stack.start("taskmanager-0")
    assert engine.slots() == {"taskmanager-0": 2}


def test_a_job_for_which_there_are_no_slots_ends_with_what_to_do(engine, monkeypatch):
    monkeypatch.setattr(stream_engine, "_STUCK_SECONDS", 5)
    engine.sql("CREATE TABLE numbers (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1')")
    engine.sql("CREATE TABLE nowhere (n INT) WITH ('connector' = 'blackhole')")
    engine.sql("SET 'parallelism.default' = '3'")
    for run in (
        lambda: engine.submit("INSERT INTO nowhere SELECT n FROM numbers"),
        lambda: engine.sql("SELECT n FROM numbers"),
    ):
        with pytest.raises(
            kafkalab.LabError, match="it waited 5 s for 3 slots, and of 2 slots other jobs want 0"
        ) as error:
            run()
        assert "\n" not in str(error.value)
    engine.sql("RESET 'parallelism.default'")
    job = engine.submit("INSERT INTO nowhere SELECT n FROM numbers")  # the slots of those that were ended are free
    assert engine.state(job) == "RUNNING"
    engine.cancel(job)


def test_a_job_works_although_one_of_its_topics_has_an_end(engine):
    engine.sql("CREATE TABLE three (n INT) WITH ('connector' = 'datagen', 'number-of-rows' = '3')")
    engine.sql("CREATE TABLE more (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1')")
    engine.sql("CREATE TABLE all_of_it (n INT) WITH ('connector' = 'blackhole')")
    engine.sql("SET 'pipeline.operator-chaining.enabled' = 'false'")
    job = engine.submit("INSERT INTO all_of_it SELECT n FROM three UNION ALL SELECT n FROM more")
    kafkalab.wait_until(lambda: not engine.runs(job), "the end of one source", 60)
    assert engine.state(job) == "RUNNING"
    engine.cancel(job)
    job = engine.submit("INSERT INTO all_of_it SELECT n FROM three UNION ALL SELECT n FROM more")
    engine.cancel(job)
    engine.sql("RESET 'pipeline.operator-chaining.enabled'")


def test_a_job_that_begins_again_and_again_is_ended_with_the_reason(own, engine, monkeypatch):
    monkeypatch.setattr(stream_engine, "_STUCK_SECONDS", 3)
    own.topic("hourly")
    engine.sql("CREATE TABLE beats (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1')")
    engine.sql(f"""CREATE TABLE hourly (n INT) WITH ('connector' = 'kafka', 'topic' = 'hourly', 'format' = 'json',
      'properties.bootstrap.servers' = '{own.client["bootstrap.servers"]}', 'sink.transactional-id-prefix' = 'hour',
      'sink.delivery-guarantee' = 'exactly-once')""")
    with pytest.raises(kafkalab.LabError, match=r"it fails: .*transaction timeout is larger than the maximum") as error:
        engine.submit("INSERT INTO hourly SELECT n FROM beats")
    assert "\n" not in str(error.value)


def test_a_query_that_cannot_read_a_message_says_which_field(own, engine):
    with Producer(own.client) as producer:
        producer.produce("times", '{"n": 1767225600000}')
    engine.sql(f"""CREATE TABLE too_large (n INT) WITH ('connector' = 'kafka', 'topic' = 'times', 'format' = 'json',
      'properties.bootstrap.servers' = '{own.client["bootstrap.servers"]}', 'scan.startup.mode' = 'earliest-offset',
      'scan.bounded.mode' = 'latest-offset')""")
    with pytest.raises(kafkalab.LabError, match=r"it fails: .*at field: n\.") as error:
        engine.sql("SELECT n FROM too_large")
    assert "\n" not in str(error.value)


def test_all_lines_of_a_refusal_are_told_in_one(own, engine):
    engine.sql(f"""CREATE TABLE wrong (n INT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'upsert-kafka',
      'topic' = 'wrong', 'key.format' = 'json', 'value.format' = 'json', 'format' = 'json',
      'properties.bootstrap.servers' = '{own.client["bootstrap.servers"]}')""")
    with pytest.raises(kafkalab.LabError, match=r"upsert-kafka'\. Unsupported options: format$"):
        engine.sql("SELECT n FROM wrong")


def test_a_query_without_an_end_is_ended(engine, monkeypatch):
    engine.sql("CREATE TABLE endless (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1')")
    monkeypatch.setattr(stream_engine, "_SECONDS", 15)
    with pytest.raises(kafkalab.LabError, match="timed out after 15 s waiting for the end of: SELECT n FROM endless"):
        engine.sql("SELECT n FROM endless")


def test_state_of_each_step_is_told(engine):
    engine.sql("CREATE TABLE several (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000')")
    engine.sql("CREATE TABLE counts (n INT, c BIGINT) WITH ('connector' = 'blackhole')")
    engine.sql("SET 'execution.checkpointing.interval' = '200 ms'")
    job = engine.submit("INSERT INTO counts SELECT n, COUNT(*) FROM several GROUP BY n")
    engine.next_checkpoint(job)
    before = engine.state_sizes(job)
    engine.next_checkpoint(job)
    assert (engine.state_sizes(job) > before)["GroupAggregate"]
    engine.cancel(job)
    engine.sql("RESET 'execution.checkpointing.interval'")


@pytest.mark.parametrize("name", SERVERS)
def test_taken_port_is_named_and_nothing_is_left(name):
    stack = Stack.own(beside=SERVERS)

    def start():
        stack.up()
        stack.start(name)

    try:
        port = stack.options.ports[name]
        with (
            socket.create_server(("127.0.0.1", port)),
            pytest.raises(
                kafkalab.LabError, match=f"port {port} for {name} is taken by .*: stop that, or make the stack again"
            ) as error,
        ):
            start()
        assert "\n" not in str(error.value)
        assert name not in {row["name"] for row in stack.processes() if row["pid"]}
    finally:
        stack.down(wipe=True)


def test_nothing_is_left_when_the_program_is_killed():
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            folder = Path(child.stdout.readline().strip())
            assert len(processes_in(folder)) > len(SERVERS)
        finally:
            child.kill()
        child.communicate(timeout=120)
    kafkalab.wait_until(lambda: not processes_in(folder) and not folder.exists(), "the servers to be gone", 90)


def test_figure_marks_what_the_watermark_has_passed():
    figure = draw_lateness([0, 59, 65, 58, 75, 57], 10, 60, "a title")
    watermark, counted, late = figure.axes[0].lines[:3]
    assert list(watermark.get_ydata()) == [-10, 49, 55, 55, 65, 65]
    assert list(counted.get_ydata()) == [0, 59, 65, 58, 75]
    assert list(late.get_ydata()) == [57]


def test_figure_has_a_line_at_the_end_of_each_window_of_the_clock():
    figure = draw_lateness([0, 5, 10, 15], 10, 60, "a title", by_clock=[3, 1])
    assert [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_color() == COLOURS[4]] == [2.5, 3.5]


@pytest.fixture
def theirs(own, monkeypatch):
    """The servers of a stack as an environment names them; returns the addresses."""
    own.stack.start("taskmanager-1")
    servers = Flink.of(own)
    named = clients.named(own) | {
        "KAFKALAB_FLINK_URL": f"{servers.jobmanager}/",
        "KAFKALAB_FLINK_GATEWAY_URL": servers.gateway,
        "KAFKALAB_FLINK_BROKER_URL": servers.broker_url.replace("127.0.0.1", "localhost"),
        "KAFKALAB_FLINK_SCHEMA_REGISTRY_URL": servers.registry_url.replace("127.0.0.1", "localhost"),
    }
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return named


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("KAFKALAB_FLINK_URL", "", "set KAFKALAB_FLINK_URL, KAFKALAB_FLINK_GATEWAY_URL and KAFKA_BROKER_URL"),
        ("KAFKALAB_FLINK_GATEWAY_URL", "", "set KAFKALAB_FLINK_URL, KAFKALAB_FLINK_GATEWAY_URL and KAFKA_BROKER_URL"),
        ("KAFKALAB_LEARNER", "ann", "for itself: unset KAFKALAB_LEARNER"),
        ("KAFKA_CLIENT_PROPERTIES", "{secured}", "no passwords and no certificates: take brokers and a registry"),
        ("KAFKALAB_FLINK_URL", "http://127.0.0.1:{free}", "Flink at .* does not answer .*: check KAFKALAB_FLINK_URL"),
        ("KAFKALAB_FLINK_GATEWAY_URL", "http://127.0.0.1:{free}", "does not answer .*: check KAFKALAB_FLINK_GATEWAY_"),
        ("KAFKALAB_FLINK_GATEWAY_URL", "{jobmanager}", "does not answer .*404.*: check KAFKALAB_FLINK_GATEWAY_URL"),
    ],
)  # fmt: skip
def test_servers_of_the_environment_that_cannot_be_had_are_one_line(theirs, monkeypatch, tmp_path, name, value, says):
    (free,) = free_ports(1)
    secured = tmp_path / "client.properties"
    secured.write_text("security.protocol=SASL_SSL\n", encoding="ascii")
    jobmanager = theirs["KAFKALAB_FLINK_URL"]
    monkeypatch.setenv(name, value.format(free=free, secured=secured, jobmanager=jobmanager))
    with pytest.raises(kafkalab.LabError, match=says) as error:
        flink()
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("theirs")
def test_too_few_free_slots_are_told(own, engine):
    own.stack.kill("taskmanager-1")
    kafkalab.wait_until(lambda: "taskmanager-1" not in engine.slots(), "the job manager to notice", 60)
    with pytest.raises(kafkalab.LabError, match=r"needs 4 free slots, and Flink at .* has 2: start a task manager, or"):
        flink()


def test_what_a_killed_kernel_has_left_is_named_and_removed_and_nothing_else(own, theirs, engine, capsys):
    servers = flink()
    named = [theirs[f"KAFKALAB_FLINK_{name}_URL"] for name in ("BROKER", "SCHEMA_REGISTRY")]
    assert [servers.broker_url, servers.registry_url] == named
    engine.sql("CREATE TABLE ticks (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1')")
    jobs = {}
    for topic in ("somebody", "by_minute"):
        own.topic(topic)
        engine.sql(f"""CREATE TABLE {topic} (n INT) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'format' = 'json',
          'properties.bootstrap.servers' = '{servers.broker_url}')""")
        jobs[topic] = engine.submit(f"INSERT INTO {topic} SELECT n FROM ticks")  # noqa: S608 - a name of ours
    with pytest.raises(kafkalab.LabError, match=r"already job insert\S+by_minute, topic by_minute: .*forget") as error:
        flink()
    assert "\n" not in str(error.value)
    assert not servers.kill("taskmanager-0")
    assert (
        capsys.readouterr().out == "taskmanager-0 is not a server of this notebook: it is not killed, and all goes on\n"
    )
    forget()
    assert servers.left() == []
    assert {topic: engine.state(job) for topic, job in jobs.items()} == {"somebody": "RUNNING", "by_minute": "CANCELED"}
    assert own.describe("somebody")
    engine.cancel(jobs["somebody"])
    own.drop_topic("somebody")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("theirs")
def test_lesson_takes_servers_of_the_environment_counts_right_and_leaves_nothing(own, engine, tmp_path):
    with Producer(own.client) as producer:
        producer.produce("theirs", "a message")
    told = (NOTEBOOKS / LESSON).read_text(encoding="utf-8")
    assert "bootstrap.servers' = '{servers.broker_url}'" in told
    assert "avro-confluent.url' = '{servers.registry_url}'" in told
    printed = clients.printed_by(LESSON, {"MESSAGES": 4000}, tmp_path)
    assert "taskmanager-0 is not a server of this notebook" in printed
    assert "sent 4000 counted 4000\nminutes that are there twice: 0\n" in printed
    assert set(engine.slots()) == {"taskmanager-0", "taskmanager-1"}
    assert Flink.of(own).left() == []
    assert own.describe("theirs")
