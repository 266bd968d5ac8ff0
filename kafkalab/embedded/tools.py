"""Kafka's own tools, the scripts of its `bin` folder, run on the packaged Java."""

import subprocess

from kafkalab.embedded import archives, artifacts, processes
from kafkalab.embedded.servers.server import FLAGS, QUIET
from kafkalab.errors import LabError

FILES = "tools"  # the set of files of those that come apart from the servers
MAINS = {  # the class that each script runs
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
    "kafka-dump-log": "org.apache.kafka.tools.DumpLogSegments",
    "kafka-features": "org.apache.kafka.tools.FeatureCommand",
    "kafka-groups": "org.apache.kafka.tools.GroupsCommand",
    "kafka-metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-share-groups": "org.apache.kafka.tools.consumer.group.ShareGroupCommand",
    "kafka-storage": "kafka.tools.StorageTool",
}
_SECONDS = 60
# what measures runs as Kafka's scripts run it: the flags of a quick start would slow it down later
_MEASURING = ("-Xmx512m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", *QUIET)


def run(files: str, name: str, *arguments: str) -> str:
    """Run one of Kafka's tools until it ends.

    Args:
        files: The set of files that the tool's class is in.
        name: The script without `.sh`.
        arguments: What follows it in a terminal.

    Returns:
        What it printed.

    Raises:
        LabError: The tool refused, or took more than a minute.
    """
    flags = _MEASURING if name.endswith("-perf-test") else FLAGS
    java = [str(artifacts.JAVA), *flags, *archives.flags(files, name, ends=True)]
    command = [*java, "-cp", artifacts.class_path(files), MAINS[name], *arguments]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=processes.environment()
        )
    except subprocess.TimeoutExpired:
        raise LabError(
            f"timed out after {_SECONDS} s waiting for {name} to end: do the servers that it asks run?"
        ) from None
    if ended.returncode:
        lines = [line.strip() for line in (ended.stdout + ended.stderr).splitlines()]
        said = [line for line in lines if line and not line.startswith(("at ", "... ", "["))]
        errors = [line for line in said if "rror" in line or "Exception" in line]
        reason = (errors or said or ["it ended without a reason"])[-1]
        raise LabError(f"{name}: {reason.removeprefix(f'{name}: ')}")
    return ended.stdout
