"""Where settings come from, what is refused and with which words, and what never shows."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from airavata_scheduler.settings import Paths, Settings, SettingsError, default_home, write_private


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AIRAVATA_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


def test_defaults_are_safe(tmp_path: Path) -> None:
    settings = Settings.load(home=tmp_path)
    assert settings.http_host == settings.dashboard_host == settings.ray_node_ip == "127.0.0.1"
    assert settings.url == "http://127.0.0.1:8700"
    assert settings.storage_dir == tmp_path / "storage"
    assert settings.database_url is None


def test_an_argument_wins_over_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("[platform]\nhttp_port = 1001\ncpus = 3\ngpus = 1\n[client]\nother = 1\n")
    monkeypatch.setenv("AIRAVATA_HTTP_PORT", "1002")
    monkeypatch.setenv("AIRAVATA_CPUS", "4")
    settings = Settings.load(home=tmp_path, http_port=1003, cpus=None)
    assert (settings.http_port, settings.cpus, settings.gpus) == (1003, 4, 1)


def test_named_resources_come_from_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("[platform]\nnamed = {matlab = 2}\n")
    assert Settings.load(home=tmp_path).named == {"matlab": 2.0}
    monkeypatch.setenv("AIRAVATA_NAMED", '{"matlab": 3, "tokens": 0.5}')
    assert Settings.load(home=tmp_path).named == {"matlab": 3.0, "tokens": 0.5}
    assert Settings.load(home=tmp_path, named={"matlab": "4"}).named == {"matlab": 4.0}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"GPU": 1}, "Ray uses itself"),
        ({"node:a": 1}, "Ray uses itself"),
        ({"matlab": 0}, "above 0"),
        ("x", "dictionary"),
    ],
)
def test_named_resources_that_cannot_be(tmp_path: Path, named: object, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.load(home=tmp_path, named=named)


def test_an_environment_that_is_no_json_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRAVATA_NAMED", "matlab=2")
    with pytest.raises(SettingsError, match=r"AIRAVATA_NAMED.*JSON"):
        Settings.load(home=tmp_path)


def test_home_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRAVATA_HOME", str(tmp_path / "other"))
    assert default_home() == Settings.load().home == tmp_path / "other"
    assert Settings.load(home=tmp_path).home == tmp_path


def test_two_ways_to_write_a_home_are_one_home(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    marks = {Settings.load(home=tmp_path / name).paths.mark for name in ("real", "link", "link/../real")}
    assert len(marks) == 1


@pytest.mark.parametrize("variable", ["DATABASE_URL", "AIRAVATA_DATABASE_URL"])
def test_a_database_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "postgresql://user:tr0ub4dor@host/db")
    settings = Settings.load(home=tmp_path)
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value().endswith("tr0ub4dor@host/db")
    assert "tr0ub4dor" not in f"{settings} {settings!r} {settings.model_dump()}"


def test_a_refused_database_url_is_not_shown_either(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(home=tmp_path, database_url="mysql://user:tr0ub4dor@host/db")
    assert "database_url" in str(caught.value)
    assert "postgresql://" in str(caught.value)
    assert "tr0ub4dor" not in str(caught.value)


def test_every_problem_is_reported_at_once_with_key_value_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(home=tmp_path, http_port="abc", cpus=-1, log_level="loud")
    assert len(caught.value.problems) == 3
    for key, value in (("http_port", "'abc'"), ("cpus", "-1"), ("log_level", "'loud'")):
        assert any(text.startswith(f"{key} = {value}: ") and "correct" in text for text in caught.value.problems)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"heartbeat_s": 12.0}, "at least twice the heartbeat"),
        ({"http_tls_cert": "/c.pem"}, "belong together"),
        ({"ray_address": "head"}, "HOST:PORT"),
        ({"ray_address": ":6379"}, "HOST:PORT"),
        ({"ray_address": "head:70000"}, "HOST:PORT"),
        ({"keeper_module": "a; rm"}, "keeper_module"),
        ({"htpp_port": 1}, "is not a setting"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, values: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.load(home=tmp_path, **values)


@pytest.mark.parametrize("text", ["http_port = ", "platform = 3"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"config\.toml"):
        Settings.load(home=tmp_path)


def test_what_runs_is_read_back_whatever_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(home=tmp_path, database_url="postgresql://u:p@h/d", http_port=9999, cpus=2)
    path = settings.save_run()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setenv("AIRAVATA_HTTP_PORT", "1234")
    assert Settings.from_run(tmp_path) == settings


def test_a_home_that_was_never_started_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="airavata up"):
        Settings.from_run(tmp_path)


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8700"), ("::", "http://[::1]:8700"), ("::1", "http://[::1]:8700")],
)
def test_the_url_can_be_reached_from_this_machine(tmp_path: Path, host: str, url: str) -> None:
    assert Settings.load(home=tmp_path, http_host=host).url == url


def test_a_private_file_replaces_in_one_step_and_closes_an_open_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_short_directory_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    paths = Paths(tmp_path / "home")
    assert paths.create_short().is_dir()
    (tmp_path / "elsewhere").mkdir()
    paths.short.rmdir()
    paths.short.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="another user"):
        paths.create_short()
