"""The servers that a stack can have: a module for each, and the table of them."""

from collections.abc import Mapping

from kafkalab.embedded.servers.broker import Broker
from kafkalab.embedded.servers.registry import Registry
from kafkalab.embedded.servers.server import Server
from kafkalab.embedded.servers.zookeeper import ZooKeeper

# by the word that the names of a kind's servers begin with
SERVERS: Mapping[str, type[Server]] = {server.kind: server for server in (ZooKeeper, Broker, Registry)}
