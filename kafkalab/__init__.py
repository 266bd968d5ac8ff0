"""The thin helper under the lessons: it starts servers, waits, draws; the Kafka client stays the real one."""

from kafkalab.classroom.exercise import Exercise
from kafkalab.cluster.lab import Lab, connect, own_stack
from kafkalab.cluster.tables import table
from kafkalab.errors import LabError
from kafkalab.figures.live import LiveFigure
from kafkalab.figures.show import show
from kafkalab.figures.workflow import workflow
from kafkalab.programs.avro_producer import AvroProducer
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
    "show",
    "table",
    "wait_until",
    "workflow",
]
