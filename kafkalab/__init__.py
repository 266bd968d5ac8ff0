"""The thin helper under the lessons: it starts servers, waits, draws; the Kafka client stays the real one."""

from kafkalab.errors import LabError
from kafkalab.exercise import Exercise
from kafkalab.figures import workflow
from kafkalab.lab import Lab, connect, own_stack
from kafkalab.live import LiveFigure
from kafkalab.producer import AvroProducer
from kafkalab.settings import SCHEMAS, ClusterSettings
from kafkalab.waiting import wait_until

__version__ = "0.1.0"

__all__ = [
    "SCHEMAS",
    "AvroProducer",
    "ClusterSettings",
    "Exercise",
    "Lab",
    "LabError",
    "LiveFigure",
    "connect",
    "own_stack",
    "wait_until",
    "workflow",
]
