"""The stack without ZooKeeper: what differs from the other."""

import os

import clients
import psutil
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

import kafkalab
from kafkalab.embedded.servers.broker import brokers_known_at
from kafkalab.embedded.stack import Stack


@pytest.mark.parametrize("controllers", [0, 3])
def test_one_of_three_is_killed_and_started_again(new_stack, controllers):
    stack = new_stack(3, mode="kraft", controllers=controllers)
    stack.up()
    port = stack.options.broker_ports[0]
    lab = kafkalab.Lab(stack.client, stack.registry_client, stack)
    lab.topic("ours")
    resource = ConfigResource(ConfigResource.Type.TOPIC, "ours")
    admin = AdminClient(lab.client)  # named, because an answer comes only while its client lives
    config = admin.describe_configs([resource])[resource].result()
    assert config["min.insync.replicas"].value == "2"
    assert {len(partition.replicas) for partition in lab.describe("ours").partitions} == {3}
    stack.kill("broker-1")
    kafkalab.wait_until(lambda: brokers_known_at(port) == {0, 2}, "the others to notice")
    stack.start("broker-1")
    kafkalab.wait_until(lambda: brokers_known_at(port) == {0, 1, 2}, "the others to notice")
    if controllers:
        stack.kill("controller-1")
        lab.topic("made-by-two-controllers")
    bound = [
        connection.laddr.ip
        for process in stack.processes()
        if process["pid"]
        for connection in psutil.Process(process["pid"]).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {ip.removeprefix("::ffff:") for ip in bound} == {"127.0.0.1"}


def test_tools_answer_and_refuse():
    with kafkalab.own_stack(mode="kraft") as lab:
        servers = lab.client["bootstrap.servers"]
        told = lab.stack.tool("kafka-metadata-quorum", "--bootstrap-server", servers, "describe", "--status")
        assert "LeaderId:               0\n" in told
        folder = lab.stack.folder / "data" / "broker-0" / "__cluster_metadata-0"
        log = str(folder / "00000000000000000000.log")
        assert "REGISTER_BROKER_RECORD" in lab.stack.tool(
            "kafka-dump-log", "--cluster-metadata-decoder", "--files", log
        )
        assert "node.id=0" in lab.stack.tool(
            "kafka-storage", "info", "-c", str(lab.stack.folder / "config" / "broker-0.properties")
        )
        with pytest.raises(kafkalab.LabError, match=r"^kafka-metadata-quorum: error: .*--bootstrap-server"):
            lab.stack.tool("kafka-metadata-quorum", "describe", "--status")
        known = "kafka-configs, kafka-consumer-perf-test"
        with pytest.raises(kafkalab.LabError, match=f"no tool 'kafka-sing' here, only {known}"):
            lab.stack.tool("kafka-sing")


def test_secured_stack_asks_for_a_login_and_gives_the_learner_what_lessons_need():
    with kafkalab.own_stack(mode="kraft", secure=True) as lab:
        lab.fresh_topic("ours")
        assert clients.told(lab.client)
        assert not clients.told({**lab.client, "sasl.password": "wrong"})
        assert not clients.told({"bootstrap.servers": lab.client["bootstrap.servers"]})


def test_folder_of_the_other_mode_is_told(new_stack, monkeypatch):
    stack = new_stack()
    (stack.folder / "data" / "broker-0").mkdir(parents=True)
    stack.options.write(stack.folder)
    monkeypatch.setenv("KAFKALAB_HOME", str(stack.folder))
    monkeypatch.setenv("KAFKALAB_MODE", "kraft")
    with pytest.raises(kafkalab.LabError, match=r"holds a stack with ZooKeeper, not without ZooKeeper: .*--wipe"):
        Stack.shared()


@pytest.fixture
def home(monkeypatch, tmp_path):
    """The folder and ports of another shared stack, named in the environment; what runs there is ended."""
    monkeypatch.setenv("KAFKALAB_HOME", str(tmp_path / "home"))
    for name, port in clients.ports_of(os.environ.get("PYTEST_XDIST_WORKER", "main")).items():
        monkeypatch.setenv(f"KAFKALAB_{name}_PORT", str(port))
    yield tmp_path / "home"
    Stack.shared().down(wipe=True)


def test_cluster_that_grows_keeps_its_controllers(home):
    """New ones with empty logs, where they are the majority, could agree that the cluster is empty."""
    Stack.shared(mode="kraft").up()
    clients.create(Stack.shared().bootstrap_servers, "precious")
    Stack.shared().down()
    stack = Stack.shared(3)
    stack.up()
    assert list(stack.options.quorum) == ["broker-0"]
    assert clients.topics(stack.bootstrap_servers) == ["precious"]
    with pytest.raises(kafkalab.LabError, match=r"with no controllers of its own, not with 3 contr.*--wipe"):
        Stack.shared(controllers=3)
    stack.down()
    assert list((home / "run").iterdir()) == [], "each has ended in order"


def test_mode_that_does_not_exist(monkeypatch):
    with pytest.raises(kafkalab.LabError, match=r"there is no mode 'raft': take 'zookeeper' or 'kraft'"):
        kafkalab.own_stack(mode="raft")
    monkeypatch.setenv("KAFKALAB_MODE", "raft")
    with pytest.raises(kafkalab.LabError, match=r"KAFKALAB_MODE='raft' should look like 'kraft'"):
        Stack.shared()


def test_controllers_beside_zookeeper(home):
    with pytest.raises(kafkalab.LabError, match="ZooKeeper has no controllers of its own: take the mode 'kraft'"):
        Stack.shared(controllers=3)


@pytest.mark.parametrize("mode", ["zookeeper", "kraft"])
def test_one_broker_is_started_first_and_again_with_other_properties(new_stack, mode):
    stack = new_stack(2, mode=mode, controllers=1)
    stack.up(started=1)
    port, _ = stack.options.broker_ports
    assert brokers_known_at(port) == {0}
    resource = ConfigResource(ConfigResource.Type.BROKER, "0")
    stack.restart("broker-0", {"num.io.threads": 3})
    admin = AdminClient({**stack.client, "log_level": 0})
    config = admin.describe_configs([resource])[resource].result()
    assert config["num.io.threads"].value == "3"
    stack.start("broker-1")
    kafkalab.wait_until(lambda: brokers_known_at(port) == {0, 1}, "the second broker")
    with pytest.raises(kafkalab.LabError, match=r"registry takes no properties.*broker-0"):
        stack.restart("registry", {})
