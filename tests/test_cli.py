import json
import os
import subprocess
import sys

import clients
import nbformat
import pytest

from kafkalab import cli, headless


def kafkalab(*arguments, **options):
    command = [sys.executable, "-m", "kafkalab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("command", sorted(cli.app.commands))
def test_help_has_an_example(command):
    asked = kafkalab(command, "--help")
    assert asked.returncode == 0
    assert f"kafkalab {command}" in asked.stdout.split("Example:")[1]


def test_status_for_programs(lab):
    asked = kafkalab("status", "--json")
    status = json.loads(asked.stdout)
    assert asked.returncode == 0
    assert status["state"] == "running"
    assert status["bootstrap_servers"] == lab.client["bootstrap.servers"]
    assert status["schema_registry_url"] == lab.registry["url"]
    assert status["zookeeper"] == lab.stack.zookeeper
    assert [process["name"] for process in status["processes"]] == ["zookeeper", "broker-0", "registry"]
    assert all({"name", "pid", "port", "rss_mb"} == process.keys() for process in status["processes"])


def test_kill_status_start_and_logs(lab):
    assert kafkalab("kill", "registry").returncode == 0
    asked = kafkalab("status")
    assert asked.returncode == 1
    assert "degraded" in asked.stdout
    assert kafkalab("start", "registry").returncode == 0
    assert kafkalab("status").returncode == 0
    assert "Kafka Server" in kafkalab("logs", "broker-0").stdout or "started" in kafkalab("logs", "broker-0").stdout


def test_expected_error_is_one_line(lab):
    asked = kafkalab("kill", "broker-9")
    assert asked.returncode == 1
    assert asked.stderr == "Error: there is no server 'broker-9' in this stack, only zookeeper, broker-0, registry\n"


@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", r"süß \u03a9"), ("iso8859-7", r"s\xfc\xdf Ω")])
def test_output_in_a_code_page_that_lacks_a_character(lab, encoding, shown):
    lab.fresh_topic("pages")
    clients.produce(lab.client["bootstrap.servers"], "pages", ["süß Ω"])
    variables = {"PYTHONIOENCODING": encoding, "IN_TOPIC": "pages", "IN_GROUP": encoding}
    asked = kafkalab("print", env={**os.environ, **variables, "KAFKA_CONSUMER_TIMEOUT_MS": "500"}, encoding=encoding)
    assert asked.returncode == 0
    assert asked.stdout.splitlines() == [shown]


def test_kernels_get_the_callers_files(lab, notebooks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.properties").write_text("client.id=me\n", encoding="utf-8")
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", "ok.properties")
    code = "import kafkalab; print(kafkalab.connect().client['client.id'])"
    asks = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    asks.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(asks, notebooks / "02_asks.ipynb")
    with pytest.raises(SystemExit) as end:
        cli.app(["run", "02", "--build", str(tmp_path / "build")])
    assert not end.value.code
    assert "me" in nbformat.read(tmp_path / "build" / "02_asks.ipynb", 4).cells[0].outputs[0].text


@pytest.fixture
def notebooks(monkeypatch, tmp_path):
    """Two notebooks in a folder of their own: one fails, one takes a parameter."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    fails = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)"), nbformat.v4.new_code_cell("1 / 0")])
    cells = [nbformat.v4.new_code_cell("number = 1", metadata={"tags": ["parameters"]})]
    takes = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell("print(number + 1)")])
    for notebook in (fails, takes):
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(fails, folder / "00_fails.ipynb")
    nbformat.write(takes, folder / "01_takes.ipynb")
    monkeypatch.setattr(headless, "NOTEBOOKS", folder)
    return folder


def test_failing_notebook_is_named_with_its_cell_and_the_others_run(lab, notebooks, tmp_path, capsys):
    build = tmp_path / "build"
    with pytest.raises(SystemExit) as end:
        cli.app(["run", "--build", str(build), "-p", "number", "41"])
    assert end.value.code == 1
    assert "00_fails.ipynb failed in cell [2]: ZeroDivisionError" in capsys.readouterr().err
    assert "42" in (build / "01_takes.html").read_text(encoding="utf-8")
    index = (build / "index.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" in index
    assert "01_takes.html" in index
    assert lab.stack.state() == "running", "a stack that ran before goes on"


def test_parameter_that_no_notebook_has(notebooks):
    with pytest.raises(headless.LabError, match="no chosen notebook has a parameter 'numbr'"):
        headless.shared_out({"numbr": 1}, headless.chosen([]))


def test_unknown_notebook(notebooks):
    with pytest.raises(headless.LabError, match="no notebook is called '99': there are 00_fails, 01_takes"):
        headless.chosen(["99"])


def test_notebooks_are_chosen_by_the_start_of_their_names(notebooks):
    assert [path.name for path in headless.chosen(["01", "00_f"])] == ["01_takes.ipynb", "00_fails.ipynb"]
