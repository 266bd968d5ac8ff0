"""The containers without an engine: Compose's own rules, and each broker's environment on servers of the same line.

The embedded stack runs the same jars: Confluent Platform 7.9 is Kafka 3.9, `apache/kafka` is the current Kafka. What
only an engine can show is not shown here: the images, their health checks and their volumes.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import clients
import httpx2
import psycopg
import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, ConfigResource
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

import kafkalab
from kafkalab.cli import app
from kafkalab.embedded import HOST, artifacts, processes, tools
from kafkalab.embedded.files import write_properties
from kafkalab.embedded.options import Options
from kafkalab.embedded.servers import postgres
from kafkalab.embedded.stack import Stack, free_ports

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
PROFILES = sorted({profile for service in SERVICES.values() for profile in service.get("profiles", ())})
BROKERS = {  # of each cluster, by what its test is called
    "alone": ["kafka"],
    "cluster": ["kafka-1", "kafka-2", "kafka-3"],
    "kraft": ["kraft-1", "kraft-2", "kraft-3"],
}
INSIDE = "9093"  # the port that containers dial
ELSEWHERE = f"lab{os.getpid()}"  # the second network namespace, and the link to it
HERE, THERE = "198.18.93.1/30", "198.18.93.2/30"  # its two ends; RFC 2544 keeps these addresses for tests

each_service = pytest.mark.parametrize("name", SERVICES)


def run(*command):
    """Run a command in the tests' folder."""
    return subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False)


def works(*command):
    """Tell whether a program is there and does what it is asked."""
    return shutil.which(command[0]) is not None and run(*command).returncode == 0


# What the file says


@pytest.mark.parametrize("profiles", [[], *([profile] for profile in PROFILES), PROFILES], ids=" ".join)
def test_compose_accepts_the_file_with_every_profile(profiles):
    for compose in (["docker", "compose"], ["docker-compose"]):
        if works(*compose, "version"):
            break
    else:
        pytest.skip("neither `docker compose` nor `docker-compose` is on this machine")
    chosen = [f"--profile={profile}" for profile in profiles]
    checked = run(*compose, "--file", "../docker-compose.yml", *chosen, "config", "--quiet")
    assert checked.returncode == 0, checked.stderr


def test_profiles_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^    docker compose (?:--profile (\w+) up|up ([\w-]+))", readme, re.MULTILINE)
    profiles = [profile or SERVICES[service]["profiles"][0] for profile, service in named]
    assert sorted(profiles) == PROFILES


@each_service
def test_image_has_a_release_and_confluents_are_of_the_same(name):
    image, tag = SERVICES[name]["image"].split(":", 1)
    assert "latest" not in tag
    if image.startswith("confluentinc/"):
        assert re.fullmatch(r"\$\{CONFLUENT_RELEASE:-7\.9\.\d+}", tag)


@each_service
def test_service_is_limited_and_not_root(name):
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["user"] not in ("root", "0")


@each_service
def test_service_tells_its_health_or_why_not(name):
    assert "healthcheck" in SERVICES[name] or SERVICES[name]["x-no-healthcheck"]


def test_health_of_a_broker_is_what_a_serving_broker_answers(lab):
    [*bash, script] = SERVICES["kafka"]["healthcheck"]["test"][1:]
    port = lab.stack.options.ports["broker-0"]
    (silent,) = free_ports(1)
    for number, status in ((port, 0), (lab.stack.options.ports["zookeeper"], 1), (silent, 1)):
        asked = run("timeout", "5", *bash, script.replace("$$", "$").replace("9093", str(number)))
        assert (asked.returncode != 0) == status, (number, asked.stderr)


@each_service
def test_service_waits_for_the_health_of_what_it_needs(name):
    needs = SERVICES[name].get("depends_on", {})
    assert all(need["condition"] == "service_healthy" for need in needs.values())
    assert all("healthcheck" in SERVICES[needed] for needed in needs)


def test_ports_are_bound_to_loopback_and_none_is_taken_twice():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len(ports) == len({port.split(":")[1] for port in ports})


def test_volumes_are_named_and_have_one_owner():
    """Flink's servers have one together: a checkpoint that one of them writes is read by another."""
    owners = {
        (mount.split(":")[0], service["image"]) for service in SERVICES.values() for mount in service.get("volumes", ())
    }
    assert sorted(volume for volume, _ in owners) == sorted(COMPOSE["volumes"])
    shared = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    assert {mount.split(":")[0] for mount in shared if shared.count(mount) > 1} == {"flink"}


def test_service_needs_nothing_that_its_profile_leaves_out():
    """A service that is named brings its own profile and no other."""
    for service in SERVICES.values():
        needs = service.get("depends_on", {}).items()
        needed = [SERVICES[name].get("profiles", []) for name, need in needs if need.get("required", True)]
        assert all(not profiles or profiles == service["profiles"] for profiles in needed)


@pytest.mark.parametrize("name", [name for names in BROKERS.values() for name in names])
def test_broker_is_published_to_the_host_and_named_inside_as_it_advertises(name):
    environment, published = SERVICES[name]["environment"], SERVICES[name]["ports"]
    port = published[0].split(":")[-1]
    assert published == [f"127.0.0.1:{port}:{port}"]
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"HOST://localhost:{port},INSIDE://{name}:{INSIDE}"
    assert environment["KAFKA_LISTENERS"].startswith(f"HOST://0.0.0.0:{port},INSIDE://0.0.0.0:{INSIDE}")
    assert environment["KAFKA_INTER_BROKER_LISTENER_NAME"] == "INSIDE"


def test_dockerfile_installs_the_lock_and_ends_as_the_services_user():
    steps = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "pip install --no-cache-dir --require-hashes --requirement requirements.lock" in steps
    _, *stages = re.split(r"^FROM .* AS (\w+)$", steps, flags=re.MULTILINE)
    stages = dict(zip(stages[::2], stages[1::2], strict=True))
    for service in SERVICES.values():
        if "build" in service:
            assert service["user"] == re.findall(r"^USER (\w+)$", stages[service["build"]["target"]], re.MULTILINE)[-1]


def test_flinks_connectors_are_of_its_release_and_of_the_lock():
    steps = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [release] = re.findall(r"^FROM flink:(\d+\.\d+)\.\d+-java21 AS flink$", steps, re.MULTILINE)
    [wanted] = re.findall(r'artifacts.fetch\(sets={"([\w-]+)"}\)', steps)
    kafka, avro = (path.stem for path in artifacts.paths(wanted))
    assert kafka.startswith("flink-sql-connector-kafka-")
    assert kafka.endswith(f"-{release}")
    assert avro.startswith(f"flink-sql-avro-confluent-registry-{release}.")


def test_addresses_of_the_pipeline_in_the_readme_are_those_of_its_services(monkeypatch):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^    export (KAFKALAB_(?:CONNECT|POSTGRES|FLINK)\w+)='?([^'\n]+)", readme, re.MULTILINE))
    named |= {"KAFKA_SCHEMA_REGISTRY_URL": re.findall(r"^\| the pipeline \|.*`(http://\S+)`", readme, re.MULTILINE)[0]}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    settings = kafkalab.ClusterSettings.read()
    services = {
        "connect": settings.connect_url,
        "postgres": settings.postgres_url,
        "jobmanager": settings.flink_url,
        "gateway": settings.flink_gateway_url,
        "pipeline-registry": settings.schema_registry_url,
    }
    for name, address in services.items():
        published = SERVICES[name]["ports"][0].split(":")[1]
        assert re.search(r"localhost:(\d+)", address)[1] == published
    inside = SERVICES["lab"]["environment"]["KAFKALAB_CONNECT_POSTGRES_URL"].replace("$$", "$")
    assert inside == settings.connect_postgres_url
    allowed = SERVICES["connect"]["environment"]["CONNECT_CONFIG_PROVIDERS_ENV_PARAM_ALLOWLIST_PATTERN"]
    assert f"${{env:{allowed}}}@postgres:5432" in inside
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].endswith(settings.flink_broker_url)
    registry = SERVICES["pipeline-registry"]["ports"][0].split(":")[2]
    assert settings.flink_schema_registry_url.startswith(f"http://pipeline-registry:{registry}/")


def test_build_context_holds_what_is_needed():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    assert all((ROOT / line[1:]).exists() for line in lines if line.startswith("!"))
    assert {"!requirements.lock", "!pyproject.toml", "!kafkalab", "!notebooks", "!schemas"} < set(lines)


# The environment of the servers, on servers


def broker_properties(environment):
    """Translate as both images' `configure` does; KAFKA_HEAP_OPTS is for their start scripts."""
    names = {name for name in environment if name.startswith("KAFKA_")} - {"KAFKA_HEAP_OPTS"}
    signs = {"_": ".", "__": "_", "___": "-"}
    return {
        re.sub("_+", lambda run: signs[run[0]], name.removeprefix("KAFKA_").lower()): environment[name]
        for name in names
    }


def zookeeper_properties(environment):
    """Translate as the image's template does, which knows a list of names; what is not in it would be passed over."""
    known = {
        "ZOOKEEPER_CLIENT_PORT": "clientPort",
        "ZOOKEEPER_TICK_TIME": "tickTime",
        "ZOOKEEPER_ADMIN_ENABLE_SERVER": "admin.enableServer",
    }
    return {known[name]: value for name, value in environment.items() if name.startswith("ZOOKEEPER_")}


def connect_properties(environment):
    """Translate as `docker-entrypoint.sh` of Debezium's image does."""
    short = {  # what has a variable of its own
        "BOOTSTRAP_SERVERS", "GROUP_ID", "CONFIG_STORAGE_TOPIC", "OFFSET_STORAGE_TOPIC", "STATUS_STORAGE_TOPIC",
        "KEY_CONVERTER", "VALUE_CONVERTER", "OFFSET_FLUSH_INTERVAL_MS",
    }  # fmt: skip
    others = {"HEAP_OPTS", "ADVERTISED_HOST_NAME", "ENABLE_APICURIO_CONVERTERS", "POSTGRES_PASSWORD"}
    properties = {}
    for name, value in environment.items():
        assert name in short | others or name.startswith("CONNECT_")
        assert "@" not in str(value), "the script puts values into a command that ends at this sign"
        if name not in others:
            properties[name.removeprefix("CONNECT_").lower().replace("_", ".")] = value
    return properties


class Composed(Stack):
    """The embedded stack with the containers' own settings; only addresses and folders are this machine's."""

    def __init__(self, folder, brokers, inside, beside=()):
        count = len(brokers)
        registry, zookeeper, *ports = free_ports(2 + 3 * count + len(beside))
        further, ports = ports[3 * count :], ports[: 3 * count]
        ports, inner, quorum = ports[:count], ports[count : 2 * count], ports[2 * count :]
        if "KAFKA_PROCESS_ROLES" in SERVICES[brokers[0]]["environment"]:
            options = Options.with_kraft(ports, quorum)
        else:
            options = Options.with_zookeeper(zookeeper, ports)
        super().__init__(folder, options.beside({"registry": registry, **dict(zip(beside, further, strict=True))}))
        self.brokers = brokers
        self.inside = [f"{inside}:{port}" for port in inner]
        self.quorum = [f"{HOST}:{port}" for port in quorum]
        self.host = [f"localhost:{port}" for port in self.options.broker_ports]

    def _start(self, servers):
        for server in servers:
            server.configure = partial(self.configure, server)
        super()._start(servers)

    def configure(self, server):
        if server.kind == "zookeeper":
            type(server).configure(server)
            properties = zookeeper_properties(SERVICES["zookeeper"]["environment"])
            assert properties["clientPort"] == 2181
            own = {"clientPort": server.port, "clientPortAddress": HOST, "dataDir": self.folder / "data" / "zookeeper"}
            write_properties(self.folder / "config" / "zookeeper.properties", properties | own)
        elif server.kind in {"registry", "postgres"}:
            type(server).configure(server)
        elif server.kind == "connect":
            type(server).configure(server)
            os.environ["POSTGRES_PASSWORD"] = postgres.client(self.folder, 0)["password"]
            properties = connect_properties(SERVICES["connect"]["environment"])
            own = server._properties()  # of which only what the image sets by itself is taken
            own = {
                key: own[key] for key in ("listeners", "rest.advertised.host.name", "plugin.path", "plugin.discovery")
            }
            here = {key: self.here(str(value)) for key, value in properties.items()}
            write_properties(server._config, here | own)
        else:
            service = SERVICES[self.brokers[server.number]]
            properties = broker_properties(service["environment"])
            assert server.number in (properties.get("broker.id"), properties.get("node.id"))
            own = {"log.dirs": self.folder / "data" / server.name}
            if server.kind == "node":
                assert service["volumes"][0].endswith(f":{properties['log.dirs']}")
                write_properties(server.config, properties | own)
                self.format(server, service["environment"]["CLUSTER_ID"])
            here = {key: self.here(str(value), server.number) for key, value in properties.items()}
            write_properties(server.config, here | own)

    @staticmethod
    def format(server, cluster):
        """Format a folder as the image does, with the addresses of its container."""
        tools.run(server.files, "kafka-storage", "format", f"--cluster-id={cluster}", "--config", str(server.config))

    def here(self, text, number=0):
        """Replace the containers' addresses, as a broker's container sees them, by this machine's."""
        _, port, _ = SERVICES[self.brokers[number]]["ports"][0].split(":")
        registry = {f"http://{name}:8081": self.schema_registry_url for name in ("schema-registry", "kraft-registry")}
        registry["http://pipeline-registry:8080"] = f"http://{HOST}:{self.options.ports['registry']}"
        addresses = {f"{name}:{INSIDE}": address for name, address in zip(self.brokers, self.inside, strict=True)} | {
            **{f"{name}:9094": address for name, address in zip(self.brokers, self.quorum, strict=True)},
            "CONTROLLER://:9094": f"CONTROLLER://{self.quorum[number]}",
            f"0.0.0.0:{INSIDE}": self.inside[number],
            f"0.0.0.0:{port}": f"{HOST}:{self.options.broker_ports[number]}",
            f"localhost:{port}": self.host[number],
            "zookeeper:2181": self.zookeeper,
            **registry,
        }
        return re.sub("|".join(map(re.escape, addresses)), lambda found: addresses[found[0]], text)


@pytest.fixture(scope="module")
def inside():
    """The address for INSIDE: one that a second network namespace reaches too, where this machine allows one."""
    made = (
        works("ip", "netns", "add", ELSEWHERE)
        and works(*f"ip link add {ELSEWHERE} type veth peer name {ELSEWHERE} netns {ELSEWHERE}".split())
        and works(*f"ip address add {HERE} dev {ELSEWHERE}".split())
        and works(*f"ip link set {ELSEWHERE} up".split())
        and works(*f"ip -n {ELSEWHERE} address add {THERE} dev {ELSEWHERE}".split())
        and works(*f"ip -n {ELSEWHERE} link set {ELSEWHERE} up".split())
    )
    yield HERE.split("/")[0] if made else HOST
    works("ip", "netns", "delete", ELSEWHERE)  # and the link with it


@pytest.fixture(scope="module", params=BROKERS)
def composed(request, inside, tmp_path_factory):
    """The servers of a profile, with Apicurio in place of Confluent's registry."""
    stack = Composed(tmp_path_factory.mktemp(request.param), BROKERS[request.param], inside)
    stack._guard = processes.guard(stack.folder)  # ends it if a time limit ends this Python
    try:
        stack.up()
        yield stack
    finally:
        stack.down(wipe=True)


def test_programs_run_with_their_environment_on_a_new_cluster(composed, monkeypatch):
    """First of these tests: nobody has made a topic or a group yet."""
    monkeypatch.chdir(ROOT)  # the image's folder, in which schemas/count.avsc is
    registry = "kraft-registry" if composed.options.mode == "kraft" else "schema-registry"
    chosen = {
        "BROKERS": ",".join(f"{name}:{INSIDE}" for name in composed.brokers),
        "REGISTRY": f"http://{registry}:8081",
    }
    printed = []
    for name in ("count-up", "multiples", "print"):
        environment = {
            key: composed.here(re.sub(r"\$\{(\w+):-.*}", lambda found: chosen[found[1]], str(value)))
            for key, value in SERVICES[name]["environment"].items()
        }
        program, *arguments = SERVICES[name]["command"]
        if name == "print":
            environment["KAFKA_CONSUMER_TIMEOUT_MS"] = "4000"  # a test cannot wait for two minutes
        else:
            arguments.append("--interval=0")
        ended = CliRunner().invoke(app, arguments, env=environment)
        assert (program, ended.exit_code) == ("kafkalab", 0), ended.output
        printed.append(ended.stdout.splitlines())
    counts, squares, received = printed
    assert counts == [f"{{'count': {number}}}" for number in range(10)]
    assert squares == [str(number * number) for number in range(10)]
    assert sorted(received) == sorted(counts + squares)


def test_each_listener_of_each_broker_names_the_addresses_of_that_listener(composed):
    for addresses in (composed.host, composed.inside):
        for address in addresses:
            known = AdminClient({"bootstrap.servers": address}).list_topics(timeout=20).brokers
            assert {number: f"{broker.host}:{broker.port}" for number, broker in known.items()} == dict(
                enumerate(addresses)
            )


def test_messages_go_in_through_one_listener_and_out_through_the_other(composed):
    for number, (host, inside) in enumerate(zip(composed.host, composed.inside, strict=True)):
        assert clients.produce(host, f"from-the-host-{number}", [b"1"]) == 1
        assert clients.read(inside, f"from-the-host-{number}", 1) == [b"1"]
        assert clients.produce(inside, f"from-inside-{number}", [b"2"]) == 1
        assert clients.read(host, f"from-inside-{number}", 1) == [b"2"]


def test_topics_have_a_replica_on_every_broker_and_a_write_needs_two_of_three(composed):
    clients.create(composed.host[0], "replicated")
    clients.produce(composed.host[0], "replicated", [b"1"])
    clients.read(composed.host[0], "replicated", 1)  # a group makes Kafka's own topic of offsets
    topics = AdminClient({"bootstrap.servers": composed.host[0]}).list_topics(timeout=20).topics
    for name in ("replicated", "__consumer_offsets"):
        replicas = {len(partition.replicas) for partition in topics[name].partitions.values()}
        assert replicas == {len(composed.brokers)}
    resource = ConfigResource(ConfigResource.Type.TOPIC, "replicated")
    admin = AdminClient({"bootstrap.servers": composed.host[0]})
    in_sync = admin.describe_configs([resource])[resource].result(20)["min.insync.replicas"].value
    assert in_sync == str(min(2, len(composed.brokers)))


def test_another_network_reaches_the_listener_of_the_containers(composed, inside):
    if inside == HOST:
        pytest.skip("this machine allows no second network namespace (`ip netns add`)")
    send = "import sys, clients; print(clients.produce(sys.argv[1], 'from-elsewhere', [b'1', b'2']))"
    for number, address in enumerate(composed.inside, 1):
        sent = run("ip", "netns", "exec", ELSEWHERE, sys.executable, "-c", send, address)
        assert sent.stdout == "2\n", sent.stderr
        assert clients.end_offset(composed.host[0], "from-elsewhere") == 2 * number


# The pipeline, on servers of the same releases but for the converter (3.0 for the image's 3.2)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Connect, PostgreSQL and Apicurio's registry with the environment of their containers, beside the one broker."""
    stack = Composed(tmp_path_factory.mktemp("pipeline"), ["kafka"], HOST, beside=("postgres", "connect"))
    stack._guard = processes.guard(stack.folder)
    registry = stack._server("registry")
    environment = SERVICES["pipeline-registry"]["environment"]
    told = {name.lower().replace("_", "."): stack.here(value) for name, value in environment.items()}
    arguments = [f"-D{key}={value}" for key, value in told.items()]
    left = ("-Dapicurio.datasource", "-Dapicurio.rules")  # what the embedded one is told in its place
    usual = registry.arguments
    registry.arguments = lambda: [*arguments, *(part for part in usual() if not part.startswith(left))]
    registry.starts_after = lambda: ["broker-0"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("POSTGRES_PASSWORD", "")  # the stack makes one
        try:
            stack.up()
            yield stack, postgres.client(stack.folder, stack.options.ports["postgres"])
        finally:
            stack.down(wipe=True)


def test_a_row_becomes_avro_through_connect_with_its_environment(pipeline):
    stack, login = pipeline
    with psycopg.connect(**login, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, item text)")
        connection.execute("INSERT INTO orders VALUES (1, 'tea')")
    config = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "topic.prefix": "composed",
        "database.hostname": login["host"],
        "database.port": login["port"],
        "database.user": login["user"],
        "database.password": "${env:POSTGRES_PASSWORD}",
        "database.dbname": "postgres",
        "plugin.name": "pgoutput",
        "exactly.once.support": "required",
        "schema.name.adjustment.mode": "avro",
    }
    with httpx2.Client(base_url=f"http://{HOST}:{stack.options.ports['connect']}", timeout=60, trust_env=False) as web:
        told = web.put("/connectors/composed/config", json=config)
    assert told.status_code == 201, told.text
    [value] = clients.read(stack.host[0], "composed.public.orders", 1, seconds=60)
    with SchemaRegistryClient({"url": stack.schema_registry_url}) as registry:
        event = AvroDeserializer(registry)(value, SerializationContext("composed.public.orders", MessageField.VALUE))
        assert registry.get_subjects()
    assert event["after"] == {"id": 1, "item": "tea"}
    topics = kafkalab.Lab(stack.client, {}).describe("kafkasql-journal")
    assert topics, "the registry keeps its schemas in a topic"


def test_database_of_the_pipeline_is_told_what_the_embedded_one_is(pipeline):
    stack, _ = pipeline
    program, *told = SERVICES["postgres"]["command"]
    assert program == "postgres"
    settings = {f"--{setting}" for flag, setting in zip(told[::2], told[1::2], strict=True) if flag == "-c"}
    assert settings <= set(stack._server("postgres").command())
    assert len(settings) == len(told) // 2


@pytest.mark.parametrize(("name", "port"), [("pipeline-registry", "8080"), ("connect", "8083")])
def test_health_of_the_pipeline_is_what_a_serving_server_answers(pipeline, name, port):
    stack, _ = pipeline
    [*bash, script] = SERVICES[name]["healthcheck"]["test"][1:]
    (silent,) = free_ports(1)
    serving = stack.options.ports["connect" if name == "connect" else "registry"]
    for number, status in ((serving, 0), (stack.options.ports["postgres"], 1), (silent, 1)):
        asked = run("timeout", "10", *bash, script.replace("$$", "$").replace(port, str(number)))
        assert (asked.returncode != 0) == status, (number, asked.stderr)
