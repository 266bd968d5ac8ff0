"""The servers that a stack can have: a module for each kind, and the table of them."""

from collections.abc import Mapping

from kafkalab.embedded.servers.broker import Broker
from kafkalab.embedded.servers.connect import Connect
from kafkalab.embedded.servers.flink import Gateway, JobManager, TaskManager
from kafkalab.embedded.servers.kraft import BridgeController, Controller, Node
from kafkalab.embedded.servers.postgres import Postgres
from kafkalab.embedded.servers.registry import Registry
from kafkalab.embedded.servers.server import Server
from kafkalab.embedded.servers.zookeeper import ZooKeeper

# for each mode, by the word that the names of servers begin with
SERVERS: Mapping[str, Mapping[str, type[Server]]] = {
    "zookeeper": {"zookeeper": ZooKeeper, "controller": BridgeController, "broker": Broker},
    "kraft": {"broker": Node, "controller": Controller},
}

# what a stack may have beside these, in either mode
BESIDE: Mapping[str, type[Server]] = {
    "registry": Registry,
    "postgres": Postgres,
    "connect": Connect,
    "jobmanager": JobManager,
    "taskmanager": TaskManager,
    "gateway": Gateway,
}
