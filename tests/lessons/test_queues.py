import os
import time

import matplotlib as mpl
import psutil
import pytest
from confluent_kafka import Producer, ShareConsumer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

import kafkalab
from kafkalab.lessons import queues
from kafkalab.lessons.queues import Done, Worker, draw_order, draw_work

mpl.use("agg")

TOPIC = "test-queue"


@pytest.fixture(scope="module")
def own():
    with kafkalab.own_stack(mode="kraft") as own:
        own.fresh_topic(TOPIC)
        with Producer({**own.client, "batch.num.messages": 1}) as producer:
            for number in range(2):
                producer.produce(TOPIC, str(number))
        yield own


@pytest.fixture
def config(own, request):
    settings = {
        "share.auto.offset.reset": "earliest",
        "share.heartbeat.interval.ms": "200",
        "share.record.lock.duration.ms": "3000",
    }
    set_to = {"incremental_operation": AlterConfigOpType.SET}
    entries = [ConfigEntry(key, value, **set_to) for key, value in settings.items()]
    admin = AdminClient({**own.client, "log_level": 0})
    resource = ConfigResource(ResourceType.GROUP, request.node.name, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result()
    explicit = {"share.acknowledgement.mode": "explicit", "max.poll.records": 1}
    return {**own.client, "group.id": request.node.name, "log_level": 3, **explicit}


def next_job(config):
    with ShareConsumer(config) as consumer:
        consumer.subscribe([TOPIC])
        taken = []
        kafkalab.wait_until(lambda: taken.extend(consumer.poll(0.2)) or taken, "a job")
        return taken[0].offset(), taken[0].delivery_count()


def test_who_is_killed_gives_its_job_back(config):
    worker = Worker(config, TOPIC)
    assert worker.job == (0, 1)
    worker.kill()
    assert next_job(config) == (0, 2)


def test_who_hangs_is_refused_when_the_job_is_another_ones(config):
    worker = Worker(config, TOPIC)
    worker.pause()
    heir = Worker(config, TOPIC)
    other = Worker(config, TOPIC)
    assert {heir.job, other.job} == {(1, 1), (0, 2)}
    worker.resume()
    assert worker.accept() == "INVALID_RECORD_STATE"
    assert [ready.accept() for ready in (heir, other)].count("accepted") > 0
    for each in (worker, heir, other):
        each.kill()


def test_a_worker_that_gets_no_job_says_so(config, monkeypatch, capfd):
    monkeypatch.setattr(queues, "_JOB_SECONDS", 5)
    with pytest.raises(kafkalab.LabError, match=r"the worker got no job from 'test-queue' in 5 s"):
        Worker({**config, "no.such.setting": "1"}, TOPIC)
    assert "no.such.setting" in capfd.readouterr().err
    assert not [child for child in psutil.Process(os.getpid()).children() if "queues" in " ".join(child.cmdline())]


def test_figures_have_a_row_for_each_worker_and_a_point_for_each_job():
    start = time.monotonic()
    group = [Done("a", 0, start, start + 1), Done("a", 1, start + 1, start + 2)]
    share = [Done("b", 1, start, start + 0.5), Done("a", 0, start, start + 1)]
    ways = {"group": group, "share": share}
    above, below = draw_work(ways, "Jobs").axes
    assert [axes.get_title() for axes in (above, below)] == ["group", "share"]
    assert [len(bars.get_paths()) for bars in above.collections] == [2, 0]
    assert [len(bars.get_paths()) for bars in below.collections] == [1, 1]
    left, right = draw_order(ways, "Order").axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0, 1]]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in right.lines] == [([2], [0]), ([1], [1])]
