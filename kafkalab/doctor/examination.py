"""The preflight: what is wrong with a cluster, each finding in one line that says what to do; it changes nothing."""

import platform
from collections.abc import Iterator
from functools import partial

import confluent_kafka

from kafkalab.cluster.lab import configured
from kafkalab.cluster.messages import printable
from kafkalab.doctor.brokers import Brokers
from kafkalab.doctor.findings import Finding, fine, side_by_side, wrong
from kafkalab.doctor.registry import examine_registry
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings

SECONDS = 18  # for the whole examination


def examine() -> list[Finding]:
    """Examine the cluster that the environment names, else the embedded stack, which is not started.

    Returns:
        The findings, after at most `SECONDS`; no property that is a secret is in them.
    """
    findings = side_by_side([("the settings", _examine_cluster)], SECONDS)
    return [Finding(finding.ok, printable(finding.text)) for finding in findings]


def _examine_cluster() -> Iterator[Finding]:
    """Examine the settings, then the servers that they name."""
    settings = ClusterSettings.read()
    lab = configured(settings)
    versions = f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}"
    yield fine(f"Python {platform.python_version()}, {versions}")
    if lab.stack and lab.stack.state() == "stopped":
        raise LabError(
            f"the embedded stack in {lab.stack.folder} does not run: `kafkalab up` starts it, or name a cluster in "
            "KAFKA_BROKER_URL and KAFKA_SCHEMA_REGISTRY_URL"
        )
    stopped = [row["name"] for row in lab.stack.processes() if not row["pid"]] if lab.stack else []
    for name in stopped:
        yield wrong(f"{name} of the embedded stack does not run: `kafkalab start {name}`")
    if not stopped:
        checks = [
            ("the brokers", partial(Brokers(lab, settings).examine, SECONDS - 2)),
            ("the registry", partial(examine_registry, lab, settings)),
        ]
        yield from side_by_side(checks, SECONDS - 1)
