import httpx2
import psycopg
import pytest

import kafkalab
from kafkalab.lessons.connect import account, database

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
