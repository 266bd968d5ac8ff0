"""The cloud workspace without an engine: what its file says, and JupyterLab behind a tool that forwards ports.

What only an engine can show is not shown here: the image, its `make`, and the forwarding itself.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import requests
from packaging.specifiers import SpecifierSet

import kafkalab
from kafkalab.embedded.stack import free_ports
from kafkalab.settings import StackSettings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".devcontainer"
WORKSPACE = json.loads((FOLDER / "devcontainer.json").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
OUTSIDE = "name-8888.app.github.dev"  # what a browser dials for port 8888 of a codespace
TOKEN = "a token of this test"


def default_port(name):
    """Return the port that a server of the stack has when the environment names none."""
    return StackSettings.model_fields[name].default


# What the file says


def test_image_is_pinned_and_its_python_is_one_of_ours():
    name, tag = WORKSPACE["image"].rsplit(":", 1)
    python = re.fullmatch(r"\d+\.\d+\.\d+-(3\.\d+)-[a-z]+", tag).group(1)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert name == "mcr.microsoft.com/devcontainers/python"
    assert SpecifierSet(project["requires-python"]).contains(f"{python}.0")


def test_commands_are_targets_of_the_makefile():
    commands = [value for key, value in WORKSPACE.items() if key.endswith("Command")]
    targets = [re.fullmatch(r"make ([a-z]+)", command).group(1) for command in commands]
    assert targets == ["setup"]
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in [*targets, "lab"])


def test_ports_are_those_of_the_stack_and_the_broker_is_not_forwarded():
    broker, registry = default_port("broker_port"), default_port("registry_port")
    assert WORKSPACE["forwardPorts"] == [8888, registry]
    assert set(WORKSPACE["portsAttributes"]) == {"8888", str(broker), str(registry)}
    assert WORKSPACE["portsAttributes"][str(broker)]["onAutoForward"] == "ignore"
    assert WORKSPACE["otherPortsAttributes"] == {"onAutoForward": "ignore"}


def test_nothing_is_published_and_nothing_runs_with_more_rights():
    assert not {"appPort", "runArgs", "privileged", "capAdd", "mounts", "remoteUser"} & set(WORKSPACE)


# JupyterLab as `make lab` starts it, asked as a tool that forwards ports asks


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """Return the address of a JupyterLab with the workspace's environment."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("jupyter")
    path = WORKSPACE["containerEnv"]["JUPYTER_CONFIG_PATH"].replace("${containerWorkspaceFolder}", str(ROOT))
    environment = {"JUPYTER_CONFIG_PATH": path, "JUPYTER_TOKEN": TOKEN, "JUPYTER_PORT": str(port)}
    environment["CODESPACE_NAME"] = OUTSIDE.split("-")[0]
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    lab = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={folder}", *root]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(lab, env={**os.environ, **environment, **own}, stdout=log, stderr=log)
    try:
        kafkalab.wait_until(lambda: _listens(port), "JupyterLab to listen", seconds=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def asked(address, origin, *, host=OUTSIDE):
    """Open the link with the token as a browser does, then a WebSocket with the cookie; return both statuses."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    with requests.Session() as browser:
        browser.trust_env = False
        page = browser.get(f"{address}/lab", params={"token": TOKEN}, headers={"Host": host}, timeout=10)
        cookie = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Cookie": cookie, "Host": host, "Origin": origin}
        stream = f"{address}/api/events/subscribe"
        with browser.get(stream, headers={**upgrade, **key}, timeout=10, stream=True) as answer:
            return page.status_code, answer.status_code


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (OUTSIDE, f"https://{OUTSIDE}"),
        (OUTSIDE, "https://localhost:8888"),
        ("localhost:8888", f"https://{OUTSIDE}"),
        ("localhost:8888", "http://localhost:8888"),
    ],
)
def test_jupyterlab_answers_through_the_forwarded_port_whatever_headers_are_rewritten(jupyter, host, origin):
    assert asked(jupyter, origin, host=host) == (200, 101)


@pytest.mark.parametrize(
    "origin",
    ["https://elsewhere.example", f"https://{OUTSIDE}.elsewhere.example", "https://another-8888.app.github.dev"],
)
def test_jupyterlab_takes_no_kernel_messages_from_other_pages(jupyter, origin):
    assert asked(jupyter, origin) == (200, 403)


def test_jupyterlab_asks_for_the_token(jupyter):
    assert requests.get(f"{jupyter}/api/contents", headers={"Host": OUTSIDE}, timeout=10).status_code == 403
