"""The Connect worker of a stack, asked over its REST interface, and the state of a connector."""

import json
from typing import Any

import httpx2

from kafkalab.embedded import HOST
from kafkalab.embedded.servers.server import NO_TLS
from kafkalab.embedded.stack import Stack
from kafkalab.errors import LabError
from kafkalab.waiting import wait_until

_ANSWER_SECONDS = 60  # that one answer may take: some wait for the brokers
_REBALANCE_SECONDS = 60


def ask(worker: Stack | str, method: str, path: str, body: Any = None) -> httpx2.Response:
    """Return the worker's answer, asked again while it is 409: the worker is handing out work.

    Args:
        worker: The stack that has the worker, or the address of one elsewhere.
        method: Such as `PUT`.
        path: Such as `/connectors/NAME/config` (Kafka documentation, "Kafka Connect", "REST API").
        body: What is sent as JSON, if anything.

    Raises:
        LabError: No worker answers, or it did not come to an end with its rebalance in time.
    """
    answers: list[httpx2.Response] = []

    def accepted() -> bool:
        answers.append(web.request(method, path, json=body))
        return answers[-1].status_code != httpx2.codes.CONFLICT or "already exists" in answers[-1].text

    address, advice = str(worker), "check KAFKALAB_CONNECT_URL"
    if isinstance(worker, Stack):
        address = f"http://{HOST}:{worker.options.ports['connect']}"
        advice = "start it, as in `lab.stack.start('connect')`"
    verify = True if address.startswith("https:") else NO_TLS
    with httpx2.Client(base_url=address, timeout=_ANSWER_SECONDS, trust_env=False, verify=verify) as web:
        try:
            wait_until(accepted, "the end of a rebalance of Connect", _REBALANCE_SECONDS)
        except httpx2.TransportError as error:
            raise LabError(f"Connect at {address} does not answer ({error}): {advice}") from None
    return answers[-1]


def refusal(worker: Stack | str, answer: httpx2.Response) -> str:
    """Return why the worker refuses a connector.

    Where a connector finds a fault with a setting that is not set, Kafka 4.3.1 answers with a null pointer of its own.
    The validation of the same configuration tells the fault.

    Args:
        worker: As in `ask`.
        answer: The worker's answer, an error.

    Raises:
        LabError: As `ask`.
    """
    message: str = answer.json()["message"]
    if "configValue()" not in message:
        return message
    sent = json.loads(answer.request.content)
    config = {"name": "any", **sent.get("config", sent)}
    path = f"/connector-plugins/{config['connector.class'].rpartition('.')[2]}/config/validate"
    values = [part["value"] or {} for part in ask(worker, "PUT", path, config).json()["configs"]]
    return "; ".join(error for value in values for error in value.get("errors", ())) or message


def state(stack: Stack, name: str) -> tuple[str, str]:
    """Return the state of a connector, and why it has failed.

    A connector is as its tasks are. Where they are not all alike, one that has failed is told before one that is still
    to start.

    Args:
        stack: The stack that has the worker.
        name: The connector.

    Returns:
        `RUNNING`, `FAILED`, `STOPPED` and so on, `UNASSIGNED` before its tasks have started, an empty text if there is
        no such connector; and the last cause of a failure, else an empty text.
    """
    answer = ask(stack, "GET", f"/connectors/{name}/status")
    if answer.status_code == httpx2.codes.NOT_FOUND:
        known = ask(stack, "GET", f"/connectors/{name}").status_code != httpx2.codes.NOT_FOUND
        return ("UNASSIGNED" if known else ""), ""
    told = answer.json()
    parts = [told["connector"], *told["tasks"]]
    failed = [part for part in parts if part["state"] == "FAILED"]
    if failed:
        lines = failed[0].get("trace", "").splitlines() or [""]
        return "FAILED", [lines[0], *(line for line in lines if line.startswith("Caused by: "))][-1]
    states = [part["state"] for part in parts if part["state"] != "RUNNING"]
    return (states[0] if states else "RUNNING" if told["tasks"] else "UNASSIGNED"), ""
