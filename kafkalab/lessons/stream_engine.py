"""A stream engine: its servers, SQL given to its gateway, what its job manager tells, and a figure of event time."""

import re
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import httpx2

from kafkalab.cluster.lab import OwnLab, connect, own_stack
from kafkalab.cluster.servers import Servers
from kafkalab.embedded import HOST
from kafkalab.errors import LabError
from kafkalab.figures.colours import COLOURS
from kafkalab.settings import ClusterSettings
from kafkalab.waiting import ANSWER_SECONDS, wait_until

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from kafkalab.embedded.stack import Stack

_SECONDS = 120  # that the engine may take over one statement or one change of a job
_STUCK_SECONDS = 30  # after which a job that does not run is asked for the reason
_SLOTS = 4  # that the lesson needs
_ENDED = {"CANCELED", "FAILED", "FINISHED"}


@dataclass(frozen=True, repr=False)
class Flink(Servers):
    """A cluster with Flink's servers.

    Attributes:
        gateway: The address of the SQL gateway.
        jobmanager: The address of the job manager's REST interface.
        broker_url: The brokers as Flink dials them.
        registry_url: The registry as Flink dials it.
    """

    topics: ClassVar = (
        "by_clock", "by_minute", "clicks", "clicks_now", "orders", "prices", "purchases", "visits",
    )  # fmt: skip

    gateway: str
    jobmanager: str
    broker_url: str
    registry_url: str

    @classmethod
    def of(cls, lab: OwnLab) -> Self:
        """Return those of a stack of one's own."""
        ports = cast("Stack", lab.stack).options.ports
        gateway, jobmanager = (f"http://{HOST}:{ports[name]}" for name in ("gateway", "jobmanager"))
        return cls(lab, gateway, jobmanager, lab.client["bootstrap.servers"], str(lab.registry["url"]))

    def left(self) -> list[str]:
        """Return what is there of the names that the lesson takes, and its jobs that run."""
        return [f"job {name}" for name in self._jobs().values()] + super().left()

    def forget(self) -> None:
        """End the jobs of the lesson, and remove its topics and subjects.

        Raises:
            LabError: A server refuses, or does not answer in time.
        """
        if jobs := self._jobs():
            with closing(Engine(self)) as engine:
                for job in jobs:
                    engine.cancel(job)
        super().forget()

    def ask(self, path: str) -> Any:
        """Return what the job manager answers."""
        return httpx2.get(f"{self.jobmanager}{path}", timeout=_SECONDS, trust_env=False).json()

    def _jobs(self) -> dict[str, str]:
        """Return the jobs that write into a topic of the lesson and have not ended: the name of each by its id."""
        return {
            job["jid"]: job["name"]
            for job in self.ask("/jobs/overview")["jobs"]
            if job["state"] not in _ENDED and job["name"].rpartition(".")[2] in self.topics
        }


def flink() -> Flink:
    """Return the servers that the environment names, else start a stack that ends with this Python.

    Its two task managers wait for `start`.

    Raises:
        LabError: The stack cannot be started; or a server that the environment names does not answer, or has something
            of a name that the lesson takes.
    """
    settings = ClusterSettings.read()
    if settings.flink_url or settings.flink_gateway_url:
        given = _given(settings)
        given.refuse_left()
        if (free := given.ask("/overview")["slots-available"]) < _SLOTS:
            raise LabError(
                f"this lesson needs {_SLOTS} free slots, and Flink at {given.jobmanager} has {free}: start a task "
                "manager, or end another job"
            )
        return given
    return Flink.of(own_stack(beside=("jobmanager", "taskmanager-0", "taskmanager-1", "gateway")))


def forget() -> None:
    """Remove from the servers that the environment names what a run of the lesson has left there.

    Raises:
        LabError: None are named, or one of them refuses or does not answer.
    """
    _given(ClusterSettings.read()).forget()


def _given(settings: ClusterSettings) -> Flink:
    url, gateway = settings.flink_url, settings.flink_gateway_url
    if not (url and gateway and settings.broker_url):
        raise LabError(
            "set KAFKALAB_FLINK_URL, KAFKALAB_FLINK_GATEWAY_URL and KAFKA_BROKER_URL for servers that run already, or "
            "neither of the first two for a stack of this notebook's own"
        )
    if settings.learner:
        raise LabError("this lesson has its topics for itself: unset KAFKALAB_LEARNER")
    secured = settings.client.get("security.protocol", "PLAINTEXT").upper() != "PLAINTEXT"
    if secured or "basic.auth.user.info" in settings.registry:
        raise LabError(
            "this lesson tells Flink no passwords and no certificates: take brokers and a registry that are open, or "
            "unset KAFKALAB_FLINK_URL and KAFKALAB_FLINK_GATEWAY_URL"
        )
    for address, path, variable in (
        (url, "/overview", "KAFKALAB_FLINK_URL"),
        (gateway, "/v3/info", "KAFKALAB_FLINK_GATEWAY_URL"),
    ):
        try:
            httpx2.get(f"{address.rstrip('/')}{path}", timeout=ANSWER_SECONDS, trust_env=False).raise_for_status()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = str(error).partition("\n")[0]
            raise LabError(f"Flink at {address} does not answer ({reason}): check {variable}") from None
    lab = connect()
    broker_url = settings.flink_broker_url or lab.client["bootstrap.servers"]
    registry_url = settings.flink_schema_registry_url or str(lab.registry["url"])
    return Flink(lab, gateway.rstrip("/"), url.rstrip("/"), broker_url, registry_url)


class Engine:
    """A session of Flink's SQL gateway, and the job manager behind it.

    Args:
        servers: Where both are.
    """

    def __init__(self, servers: Flink) -> None:
        self._gateway = httpx2.Client(base_url=servers.gateway, timeout=_SECONDS, trust_env=False)
        self._manager = httpx2.Client(base_url=servers.jobmanager, timeout=_SECONDS, trust_env=False)
        self._session = self._gateway.post("/v3/sessions", json={}).json()["sessionHandle"]

    def sql(self, statement: str) -> "pd.DataFrame":
        """Run one statement and return its result, a row for each row; those that it took back are left out.

        An `INSERT` returns at once with the id of its job, which goes on.

        Raises:
            LabError: The engine refuses it, with its own message; or its job has no slots, or it took too long.
        """
        import pandas as pd  # noqa: PLC0415 - half a second that only tables need

        base = f"/v3/sessions/{self._session}"
        answer = self._gateway.post(f"{base}/statements", json={"statement": statement.strip().removesuffix(";")})
        operation = self._read(answer)["operationHandle"]
        rows, names, following = list[Any](), list[str](), f"{base}/operations/{operation}/result/0?rowFormat=JSON"
        job, began = None, time.monotonic()
        while following:
            try:
                page = self._read(self._gateway.get(following))
            except LabError:
                self._refuse_failing(job)  # its own error says more
                raise
            job = page.get("jobID") or job
            found = []
            if page["resultType"] != "NOT_READY":
                names = [column["name"] for column in page["results"]["columns"]]
                found = page["results"]["data"]
            for row in found:
                if row["kind"] in {"INSERT", "UPDATE_AFTER"}:
                    rows.append(row["fields"])
                else:
                    rows.remove(row["fields"])
            following = page.get("nextResultUri")
            if following and time.monotonic() > began + _SECONDS:
                if job:
                    self.cancel(job)
                raise LabError(f"timed out after {_SECONDS} s waiting for the end of: {statement.strip()[:60]}")
            if following and not found:
                self._refuse_stuck(job, time.monotonic() - began)
                time.sleep(0.05)
        return pd.DataFrame(rows, columns=names)

    def submit(self, insert: str) -> str:
        """Run an `INSERT`, wait until every task of its job runs or has ended, and return the job's id.

        Raises:
            LabError: As `sql`; a job that does not run is ended.
        """
        job: str = self.sql(insert)["job id"][0]
        began = time.monotonic()

        def runs() -> bool:
            self._refuse_stuck(job, time.monotonic() - began)
            return self._works(job) or self.state(job) in _ENDED

        wait_until(runs, "the tasks of the job to run", _SECONDS)
        return job

    def close(self) -> None:
        """End the session, and close the connections."""
        with suppress(httpx2.HTTPError):  # the gateway may be gone
            self._gateway.delete(f"/v3/sessions/{self._session}")
        self._gateway.close()
        self._manager.close()

    def runs(self, job: str) -> bool:
        """Return whether every task of a job runs."""
        return self._task_states(job) == {"RUNNING"}

    def tasks(self, job: str) -> "pd.DataFrame":
        """Return where the tasks of a job run: for each step and task manager, how many."""
        import pandas as pd  # noqa: PLC0415

        rows = [
            (_step(vertex), task["taskmanager-id"])
            for vertex in self._job(job)["vertices"]
            for task in self._ask(f"/jobs/{job}/vertices/{vertex['id']}")["subtasks"]
        ]
        frame = pd.DataFrame(rows, columns=["step", "task manager"])
        return pd.crosstab(frame["step"], frame["task manager"])

    def slots(self) -> dict[str, int]:
        """Return the slots of each task manager that the job manager counts on."""
        managers = self._ask("/taskmanagers")["taskmanagers"]
        return {manager["id"]: manager["slotsNumber"] for manager in sorted(managers, key=lambda m: m["id"])}

    def checkpoints(self, job: str) -> int:
        """Return how many checkpoints of a job are complete."""
        counted: int = self._ask(f"/jobs/{job}/checkpoints")["counts"]["completed"]
        return counted

    def state_sizes(self, job: str) -> "pd.Series":
        """Return the bytes of state that the newest complete checkpoint of a job has of each step."""
        import pandas as pd  # noqa: PLC0415

        newest = self._ask(f"/jobs/{job}/checkpoints")["latest"]["completed"]["id"]
        steps = self._ask(f"/jobs/{job}/checkpoints/details/{newest}")["tasks"]
        sizes = {_step(vertex): steps[vertex["id"]]["state_size"] for vertex in self._job(job)["vertices"]}
        return pd.Series(sizes, name="bytes").rename_axis("step")

    def next_checkpoint(self, job: str) -> None:
        """Wait until a checkpoint that begins from now on is complete."""
        before = self.checkpoints(job)
        wait_until(lambda: self.checkpoints(job) > before + 1, "two checkpoints to be complete", _SECONDS)

    def state(self, job: str) -> str:
        """Return the state of a job, such as `RUNNING` or `FINISHED`."""
        found: str = self._job(job)["state"]
        return found

    def failure(self, job: str) -> str:
        """Return why a job has failed last, although it may have begun again; an empty text if it has not."""
        failures = self._ask(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        return _cause(failures[0]["stacktrace"]) if failures else ""

    def cancel(self, job: str) -> None:
        """End a job at once and wait until it has ended."""
        self._manager.patch(f"/jobs/{job}", params={"mode": "cancel"})
        wait_until(lambda: self.state(job) in _ENDED, "the job to end", _SECONDS)

    def _works(self, job: str) -> bool:
        """Return whether every task of a job runs, or has come to the end of what it reads."""
        return {"RUNNING"} <= self._task_states(job) <= {"RUNNING", "FINISHED"}

    def _task_states(self, job: str) -> set[str]:
        return {state for vertex in self._job(job)["vertices"] for state, n in vertex["tasks"].items() if n}

    def _refuse_stuck(self, job: str | None, seconds: float) -> None:
        """End a job that does not run after so many seconds, because it fails again and again or has no slots.

        Raises:
            LabError: It was one.
        """
        if not job or seconds < _STUCK_SECONDS or self._works(job):
            return
        self._refuse_failing(job)
        if "SCHEDULED" not in self._task_states(job):
            return
        jobs = [other["jid"] for other in self._ask("/jobs/overview")["jobs"] if other["state"] not in _ENDED]
        wanted = {name: max(vertex["parallelism"] for vertex in self._job(name)["vertices"]) for name in jobs}
        slots, others = sum(self.slots().values()), sum(wanted.values()) - wanted.get(job, 0)
        if job in wanted and others + wanted[job] > slots:
            self.cancel(job)
            raise LabError(
                f"the job was ended: it waited {_STUCK_SECONDS} s for {wanted[job]} slots, and of {slots} slots other "
                f"jobs want {others}: start a task manager, end another job, or set 'parallelism.default' to less"
            )

    def _refuse_failing(self, job: str | None) -> None:
        """End a job that has failed, and may have begun again, with its last error.

        Raises:
            LabError: It was one.
        """
        if job and (cause := self.failure(job)):
            self.cancel(job)
            raise LabError(f"the job was ended, since it fails: {cause}")

    def _job(self, job: str) -> Any:
        return self._ask(f"/jobs/{job}")

    def _ask(self, path: str) -> Any:
        return self._manager.get(path).raise_for_status().json()

    @staticmethod
    def _read(answer: httpx2.Response) -> Any:
        """Return the content of an answer, or raise what is told in it."""
        if answer.status_code == 200:
            return answer.json()
        raise LabError(f"the engine refuses: {_cause(chr(10).join(answer.json()['errors']))}")


def _cause(trace: str) -> str:
    """Return the message of the last cause in a stack trace of Java, in one line, without what only lists."""
    said = re.findall(
        r"^(?:Caused by: )?[\w.$]+: (.*?)(?=^\s+at |^\s*\.\.\. |^Caused by: |\Z)", trace, re.DOTALL | re.MULTILINE
    )
    told = re.split(r"Supported options:|The physical plan is:|Was expecting", said[-1] if said else trace)[0]
    return " ".join(told.split())[:600]


def _step(vertex: Any) -> str:
    """Return the short name of a step: an operator's own, without its number and its arguments."""
    name: str = vertex["name"].split(":")[0].split("[")[0]
    return name


def draw_lateness(
    seconds: Iterable[float], patience: float, window: float, title: str, by_clock: Iterable[int] = ()
) -> "Figure":
    """Return a figure of event time over the order of arrival: the messages, the watermark and the windows.

    Args:
        seconds: The event time of each message in seconds, in the order of their arrival.
        patience: How far the watermark stays behind the newest message, in seconds.
        window: The length of a window in seconds.
        title: Of the figure.
        by_clock: How many messages each window of processing time has counted, in the order of the windows.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    times, marks, late = list(seconds), list[float](), list[int]()
    for place, second in enumerate(times):
        before = marks[-1] if marks else -patience
        if (second // window + 1) * window <= before:
            late.append(place)
        marks.append(max(before, second - patience))
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    taken = [place for place in range(len(times)) if place not in late]
    axes.step(range(len(times)), marks, where="post", color=COLOURS[1], label="watermark")
    axes.plot(taken, [times[place] for place in taken], "o", color=COLOURS[0], markersize=4, label="counted")
    axes.plot(late, [times[place] for place in late], "X", color=COLOURS[3], markersize=9, label="too late")
    for end in range(int(window), int(max(times)) + 1, int(window)):
        axes.axhline(end, color="0.7", linewidth=1, zorder=0, label="" if end > window else "event time")
    for number, end in enumerate(accumulate(by_clock)):
        axes.axvline(end - 0.5, color=COLOURS[4], linewidth=1, zorder=0, label="" if number else "processing time")
    axes.set(title=title, xlabel="order of arrival (messages)", ylabel="event time (s)")
    axes.legend(loc="upper left")
    return figure
