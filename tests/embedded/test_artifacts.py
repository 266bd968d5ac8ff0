import hashlib
import json
import shutil
import tarfile

import pytest
import tomli_w
from click.testing import CliRunner

import kafkalab
from kafkalab.cli import app
from kafkalab.embedded import artifacts
from kafkalab.settings import StackSettings

SLF4J = "org.slf4j:slf4j-api:1.7.36::jar"
SIMPLE = "org.slf4j:slf4j-simple:1.7.36::jar"
OPTIONS = "net.sf.jopt-simple:jopt-simple:5.0.4::jar"


@pytest.fixture
def copied_cache(monkeypatch, tmp_path):
    """A cache folder with real jars that a test may damage."""
    artifacts.fetch()
    shutil.copytree(StackSettings.read().cache / "jars", tmp_path / "jars")
    unpacked = artifacts.registry_jar().parent
    (tmp_path / unpacked.name).mkdir()
    shutil.copy(artifacts.registry_jar(), tmp_path / unpacked.name)
    sizes = {artifacts.registry_jar().name: artifacts.registry_jar().stat().st_size}
    (tmp_path / unpacked.name / "files.json").write_text(json.dumps(sizes), encoding="utf-8")
    monkeypatch.setenv("KAFKALAB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A lock of four files, real jars and an archive of a registry of two files, in a folder to fetch from."""
    artifacts.fetch()
    (tmp_path / "app" / "lib").mkdir(parents=True)
    (tmp_path / "app" / "quarkus-run.jar").write_text("jar", encoding="ascii")
    (tmp_path / "app" / "lib" / "one.jar").write_text("library", encoding="ascii")
    source, entries = tmp_path / "servers", {}
    source.mkdir()
    for coordinate in (SLF4J, SIMPLE, OPTIONS):
        shutil.copy(StackSettings.read().cache / "jars" / artifacts.file_name(coordinate), source)
    with tarfile.open(source / "registry-1-all.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "app", ".")
    for part, coordinate in (
        ("kafka", SLF4J),
        ("kraft", SIMPLE),
        ("tools", OPTIONS),
        ("registry", "group:registry:1:all:tar.gz"),
    ):
        file = (source / artifacts.file_name(coordinate)).read_bytes()
        entries[part] = {coordinate: {"size": len(file), "sha256": hashlib.sha256(file).hexdigest()}}
    (tmp_path / "lock.toml").write_text(tomli_w.dumps(entries), encoding="utf-8")
    monkeypatch.setattr(artifacts, "LOCK", tmp_path / "lock.toml")
    monkeypatch.setenv("KAFKALAB_CACHE", str(tmp_path / "cache"))
    return source


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


def test_packing_touches_no_folder_beside_it(small):
    (small / "slf4j-api-1.7.36.jar").rename(small.parent / "slf4j-api-1.7.36.jar")
    mine = small.parent / "partial" / "mine"
    mine.parent.mkdir()
    mine.touch()
    artifacts.pack(small)
    assert (small / "slf4j-api-1.7.36.jar").read_bytes() == (small.parent / "slf4j-api-1.7.36.jar").read_bytes()
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
    (copied_cache / "jars" / "slf4j-api-1.7.36.jar").unlink()
    lock = tmp_path / "artifacts.toml"
    text = artifacts.LOCK.read_text(encoding="utf-8")
    right = artifacts._lock()["kafka"][SLF4J]["sha256"]
    lock.write_text(text.replace(right, "0" * 64), encoding="utf-8")
    monkeypatch.setattr(artifacts, "LOCK", lock)
    with pytest.raises(kafkalab.LabError, match=SLF4J):
        artifacts.fetch()
    assert not (copied_cache / "jars" / "slf4j-api-1.7.36.jar").exists()


def test_folder_for_a_room_without_a_network_brings_all_files(small, no_network):
    brought = CliRunner().invoke(app, ["fetch", "--from", str(small)])
    assert brought.exit_code == 0, brought.output
    jars = StackSettings.read().cache / "jars"
    assert {path.name for path in jars.glob("*.jar")} == set(map(artifacts.file_name, (SLF4J, SIMPLE, OPTIONS)))


def test_folder_for_a_room_without_a_network_is_checked_on_arrival(monkeypatch, tmp_path, small, no_network):
    artifacts.fetch(small)
    assert artifacts.registry_jar().exists()
    assert not list((tmp_path / "cache" / "jars").glob("*.tar.gz"))

    monkeypatch.setenv("KAFKALAB_CACHE", str(tmp_path / "another"))
    (small / "slf4j-api-1.7.36.jar").write_bytes(b"lost on the way")
    says = r"slf4j-api:1\.7\.36.* does not match.*make .*servers anew.*make offline"
    with pytest.raises(kafkalab.LabError, match=says):
        artifacts.fetch(small)
    assert (small / "slf4j-api-1.7.36.jar").exists()


def test_registry_with_a_lost_or_short_file_is_unpacked_again(small):
    artifacts.fetch(small)
    library = artifacts.registry_jar().parent / "lib" / "one.jar"
    for damage in (library.unlink, lambda: library.write_text("lib", encoding="ascii")):
        damage()
        artifacts.fetch(small)
        assert library.read_text(encoding="ascii") == "library"


def test_registry_whose_unpacking_was_cut_off_is_unpacked_again(small):
    half = artifacts.registry_jar().parent / "lib"
    half.mkdir(parents=True)
    (half / "one.jar").touch()
    artifacts.fetch(small)
    assert artifacts.registry_jar().read_text(encoding="ascii") == "jar"
    assert (half / "one.jar").read_text(encoding="ascii") == "library"
