import shutil

import pytest

import kafkalab
from kafkalab.embedded import artifacts
from kafkalab.settings import StackSettings


@pytest.fixture
def copied_cache(monkeypatch, tmp_path):
    """A cache folder with real jars that a test may damage."""
    artifacts.fetch()
    shutil.copytree(StackSettings.read().cache / "jars", tmp_path / "jars")
    unpacked = artifacts.registry_jar().parent
    (tmp_path / unpacked.name).mkdir()
    shutil.copy(artifacts.registry_jar(), tmp_path / unpacked.name)
    monkeypatch.setenv("KAFKALAB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    """Send every download to a proxy that does not exist."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_damaged_file_is_refused_by_name_and_removed(copied_cache):
    jar = copied_cache / "jars" / "kafka-clients-3.9.2.jar"
    jar.write_bytes(jar.read_bytes()[:1000])
    with pytest.raises(kafkalab.LabError, match=r"org\.apache\.kafka:kafka-clients:3\.9\.2.* does not match.*fetch"):
        artifacts.fetch()
    assert not jar.exists()


def test_complete_cache_needs_no_network(copied_cache, no_network):
    artifacts.fetch()


def test_removed_file_is_fetched_again(copied_cache, capfd):
    jar = copied_cache / "jars" / "slf4j-api-1.7.36.jar"
    whole = jar.read_bytes()
    jar.unlink()
    artifacts.fetch()
    assert jar.read_bytes() == whole
    assert "Fetching Kafka" in capfd.readouterr().err
    assert not (copied_cache / "jars" / "partial").exists()


def test_packing_touches_no_folder_beside_it(copied_cache, tmp_path):
    moved = tmp_path / "offline"
    shutil.copytree(copied_cache / "jars", moved / "servers")
    (moved / "servers" / "slf4j-api-1.7.36.jar").unlink()
    shutil.copy(copied_cache / "jars" / "slf4j-api-1.7.36.jar", moved)
    mine = moved / "partial" / "mine"
    mine.parent.mkdir()
    mine.touch()
    artifacts.pack(moved / "servers")
    assert (moved / "servers" / "slf4j-api-1.7.36.jar").exists()
    assert mine.exists()


def test_no_network_says_what_to_do_and_leaves_nothing_half(monkeypatch, tmp_path, no_network):
    monkeypatch.setenv("KAFKALAB_CACHE", str(tmp_path))
    with pytest.raises(kafkalab.LabError, match=r"could not be fetched \(ProxyError\): connect this machine.*fetch"):
        artifacts.fetch()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KAFKALAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(kafkalab.LabError, match=r"cannot write to .*cache .*KAFKALAB_CACHE"):
        artifacts.fetch()


def test_wrong_checksum_in_a_download_is_refused(copied_cache, monkeypatch, tmp_path):
    coordinate = "org.slf4j:slf4j-api:1.7.36::jar"
    (copied_cache / "jars" / "slf4j-api-1.7.36.jar").unlink()
    lock = tmp_path / "artifacts.toml"
    text = artifacts.LOCK.read_text(encoding="utf-8")
    right = artifacts._lock()["kafka"][coordinate]["sha256"]
    lock.write_text(text.replace(right, "0" * 64), encoding="utf-8")
    monkeypatch.setattr(artifacts, "LOCK", lock)
    with pytest.raises(kafkalab.LabError, match=coordinate):
        artifacts.fetch()
    assert not (copied_cache / "jars" / "slf4j-api-1.7.36.jar").exists()


@pytest.mark.timeout(1800)  # the registry is fetched anew, 158 MB
def test_folder_for_a_room_without_a_network_is_checked_on_arrival(monkeypatch, tmp_path, request):
    artifacts.fetch()
    shutil.copytree(StackSettings.read().cache / "jars", tmp_path / "servers")
    artifacts.pack(tmp_path / "servers")
    request.getfixturevalue("no_network")
    monkeypatch.setenv("KAFKALAB_CACHE", str(tmp_path / "cache"))
    artifacts.fetch(tmp_path / "servers")
    assert artifacts.registry_jar().exists()
    assert not list((tmp_path / "cache" / "jars").glob("*.tar.gz"))

    monkeypatch.setenv("KAFKALAB_CACHE", str(tmp_path / "another"))
    (tmp_path / "servers" / "kafka-clients-3.9.2.jar").write_bytes(b"lost on the way")
    with pytest.raises(
        kafkalab.LabError, match=r"kafka-clients:3\.9\.2.* does not match.*make .*servers anew.*make offline"
    ):
        artifacts.fetch(tmp_path / "servers")
    assert (tmp_path / "servers" / "kafka-clients-3.9.2.jar").exists()
