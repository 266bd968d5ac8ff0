"""The registry's front: Confluent's routes at the address that every tutorial names, the rest as it is behind."""

import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import clients
import httpx2
import psutil
import pytest
import requests
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

import kafkalab
from kafkalab.embedded import HOST, front, processes
from kafkalab.embedded.servers.registry import Registry

LONGER = "/apis/ccompat/v7"
COUNT, MORE, WRONG = (
    f'{{"type":"record","name":"Count","fields":[{{"name":"count","type":"{kind}"}}]}}'
    for kind in ("int", "long", "boolean")
)


@pytest.fixture(scope="module")
def own():
    with kafkalab.own_stack() as lab:
        yield lab


@pytest.fixture(scope="module")
def secured():
    with kafkalab.own_stack(secure=True) as lab:
        yield lab


@pytest.fixture(params=["own", "secured"], ids=["open", "secured"])
def each(request):
    """A lab whose registry is open, and one with TLS and passwords."""
    return request.getfixturevalue(request.param)


def directly(lab):
    """Return a client of the registry behind the front."""
    return kafkalab.Lab(lab.client, {**lab.registry, "url": clients.behind(lab.stack) + LONGER}, lab.stack).rest()


def registry_and_front(stack):
    return stack._servers["registry"].processes()


def listens(port):
    with suppress(OSError):
        socket.create_connection((HOST, port)).close()
        return True


def test_confluents_own_client_takes_the_address_without_a_path(each):
    assert urlsplit(each.registry["url"]).path == ""
    with SchemaRegistryClient(each.registry) as registry:
        number = registry.register_schema("count-value", Schema(COUNT, "AVRO"))
        assert registry.register_schema("count-value", Schema(MORE, "AVRO")) != number
        assert registry.get_schema(number).schema_str == COUNT
        assert registry.get_versions("count-value") == [1, 2]
        assert registry.get_latest_version("count-value").version == 2
        assert registry.lookup_schema("count-value", Schema(MORE, "AVRO")).version == 2
        assert not registry.test_compatibility("count-value", Schema(WRONG, "AVRO"))
        registry.set_compatibility("count-value", "NONE")
        assert registry.get_compatibility("count-value") == "NONE"
        assert registry.delete_subject("count-value") == [1, 2]
        assert registry.delete_subject("count-value", permanent=True) == [1, 2]
        assert registry.get_subjects() == []


def test_lines_of_a_tutorial_work_as_they_are(own):
    kind = "application/vnd.schemaregistry.v1+json"
    body, url = json.dumps({"schema": COUNT}), f"{own.registry['url']}/subjects/tutorial-value/versions"
    by_requests = requests.post(url, body, headers={"Content-Type": kind}, timeout=60).json()
    assert requests.get(f"{url}/1", timeout=60).json()["id"] == by_requests["id"]
    if curl := shutil.which("curl"):
        line = [curl, "-sS", "-X", "POST", "-H", f"Content-Type: {kind}", "--data", body, url]
        assert json.loads(subprocess.check_output(line)) == by_requests


def test_what_is_behind_comes_unchanged(each):
    body = {"schema": COUNT}
    with each.rest() as at_front, directly(each) as behind:
        assert at_front.post("/subjects/a%2Fb/versions", json=body).status_code == 200
        for method, path, more in [
            ("GET", "/subjects", {}), ("GET", "/subjects/", {}), ("HEAD", "/subjects", {}), ("GET", "/mode", {}),
            ("GET", "/subjects?deleted=true", {}), ("GET", "/subjects/a%2Fb/versions/1", {}), ("GET", "/contexts", {}),
            ("GET", "/subjects/nobody/versions", {}), ("GET", "/schemas/types", {}), ("GET", "/schemas/ids/9999", {}),
            ("POST", "/subjects/a%2Fb", {"json": body}), ("PUT", "/config", {"json": {"compatibility": "BACKWARD"}}),
            ("POST", "/compatibility/subjects/a%2Fb/versions/1", {"json": {"schema": WRONG}}),
            ("POST", "/subjects/a/versions", {"content": b"{"}), ("PUT", "/config", {"json": {"compatibility": "ODD"}}),
            ("DELETE", "/subjects/nobody", {}), ("OPTIONS", "/subjects", {}),
        ]:  # fmt: skip
            told, expected = (web.request(method, path, **more) for web in (at_front, behind))
            assert (told.status_code, told.reason_phrase) == (expected.status_code, expected.reason_phrase), path
            assert told.content == expected.content, path
            varies = {"date", "expires", "transfer-encoding", "content-length"}
            headers, behinds = ({*web.headers.items()} - {("content-encoding", "identity")} for web in (told, expected))
            assert {name for name, _ in headers ^ behinds} <= varies, path
        for path in ("/", "/apis/registry/v3/system/info", f"{LONGER}/subjects", "/nothing", "/subjectsx"):
            root = urlsplit(str(behind.base_url))._replace(path=path).geturl()
            told, expected = at_front.get(path), behind.get(root)
            assert (told.status_code, told.headers["content-type"]) == (
                expected.status_code,
                expected.headers["content-type"],
            ), path


def test_credentials_are_the_registrys_to_judge(secured):
    lab = secured
    with lab.rest() as web:
        assert web.get("/subjects").status_code == 200
        for user in (None, ("learner", "wrong"), ("nobody", "x")):
            with kafkalab.Lab(lab.client, {**lab.registry, "basic.auth.user.info": ""}, lab.stack).rest() as stranger:
                refused = stranger.get("/subjects", auth=user)
            assert refused.status_code == 401
            assert "basic" in refused.headers["www-authenticate"]
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            httpx2.get(f"{lab.registry['url']}/subjects", trust_env=False)


def test_many_at_once_over_few_connections(own):
    def asked(number):
        with own.rest() as web:
            return [web.get("/subjects").status_code for _ in range(number)]

    with ThreadPoolExecutor(20) as pool:
        assert {status for answers in pool.map(asked, [10] * 20) for status in answers} == {200}


def test_body_that_was_packed_comes_packed(own):
    connection = http.client.HTTPConnection(HOST, urlsplit(own.registry["url"]).port, timeout=10)
    connection.request("GET", "/schemas/types", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert set(json.loads(gzip.decompress(answer.read()))) == {"AVRO", "JSON", "PROTOBUF"}
    connection.close()


def test_odd_requests_are_answered(own):
    """A header and a path with bytes that are no ASCII, `OPTIONS *`, and HTTP/1.0 that keeps its connection."""
    port = urlsplit(own.registry["url"]).port
    for line, more in [
        ("GET /subjects HTTP/1.1", "X-Name: \xe9\r\nConnection: Upgrade, X-Name\r\n"),
        ("GET /subjects/caf\xc3\xa9/versions HTTP/1.1", ""),
        ("OPTIONS * HTTP/1.1", ""),
        ("GET /subjects HTTP/1.0", "Connection: keep-alive\r\n"),
    ]:
        with socket.create_connection((HOST, port), timeout=20) as connection:
            connection.sendall(f"{line}\r\nHost: {HOST}\r\n{more}\r\n".encode("latin-1"))
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status < 500, line
            assert answer.headers["Content-Length"] == str(len(answer.read())), line


def test_killed_registry_takes_its_front_along_and_comes_back(own):
    clients.register(own.registry["url"], "kept-value")
    both = registry_and_front(own.stack)
    assert len(both) == 2
    own.stack.kill("registry")
    assert processes.still_running(both, 5) == []
    with own.rest() as web, pytest.raises(httpx2.ConnectError, match="refused"):
        web.get("/subjects")
    own.stack.start("registry")
    assert clients.subjects(own.registry["url"]).count("kept-value") == 1


def test_registry_that_is_gone_is_one_line_to_who_asks_until_it_is_started_again(own):
    registry, front = registry_and_front(own.stack)
    registry.kill()
    kafkalab.wait_until(lambda: own.stack.state() == "degraded", "the end of the registry")
    with SchemaRegistryClient({**own.registry, "max.retries": 0}) as client:
        with pytest.raises(SchemaRegistryError, match=r"the registry has ended: `kafkalab logs registry` tells more"):
            client.get_subjects()
        with own.rest() as web:
            assert web.head("/subjects").status_code == 503
        own.stack.start("registry")
        assert processes.still_running([front], 5) == []
        client.get_subjects()


def test_registry_whose_front_is_gone_does_not_run_and_is_started_again(own):
    registry, front = registry_and_front(own.stack)
    front.kill()
    kafkalab.wait_until(lambda: own.stack.state() == "degraded", "the end of the front")
    own.stack.up()
    assert processes.still_running([registry], 5) == []
    with own.rest() as web:
        assert web.get("/subjects").status_code == 200


def test_requests_wait_for_a_registry_that_starts(own):
    port = own.stack.options.ports["registry"]

    def ask(_):
        kafkalab.wait_until(lambda: listens(port), "the front")
        with own.rest() as web:
            return web.put("/config", json={"compatibility": "BACKWARD"}).status_code

    own.stack.stop("registry")
    with ThreadPoolExecutor(5) as pool:
        answers = pool.map(ask, range(5))
        own.stack.up()
    assert list(answers) == [200] * 5


def test_registry_that_ends_while_it_starts_is_one_line_to_who_waits(monkeypatch, new_stack):
    stack = new_stack()
    stack.up()
    registry, _ = registry_and_front(stack)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(httpx2.get, f"{stack.schema_registry_url}/subjects", timeout=60, trust_env=False)
        registry.kill()
    answer = waiting.result()
    assert answer.status_code == 503
    assert answer.json()["message"] == "the registry has ended: `kafkalab logs registry` tells more"
    assert stack.state() == "degraded"
    monkeypatch.setattr(Registry, "arguments", lambda _: ["-jar", "none.jar"])
    with pytest.raises(kafkalab.LabError, match=r"registry ended: .*none\.jar.*registry\.log"):
        stack.start("registry")
    assert not listens(stack.options.ports["registry"])


def test_wait_for_the_registry_has_a_bound():
    [port] = processes.free_ports(1)
    told = {
        "port": port, "pid": os.getpid(), "behind": f"http://{HOST}:1", "path": LONGER, "identity": "",
        "authority": "", "hold": 0.5, "answer": 1,
    }  # fmt: skip
    with subprocess.Popen([sys.executable, front.__file__, json.dumps(told)]) as process:
        try:
            kafkalab.wait_until(lambda: listens(port), "the front")
            answer = httpx2.get(f"http://{HOST}:{port}/subjects", timeout=20, trust_env=False)
        finally:
            process.kill()
    assert answer.status_code == 503
    assert "the registry does not answer (ConnectError)" in answer.json()["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT can be sent to another process there")
def test_who_waits_can_be_interrupted(own):
    own.stack.pause("registry")
    code = f"import httpx2; httpx2.get('{own.registry['url']}/subjects', timeout=60, trust_env=False)"
    try:
        with subprocess.Popen(
            [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=os.environ
        ) as asking:
            process = psutil.Process(asking.pid)
            kafkalab.wait_until(lambda: process.net_connections("tcp"), "the question")
            asking.send_signal(signal.SIGINT)
            assert asking.communicate(timeout=10)[1].endswith("KeyboardInterrupt\n")
    finally:
        own.stack.resume("registry")
    with own.rest() as web:
        assert web.get("/subjects").status_code == 200
