import httpx2
import psycopg
import pytest

import kafkalab
from kafkalab.cluster.connectors import ask, state
from kafkalab.lessons.connect import account, database, events, start_over

SOURCE = "io.debezium.connector.postgresql.PostgresConnector"


@pytest.fixture(scope="module")
def own():
    with kafkalab.own_stack(mode="kraft", beside=("postgres", "connect")) as own:
        yield own


def test_login_is_that_of_the_account_and_no_other(own):
    login = database(own.stack)
    with psycopg.connect(**login) as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
    assert f"password={login['password']}" in account(own.stack).read_text(encoding="utf-8")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**{**login, "password": "guessed"})


def test_worker_reads_passwords_of_the_stack_and_no_other_file(own, tmp_path):
    """A file that is not among the stack's is as one that is empty, so a password in it is none."""
    (tmp_path / "secret.properties").write_text("password=secret", encoding="ascii")
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
        for path in (account(own.stack), tmp_path / "secret.properties"):
            config["database.password"] = f"${{file:{path.as_posix()}:password}}"
            answer = web.put("/connector-plugins/PostgresConnector/config/validate", json=config)
            errors[path] = answer.json().get("error_count")
    assert errors.pop(account(own.stack)) == 0
    assert set(errors.values()) != {0}


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
        "database.password": f"${{file:{account(own.stack).as_posix()}:password}}",
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


def test_dead_worker_is_said_to_be_one(own):
    own.stack.kill("connect")
    with pytest.raises(kafkalab.LabError, match=r"Connect does not answer .*stack\.start\('connect'\)"):
        state(own.stack, "any")
    own.stack.start("connect")
