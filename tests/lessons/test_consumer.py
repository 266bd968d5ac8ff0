import json
import signal
import subprocess
import sys
import time

import matplotlib as mpl
import pytest
from confluent_kafka import KafkaException, Producer

from kafkalab import wait_until
from kafkalab.lessons.consumer import (
    Member,
    Progress,
    draw_deliveries,
    draw_ownership,
    draw_rebalances,
    revoked,
    settled,
)

mpl.use("agg")

TOPIC = "test-groups"
MESSAGES = 30
PROGRAM = """
import json, sys
from kafkalab import wait_until
from kafkalab.lessons.consumer import Member
member = Member("working", json.loads(sys.argv[1]), "test-groups", pause=60)
wait_until(lambda: member.received, "the first message")
print("at work", flush=True)
"""


@pytest.fixture
def config(lab):
    lab.fresh_topic(TOPIC, partitions=3)
    with Producer(lab.client) as producer:
        for number in range(MESSAGES):
            producer.produce(TOPIC, str(number), partition=number % 3)
    return {
        **lab.client,
        "group.id": f"test-groups-{time.time_ns()}",
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 100,
        "heartbeat.interval.ms": 300,
        "session.timeout.ms": 6000,
    }


def wait_for(members):
    wait_until(lambda: settled(members, 3), "every partition to have one owner")


def test_members_share_the_partitions_and_the_heir_takes_over(config):
    config["session.timeout.ms"] = 45_000  # longer than the wait for the heir
    first = Member("first", config, TOPIC)
    wait_for([first])
    second = Member("second", config, TOPIC)
    wait_for([first, second])
    assert (first.partitions, second.partitions) == ([0, 1], [2])
    assert revoked([first, second]) == 3

    second.close()
    wait_for([first])
    assert second.partitions == []
    first.close()


def test_who_vanishes_is_missed_only_after_the_session(config):
    first, second = Member("first", config, TOPIC), Member("second", config, TOPIC)
    wait_for([first, second])
    second.vanish()
    wait_for([first])
    assert first.changes[-1].at - second.changes[-1].at > 4
    first.close()


def test_progress_goes_from_nothing_to_everything(lab, config):
    progress = Progress(lab, config["group.id"], TOPIC)
    assert progress.ask() == (MESSAGES, 0)
    member = Member("only", config, TOPIC)
    seen = []
    for _, produced, consumed in progress.follow(every=0.1, seconds=30):
        seen.append(consumed)
        if consumed == produced:
            break
    member.close()
    assert seen == sorted(seen)
    assert progress.ask() == (MESSAGES, MESSAGES)
    assert member.received == {0: 10, 1: 10, 2: 10}


def test_follow_ends_by_itself(lab, config):
    seen = list(Progress(lab, config["group.id"], TOPIC).follow(every=0.1, seconds=0.3))
    assert 1 <= len(seen) <= 3
    assert {asked[1:] for asked in seen} == {(MESSAGES, 0)}


def test_a_member_reports_what_ended_it(config):
    member = Member("strict", {**config, "auto.offset.reset": "error"}, TOPIC)
    wait_until(member.ended, "the member to end")
    with pytest.raises(KafkaException, match="_AUTO_OFFSET_RESET"):
        member.close()


@pytest.mark.parametrize(
    ("more", "status"),
    [("", 0), ("wait_until(lambda: False, 'nothing', 60)", -signal.SIGINT)],
    ids=["ends", "interrupted"],
)
def test_a_program_ends_though_a_member_works(config, more, status):
    command = [sys.executable, "-c", PROGRAM + more, json.dumps(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout.readline() == b"at work\n"
        if status:
            program.send_signal(signal.SIGINT)
        try:
            assert program.wait(20) == status  # seconds
        finally:
            program.kill()


def two_members(config):
    """Return a member, another that joined it, and when it did."""
    first = Member("first", config, TOPIC)
    wait_for([first])
    joined = time.monotonic()
    second = Member("second", config, TOPIC)
    wait_for([first, second])
    return first, second, joined


def test_timeline_has_a_bar_for_each_time_that_a_partition_was_owned(config):
    first, second, joined = two_members(config)
    axes = draw_ownership([first, second], "Owners", {"second joins": joined}).axes[0]
    drawn = time.monotonic()
    first.close()
    second.close()
    assert axes.get_title() == "Owners"
    assert [text.get_text() for text in axes.texts] == ["second joins"]
    bars = [path.get_extents() for bars in axes.collections for path in bars.get_paths()]
    assert len(bars) == 6  # 3 before, 3 after
    assert max(bar.x1 for bar in bars) <= drawn - first.changes[0].at


def test_rebalances_are_drawn_below_each_other_from_the_join_on(config):
    first, second, joined = two_members(config)
    first.close()
    second.close()
    teams = {"one": [first, second], "other": [first]}
    above, below = draw_rebalances(teams, dict.fromkeys(teams, joined), "Rebalances").axes
    assert [axes.get_title() for axes in (above, below)] == ["one", "other"]
    assert above.get_xlim() == below.get_xlim()
    assert sum(len(bars.get_paths()) for bars in above.collections) > 5
    assert min(path.get_extents().x0 for bars in below.collections for path in bars.get_paths()) < 0


def test_strips_show_each_way_and_its_counts():
    axes = draw_deliveries({"one": [0, 1], "other": [2, 1]}, "Crash").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "other"]
    assert axes.images[0].get_array().tolist() == [[0, 1], [2, 1]]
