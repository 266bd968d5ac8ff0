from pathlib import Path
from urllib.parse import quote

import clients
import httpx2
import psycopg
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

import kafkalab
from kafkalab.cluster.connectors import ask, refusal, state
from kafkalab.embedded.servers.connect import PASSWORD
from kafkalab.embedded.stack import free_ports
from kafkalab.lessons.connect import database, events, forget, pipeline, start_over

SOURCE = "io.debezium.connector.postgresql.PostgresConnector"


@pytest.fixture(scope="module")
def own():
    with kafkalab.own_stack(mode="kraft", beside=("postgres", "connect")) as own:
        yield own


def test_login_is_that_of_the_account_and_no_other(own):
    login = database(own.stack)
    with psycopg.connect(**login) as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
    account = Path(own.stack.status()["postgres_account"])
    assert f"password={login['password']}" in account.read_text(encoding="utf-8")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**{**login, "password": "guessed"})


def test_worker_tells_the_password_of_the_database_and_no_other_variable(own):
    """Another one is as one that is not set, so a password in it is none."""
    web = httpx2.Client(base_url=f"http://127.0.0.1:{own.stack.options.ports['connect']}", timeout=60, trust_env=False)
    login = database(own.stack)
    config = {
        "name": "check",
        "connector.class": SOURCE,
        "topic.prefix": "check",
        "database.hostname": login["host"],
        "database.port": login["port"],
        "database.user": login["user"],
        "database.dbname": "postgres",
        "plugin.name": "pgoutput",
    }
    errors = {}
    with web:
        for variable in (PASSWORD, "${env:PATH}"):
            config["database.password"] = variable
            answer = web.put("/connector-plugins/PostgresConnector/config/validate", json=config)
            errors[variable] = answer.json().get("error_count")
    assert errors.pop(PASSWORD) == 0
    assert set(errors.values()) != {0}


@pytest.fixture
def theirs(own, monkeypatch):
    """The servers of a stack as an environment names them; returns the addresses."""
    login, ports = database(own.stack), own.stack.options.ports
    reference = quote(PASSWORD, safe="")
    named = clients.named(own) | {
        "KAFKALAB_CONNECT_URL": f"http://127.0.0.1:{ports['connect']}",
        "KAFKALAB_POSTGRES_URL": f"postgresql://{login['user']}:{login['password']}@127.0.0.1:{login['port']}",
        "KAFKALAB_CONNECT_POSTGRES_URL": f"postgresql://{login['user']}:{reference}@localhost:{login['port']}",
    }
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return named


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("KAFKALAB_POSTGRES_URL", "", "set KAFKALAB_CONNECT_URL, KAFKALAB_POSTGRES_URL and KAFKA_BROKER_URL"),
        ("KAFKALAB_CONNECT_URL", "", "set KAFKALAB_CONNECT_URL, KAFKALAB_POSTGRES_URL and KAFKA_BROKER_URL"),
        ("KAFKALAB_LEARNER", "ann", "for itself: unset KAFKALAB_LEARNER"),
        ("KAFKALAB_CONNECT_URL", "http://127.0.0.1:{free}", "does not answer .*: check KAFKALAB_CONNECT_URL"),
        ("KAFKALAB_POSTGRES_URL", "postgresql://a:b@127.0.0.1:{free}", "refused.*: check KAFKALAB_POSTGRES_URL"),
        ("KAFKALAB_POSTGRES_URL", "postgresql://a:guessed@{database}", "password .*: check KAFKALAB_POSTGRES_URL"),
    ],
)  # fmt: skip
def test_servers_of_the_environment_that_cannot_be_had_are_one_line(theirs, monkeypatch, name, value, says):
    (free,) = free_ports(1)
    monkeypatch.setenv(name, value.format(free=free, database=theirs["KAFKALAB_POSTGRES_URL"].split("@")[1]))
    with pytest.raises(kafkalab.LabError, match=says) as error:
        pipeline()
    assert "\n" not in str(error.value)
    assert "guessed" not in str(error.value)


def test_what_a_killed_kernel_has_left_is_named_and_removed_and_nothing_else(own, theirs, capsys):
    """Twice, and each time the connector begins with a snapshot: Connect has forgotten how far the last one came."""
    web = httpx2.Client(base_url=theirs["KAFKALAB_CONNECT_URL"], timeout=60, trust_env=False)
    with web, SchemaRegistryClient(own.registry) as registry, psycopg.connect(**database(own.stack)) as server:
        server.autocommit = True
        server.execute("CREATE DATABASE somebody")
        server.execute("SELECT pg_create_logical_replication_slot('somebody', 'pgoutput')")
        own.topic("somebody")
        for how in ("forget", "end"):
            servers = pipeline()
            seen = servers.at_connect
            assert seen["password"].startswith("${env:")
            server.execute("CREATE DATABASE shop")
            with psycopg.connect(**servers.login, dbname="shop", autocommit=True) as shop:
                shop.execute("CREATE TABLE orders (id int PRIMARY KEY)")
                shop.execute("INSERT INTO orders VALUES (1)")
            config = {
                "connector.class": SOURCE,
                "topic.prefix": "shop",
                "database.hostname": seen["host"],
                "database.port": seen["port"],
                "database.user": seen["user"],
                "database.password": seen["password"],
                "database.dbname": "shop",
                "plugin.name": "pgoutput",
                "slot.name": "lesson",
                "schema.name.adjustment.mode": "avro",
            }
            assert web.put("/connectors/shop/config", json=config).status_code == 201
            read = clients.read(own.client["bootstrap.servers"], "shop.public.orders", 1, group=how, seconds=60)
            assert len(read) == 1, "a snapshot"
            there = (
                "connector shop, slot lesson, database shop, topic shop.public.orders, subject shop.public.orders-key"
            )
            with pytest.raises(kafkalab.LabError, match=f"there is already {there}.*forget") as error:
                pipeline()
            assert "\n" not in str(error.value)
            servers.kill("connect")
            assert (
                capsys.readouterr().out
                == "connect is not a server of this notebook: it is not killed, and all goes on\n"
            )
            servers.start("connect")
            forget() if how == "forget" else servers.end()
            assert servers.left() == []
            assert web.get("/connectors").json() == []
        found = server.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
        assert found == [("somebody",)]
        assert server.execute("SELECT count(*) FROM pg_database WHERE datname = 'somebody'").fetchone() == (1,)
        assert own.describe("somebody")
        assert registry.get_subjects() == []


def test_field_that_is_wrong_is_named_and_there_is_no_connector(theirs):
    config = {"name": "wrong", "connector.class": SOURCE, "topic.prefix": "wrong", "database.dbname": "postgres"}
    with httpx2.Client(base_url=theirs["KAFKALAB_CONNECT_URL"], timeout=60, trust_env=False) as web:
        told = web.put("/connector-plugins/PostgresConnector/config/validate", json=config).json()
        errors = {field["value"]["name"]: field["value"]["errors"] for field in told["configs"] if field["value"]}
        assert "A value is required" in errors["database.hostname"][0]
        assert web.put("/connectors/wrong/config", json=config).is_error
        assert web.get("/connectors").json() == []


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("theirs")
def test_lesson_takes_servers_of_the_environment_counts_right_and_leaves_nothing(own, tmp_path):
    printed = clients.printed_by("15_connect.ipynb", {"purchases": 60}, tmp_path)
    for name in ("connect", "postgres"):
        assert f"{name} is not a server of this notebook: it is not killed" in printed
    assert "placed: 61\nlost:   0\ntwice:  0\n" in printed
    assert pipeline().left() == []


def test_new_start_forgets_also_what_a_deleted_connector_has_left(own):
    """Its offset would make the next connector of that name leave out what is in the table already."""

    def begin():
        start_over(own.stack, "check")
        with psycopg.connect(**database(own.stack), dbname="check", autocommit=True) as connection:
            connection.execute("CREATE TABLE fruit (id int PRIMARY KEY)")
            connection.execute("INSERT INTO fruit VALUES (1), (2)")
            assert ask(own.stack, "PUT", "/connectors/deleted/config", config).status_code == 201
            kafkalab.wait_until(lambda: len(events(own, topic)) == 2, "the snapshot", 60)
            connection.execute("DELETE FROM fruit WHERE id = 1")
            kafkalab.wait_until(lambda: len(events(own, topic)) == 4, "the event and the tombstone", 60)

    topic, login = "deleted.public.fruit", database(own.stack)
    config = {
        "connector.class": SOURCE,
        "topic.prefix": "deleted",
        "database.hostname": login["host"],
        "database.port": login["port"],
        "database.user": login["user"],
        "database.password": PASSWORD,
        "database.dbname": "check",
        "plugin.name": "pgoutput",
        "poll.interval.ms": 100,
    }
    begin()
    assert [(key["id"], value and value["op"]) for key, value in events(own, topic)] == [
        (1, "r"), (2, "r"), (1, "d"), (1, None),
    ]  # fmt: skip
    assert state(own.stack, "deleted") == ("RUNNING", "")
    ask(own.stack, "DELETE", "/connectors/deleted")
    kafkalab.wait_until(lambda: state(own.stack, "deleted") == ("", ""), "the end of the connector")
    begin()


def test_refusal_tells_the_fault_and_a_name_that_is_taken_is_told_at_once(own):
    login = database(own.stack)
    config = {
        "connector.class": SOURCE,
        "topic.prefix": "refused",
        "database.hostname": login["host"],
        "database.port": login["port"],
        "database.user": login["user"],
        "database.password": "guessed",
        "database.dbname": "postgres",
        "plugin.name": "pgoutput",
        "slot.name": "refused",
    }
    for method, path, body in (
        ("PUT", "/connectors/refused/config", config),
        ("POST", "/connectors", {"name": "refused", "config": config}),
    ):
        answer = ask(own.stack, method, path, body)
        assert answer.is_error
        assert "password authentication failed" in refusal(own.stack, answer)
    body = {"name": "refused", "config": config | {"database.password": PASSWORD}, "initial_state": "STOPPED"}
    assert ask(own.stack, "POST", "/connectors", body).status_code == 201
    answer = ask(own.stack, "POST", "/connectors", body)
    assert refusal(own.stack, answer) == "Connector refused already exists"
    ask(own.stack, "DELETE", "/connectors/refused")


def test_dead_worker_is_said_to_be_one(own):
    own.stack.kill("connect")
    with pytest.raises(kafkalab.LabError, match=r"Connect at .* does not answer .*stack\.start\('connect'\)"):
        state(own.stack, "any")
    own.stack.start("connect")
