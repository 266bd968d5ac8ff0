"""The schema registry: whether it answers as one, and whether its clock and this machine's agree."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
from confluent_kafka.schema_registry.error import SchemaRegistryError

from kafkalab.cluster import proxies
from kafkalab.cluster.lab import Lab
from kafkalab.cluster.registry import confluent_address, registry_client
from kafkalab.doctor.certificates import examine_certificate
from kafkalab.doctor.endpoint import Endpoint
from kafkalab.doctor.findings import Finding, fine, wrong
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings

CLOCK_SECONDS = 5  # that two clocks may be apart
_ANSWER_SECONDS = 6
_FILE = "in the file that KAFKA_SCHEMA_REGISTRY_PROPERTIES names"


def examine_registry(lab: Lab, settings: ClusterSettings) -> Iterator[Finding]:
    """Ask the registry for its subjects and its time."""
    server = _endpoint(lab, settings)
    with registry_client({**lab.registry, "timeout": _ANSWER_SECONDS, "max.retries": 0}) as registry:
        try:
            subjects = registry.get_subjects()
        except httpx2.HTTPError as error:
            if lab.stack and isinstance(error, httpx2.ReadTimeout):  # its front holds who asks too early
                raise LabError(
                    f"{server.name} has not answered within {_ANSWER_SECONDS} s: it may still be starting, so look "
                    "again in a moment; `kafkalab logs registry` tells more"
                ) from None
            raise LabError(_silence(server, str(lab.registry["url"]), error)) from None
        except SchemaRegistryError as error:
            raise LabError(_refusal(server, lab, error)) from None
        except ValueError:  # an answer that is no JSON
            raise LabError(
                f"{server.name} does not answer as a registry, but as another web server: {server.fix}"
            ) from None
    yield fine(f"{server.name} answers as a registry, with {len(subjects)} subjects")
    yield _compare_clocks(lab)


def _endpoint(lab: Lab, settings: ClusterSettings) -> Endpoint:
    """Return where the registry is dialled.

    Raises:
        LabError: Its port cannot be meant.
    """
    url = urlsplit(str(lab.registry["url"]))
    try:
        port = url.port or {"http": 80, "https": 443}[url.scheme]
    except ValueError as error:
        raise LabError(
            f"{settings.registry_from} has no port that can be meant ({error}): write one, or none"
        ) from None
    fix = "`kafkalab status` tells what runs" if lab.stack else f"check {settings.registry_from}"
    host = url.hostname or ""
    return Endpoint(host, port, f"the registry's address {host}:{port}", fix, lab.registry, _FILE)


def _refusal(server: Endpoint, lab: Lab, error: SchemaRegistryError) -> str:
    """Return what to do about an answer that is an error."""
    status = error.http_status_code
    if status in {401, 403}:
        return f"{server.name} refuses the credentials (HTTP {status}): check basic.auth.user.info {_FILE}"
    if status == 503:
        return f"{server.name} does not serve ({error.error_message}): {server.fix}"
    if other := confluent_address(lab.registry):
        return f"{server.name} is a registry, which answers this client at {other}: {server.fix}"
    return f"{server.name} does not answer as a registry (HTTP {status}): {server.fix}"


def _silence(server: Endpoint, url: str, error: httpx2.HTTPError) -> str:
    """Return why the registry's client had no answer."""
    if reason := server.unreachable():
        return f"{reason}: {server.fix}{proxies.in_the_way(url)}"
    tls = url.startswith("https:")
    web = next((found for found in (tls, not tls) if server.is_web(tls=found)), None)
    if web is None:
        return f"no web server listens at {server.name}, and so no registry: {server.fix}"
    if web is not tls:
        return f"{server.name} speaks {'https' if web else 'http'}: write so in KAFKA_SCHEMA_REGISTRY_URL"
    if tls:
        examine_certificate(server)
    return f"{server.name} does not answer ({error}): {server.fix}{proxies.in_the_way(url)}"


def _compare_clocks(lab: Lab) -> Finding:
    """Compare this machine's clock with the registry's; brokers tell none."""
    try:
        with lab.rest() as rest:
            before = time.time()
            date = parsedate_to_datetime(rest.get("/subjects", timeout=_ANSWER_SECONDS).headers["Date"]).timestamp()
            after = time.time()
    except (httpx2.HTTPError, OSError, KeyError, ValueError):
        return fine("the registry does not tell its clock, so this machine's was not compared")
    behind, ahead = date - after, before - date - 1  # a Date has whole seconds
    if max(behind, ahead) > CLOCK_SECONDS:
        apart = f"{behind:.0f} s behind" if behind > ahead else f"{ahead:.0f} s ahead of"
        return wrong(f"this machine's clock is {apart} the registry's: set both by a time server (NTP)")
    return fine(f"this machine's clock and the registry's are less than {CLOCK_SECONDS} s apart")
