import json
import os
import subprocess
import sys

import clients
import pytest
from click.testing import CliRunner

from kafkalab import Lab, cli, own_stack
from kafkalab.classroom.reports import report


def kafkalab(*arguments, **options):
    command = [sys.executable, "-m", "kafkalab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("command", sorted(cli.app.commands))
def test_help_has_an_example(command):
    asked = CliRunner().invoke(cli.app, [command, "--help"], prog_name="kafkalab")
    assert asked.exit_code == 0
    assert f"kafkalab {command}" in asked.output.split("Example:")[1]


def test_status_for_programs(lab):
    asked = kafkalab("status", "--json")
    status = json.loads(asked.stdout)
    assert asked.returncode == 0
    assert status["state"] == "running"
    assert status["bootstrap_servers"] == lab.client["bootstrap.servers"]
    assert status["schema_registry_url"] == lab.registry["url"]
    assert status["zookeeper"] == lab.stack.zookeeper
    assert [process["name"] for process in status["processes"]] == ["zookeeper", "broker-0", "registry"]
    assert all({"name", "pid", "port", "rss_mb"} == process.keys() for process in status["processes"])


def test_commands_on_a_secured_stack_without_zookeeper(tmp_path):
    """What asks the cluster: the state, the programs, the table of a class, the doctor."""
    with own_stack(mode="kraft", secure=True) as own:
        variables = {"KAFKALAB_HOME": str(own.stack.folder), "KAFKA_CONSUMER_TIMEOUT_MS": "5000"}
        options = {"cwd": tmp_path, "env": {**os.environ, **variables, "KAFKALAB_LEARNER": "ann"}}
        status = json.loads(kafkalab("status", "--json", **options).stdout)
        assert (status["state"], status["mode"], status["zookeeper"]) == ("running", "kraft", "")
        assert [process["name"] for process in status["processes"]] == ["broker-0", "registry"]
        for source in ("count-up", "multiples"):
            sent = kafkalab(source, "--messages=3", "--interval=0", **options)
            assert sent.returncode == 0, sent.stderr
        printed = kafkalab("print", **options)
        assert sorted(printed.stdout.split("\n"))[1:] == ["0", "1", "4", "{'count': 0}", "{'count': 1}", "{'count': 2}"]
        lab = Lab(own.client, own.registry, learner="ann")
        report(lab, "00", 1, 4, "")
        [row] = json.loads(kafkalab("class", "--json", **options).stdout)
        assert (row["learner"], row["passed"], row["lag"]) == ("ann", 1, 0)
        examined = kafkalab("doctor", **options)
        assert examined.returncode == 0, examined.stdout


def test_kill_status_start_and_logs(lab):
    assert kafkalab("kill", "registry").returncode == 0
    asked = kafkalab("status")
    assert asked.returncode == 1
    assert "degraded" in asked.stdout
    assert kafkalab("start", "registry").returncode == 0
    assert kafkalab("status").returncode == 0
    assert "[KafkaServer id=0] started" in kafkalab("logs", "broker-0").stdout


def test_expected_error_is_one_line(lab):
    asked = kafkalab("kill", "broker-9")
    assert asked.returncode == 1
    assert asked.stderr == "Error: there is no server 'broker-9' in this stack, only zookeeper, broker-0, registry\n"


@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", r"süß \u03a9"), ("iso8859-7", r"s\xfc\xdf Ω")])
def test_output_in_a_code_page_that_lacks_a_character(lab, encoding, shown):
    lab.fresh_topic("pages")
    clients.produce(lab.client["bootstrap.servers"], "pages", ["süß Ω"])
    variables = {"PYTHONIOENCODING": encoding, "IN_TOPIC": "pages", "IN_GROUP": encoding}
    asked = kafkalab("print", env={**os.environ, **variables, "KAFKA_CONSUMER_TIMEOUT_MS": "500"}, encoding=encoding)
    assert asked.returncode == 0
    assert asked.stdout.splitlines() == [shown]
