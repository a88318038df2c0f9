"""Settings: each is read, used and documented, and whatever is wrong is one sentence that gives no secret away."""

from __future__ import annotations

import re
from pathlib import Path
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.errors import OperatorError
from authsvc.settings import PROFILES, SECRETS, Settings, read_settings
from generate import settings_table

PACKAGE = Path(__file__).parents[2] / "service" / "authsvc"
KEY = "k3Vt9wQzX1pLr8sYbN5mHc2jDf7gAe4U"
OTHER_KEY = "Zr5Ty8UiOp2As4Df6Gh9Jk1Lx3Cv7Bn0"
CA_FILE = Path(__file__)
"""Any file that is there."""

READ_AS = {
    "AUTH_ISSUER": ("https://auth.internal/base/", "https://auth.internal/base"),
    "AUTH_HOST": ("0.0.0.0", "0.0.0.0"),
    "AUTH_PORT": ("8000", 8000),
    "AUTH_MANAGEMENT_HOST": ("0.0.0.0", "0.0.0.0"),
    "AUTH_MANAGEMENT_PORT": ("9000", 9000),
    "AUTH_WORKERS": ("auto", "auto"),
    "AUTH_TOKEN_KEY": (KEY, KEY),
    "AUTH_TOKEN_KEY_ACCEPTED": (OTHER_KEY, OTHER_KEY),
    "AUTH_REDIS_URL": ("rediss://user@redis.internal:6380", "rediss://user@redis.internal:6380"),
    "AUTH_REDIS_MODE": ("cluster", "cluster"),
    "AUTH_REDIS_PASSWORD": ("open sesame", "open sesame"),
    "AUTH_REDIS_TIMEOUT_MS": ("250", 250),
    "AUTH_REDIS_CA_FILE": (str(CA_FILE), CA_FILE),
    "AUTH_READY_GRACE_SECONDS": ("0", 0.0),
    "AUTH_DRAIN_SECONDS": ("12.5", 12.5),
    "AUTH_MAX_IN_FLIGHT": ("64", 64),
    "AUTH_QUEUE_WAIT_MS": ("250", 250),
    "AUTH_BACKLOG_LIMIT": ("5000", 5000),
    "AUTH_FAST_LANE": ("false", False),
    "AUTH_KEEP_ALIVE_SECONDS": ("60", 60),
    "AUTH_PROXY_PROTOCOL": ("true", True),
    "AUTH_RECORDS_URL": ("sqlite:////var/lib/auth/records.db", "sqlite:////var/lib/auth/records.db"),
    "AUTH_RECORDS_PASSWORD": ("tiger", "tiger"),
    "AUTH_ORACLE_CONFIG_DIR": (str(CA_FILE.parent), CA_FILE.parent),
    "AUTH_ORACLE_WALLET_PASSWORD": ("purse", "purse"),
    "AUTH_ORACLE_POOL_MAX": ("8", 8),
    "AUTH_ORACLE_POOL_MIN": ("0", 0),
    "AUTH_ORACLE_MAX_LIFETIME_SESSION_SECONDS": ("30", 30),
    "AUTH_ORACLE_TIMEOUT_SECONDS": ("600", 600),
    "AUTH_ORACLE_WAIT_TIMEOUT_SECONDS": ("1.5", 1.5),
    "AUTH_ORACLE_PING_INTERVAL_SECONDS": ("30", 30),
    "AUTH_ORACLE_STATEMENT_CACHE_SIZE": ("0", 0),
    "AUTH_ORACLE_SESSION_LIMIT": ("100", 100),
    "AUTH_ORACLE_SESSION_RESERVE": ("5", 5),
    "AUTH_ORACLE_WRITERS": ("3", 3),
    "AUTH_ORACLE_THICK_MODE": ("true", True),
    "AUTH_WRITER_PROFILE": ("latency", "latency"),
    "AUTH_WRITER_BATCH_ROWS": ("300", 300),
    "AUTH_WRITER_BATCH_SECONDS": ("0.5", 0.5),
    "AUTH_WRITER_WORKERS": ("4", 4),
    "AUTH_WRITER_CALL_TIMEOUT_SECONDS": ("15", 15.0),
    "AUTH_MIRROR_INTERVAL_SECONDS": ("1", 1.0),
    "AUTH_CLIENTS_FILE": ("/etc/auth/clients.json", Path("/etc/auth/clients.json")),
    "AUTH_RETENTION_DAYS": ("30", 30.0),
    "AUTH_PURGE_INTERVAL_SECONDS": ("60", 60.0),
    "AUTH_OPERATOR": ("somebody", "somebody"),
    "AUTH_LOG_LEVEL": ("debug", "debug"),
    "AUTH_MANAGEMENT_SECRET": ("a-secret-of-sixteen", "a-secret-of-sixteen"),
    "AUTH_ACCESS_LOG": ("true", True),
    "AUTH_ACCESS_LOG_SUCCESS_SHARE": ("0.5", 0.5),
}

BAD = [
    ("AUTH_ISSUER", "auth.internal"),
    ("AUTH_ISSUER", "ftp://auth.internal"),
    ("AUTH_ISSUER", "https://auth.internal/?a=b"),
    ("AUTH_ISSUER", "https://auth.internal/#top"),
    ("AUTH_ISSUER", "https://auth.internal:port"),
    ("AUTH_PORT", "0"),
    ("AUTH_PORT", "65536"),
    ("AUTH_PORT", "http"),
    ("AUTH_PORT", ""),
    ("AUTH_MANAGEMENT_PORT", "-1"),
    ("AUTH_WORKERS", "0"),
    ("AUTH_WORKERS", "65"),
    ("AUTH_WORKERS", "many"),
    ("AUTH_REDIS_URL", "http://redis"),
    ("AUTH_REDIS_URL", "redis:///0"),
    ("AUTH_REDIS_URL", "redis://redis/first"),
    ("AUTH_REDIS_URL", "redis://redis/²"),
    ("AUTH_REDIS_URL", "redis://redis:port/0"),
    ("AUTH_REDIS_URL", "redis://redis:65536/0"),
    ("AUTH_REDIS_URL", "redis://[redis/0"),
    ("AUTH_REDIS_TIMEOUT_MS", "49"),
    ("AUTH_REDIS_CA_FILE", "/there/is/no/such/file"),
    ("AUTH_READY_GRACE_SECONDS", "-1"),
    ("AUTH_DRAIN_SECONDS", "nan"),
    ("AUTH_DRAIN_SECONDS", "inf"),
    ("AUTH_KEEP_ALIVE_SECONDS", "0"),
    ("AUTH_MAX_IN_FLIGHT", "0"),
    ("AUTH_QUEUE_WAIT_MS", "0"),
    ("AUTH_BACKLOG_LIMIT", "0"),
    ("AUTH_RECORDS_URL", "sqlite:///"),
    ("AUTH_RECORDS_URL", "mysql://records"),
    ("AUTH_WRITER_PROFILE", "fast"),
    ("AUTH_WRITER_BATCH_ROWS", "0"),
    ("AUTH_WRITER_BATCH_SECONDS", "0"),
    ("AUTH_WRITER_WORKERS", "17"),
    ("AUTH_WRITER_CALL_TIMEOUT_SECONDS", "0"),
    ("AUTH_MIRROR_INTERVAL_SECONDS", "10"),
    ("AUTH_RETENTION_DAYS", "0"),
    ("AUTH_RETENTION_DAYS", "inf"),
    ("AUTH_PURGE_INTERVAL_SECONDS", "inf"),
    ("AUTH_OPERATOR", ""),
    ("AUTH_LOG_LEVEL", "INFO!"),
    ("AUTH_ACCESS_LOG", "perhaps"),
    ("AUTH_ACCESS_LOG_SUCCESS_SHARE", "1.1"),
    ("AUTH_MANAGEMENT_SECRET", "fifteen-letters"),
]


def refusal(environ: dict[str, str]) -> str:
    """The one sentence that an operator gets."""
    with pytest.raises(OperatorError) as refused:
        read_settings(environ)
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def plain(value: object) -> object:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


def test_every_setting_is_read_from_its_variable() -> None:
    settings = read_settings({name: text for name, (text, _) in READ_AS.items()})
    read = {f"AUTH_{name.upper()}": plain(getattr(settings, name)) for name in Settings.model_fields}
    # Beside the password itself its file is refused: it has a test of its own.
    assert read.pop("AUTH_RECORDS_PASSWORD_FILE") is None
    assert read == {name: value for name, (_, value) in READ_AS.items()}


def test_a_cluster_has_only_one_database() -> None:
    assert read_settings({"AUTH_REDIS_MODE": "cluster", "AUTH_REDIS_URL": "redis://redis/0"}).redis_mode == "cluster"
    assert "only database 0" in refusal({"AUTH_REDIS_MODE": "cluster", "AUTH_REDIS_URL": "redis://redis/1"})


def test_nobody_pings_in_thin_mode() -> None:
    assert "needs AUTH_ORACLE_THICK_MODE" in refusal({"AUTH_ORACLE_PING_INTERVAL_SECONDS": "0"})
    assert read_settings({"AUTH_ORACLE_PING_INTERVAL_SECONDS": "-1"}).oracle_ping_interval_seconds == -1


def test_a_password_of_the_record_store_comes_from_one_place() -> None:
    file = {"AUTH_RECORDS_PASSWORD_FILE": str(CA_FILE)}
    assert read_settings(file).records_password_file == CA_FILE
    assert "AUTH_RECORDS_PASSWORD_FILE are both set" in refusal({**file, "AUTH_RECORDS_PASSWORD": "tiger"})


def test_a_pool_is_not_smaller_than_its_least() -> None:
    assert "AUTH_ORACLE_POOL_MIN is above" in refusal({"AUTH_ORACLE_POOL_MIN": "5"})


def test_every_setting_alone_differs_from_its_default() -> None:
    """So that the test above cannot pass on defaults."""
    defaults = read_settings({})
    for name, (text, value) in READ_AS.items():
        needed = {"AUTH_ORACLE_THICK_MODE": "true"} if name == "AUTH_ORACLE_PING_INTERVAL_SECONDS" else {}
        assert plain(getattr(read_settings({**needed, name: text}), name.removeprefix("AUTH_").lower())) == value
        assert plain(getattr(defaults, name.removeprefix("AUTH_").lower())) != value


def test_every_setting_is_used_by_the_service() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    unused = [name for name in Settings.model_fields if not re.search(rf"(settings|self)\.{name}\b", code)]
    assert not unused, f"settings that change nothing: {unused}"


def test_nothing_but_the_given_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_PORT", "1234")
    assert read_settings({}).port == 8081


def test_a_variable_in_small_letters_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("auth_port", "1234")
    assert read_settings().port == 8081


def test_other_variables_are_left_alone() -> None:
    assert read_settings({"PATH": "/bin", "AUTHOR": "me", "auth_port": "1", "OAUTH_X": "1"}) == read_settings({})


@pytest.mark.parametrize("name", ["AUTH_PROT", "AUTH_", "AUTH_port", "AUTH_PORT_FILE", "AUTH_TOKEN_KEYS", "AUTH_BATCH_ROWS"])
def test_an_unknown_variable_is_refused_by_name(name: str) -> None:
    assert f"{name} " in refusal({name: "1"})


@given(st.text(ascii_uppercase + "_", min_size=1, max_size=20).map("AUTH_".__add__))
def test_any_unknown_variable_is_refused_by_name(name: str) -> None:
    known = {f"AUTH_{field.upper()}" for field in Settings.model_fields} | {f"AUTH_{secret}_FILE" for secret in SECRETS}
    if name not in known:
        assert f"{name} " in refusal({name: "1"})


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    assert name in refusal({name: value})


@pytest.mark.parametrize(
    "value", ["redis://user:open-sesame℀@redis/0", "http://user:open-sesame@redis", "redis://user:open-sesame@[redis]/0"]
)
def test_a_refused_redis_url_does_not_show_its_password(value: str) -> None:
    sentence = refusal({"AUTH_REDIS_URL": value})
    assert "AUTH_REDIS_URL" in sentence
    assert "open-sesame" not in sentence


def test_both_ports_must_differ() -> None:
    sentence = refusal({"AUTH_PORT": "9081"})
    assert "AUTH_PORT" in sentence
    assert "AUTH_MANAGEMENT_PORT" in sentence


BAD_KEYS = [
    "",
    "short",
    "k3Vt9wQzX1pLr8sYbN5mHc2jDf7gAe4",
    KEY + KEY + "x",
    "ä" * 33,
    "a" * 32,
    "abcabcabcabcabcabcabcabcabcabcabc",
    "changeme-k3Vt9wQzX1pLr8sYbN5mHc2jDf7",
    "k3Vt9wQzX1pLr8sYbN-CHANGE-ME-5mHc2jDf7",
    "your-secret-key-k3Vt9wQzX1pLr8sYbN5m",
    "this-is-an-example-key-0123456789-abc",
    "insecure-k3Vt9wQzX1pLr8sYbN5mHc2jDf7",
]


@pytest.mark.parametrize("name", ["AUTH_TOKEN_KEY", "AUTH_TOKEN_KEY_ACCEPTED"])
@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_short_or_a_placeholder_is_refused_without_being_shown(name: str, key: str) -> None:
    sentence = refusal({"AUTH_TOKEN_KEY": OTHER_KEY, name: key})
    assert sentence.startswith(f"{name}: ")
    assert "make one with" in sentence
    assert not key or key not in sentence


@pytest.mark.parametrize("length", [32, 64])
def test_keys_of_the_shortest_and_the_longest_length_are_taken(length: int) -> None:
    key = (KEY + OTHER_KEY)[:length]
    assert read_settings({"AUTH_TOKEN_KEY": key}).issuing_key() == key.encode()


def test_equal_keys_are_refused_without_being_shown() -> None:
    sentence = refusal({"AUTH_TOKEN_KEY": KEY, "AUTH_TOKEN_KEY_ACCEPTED": KEY})
    assert "AUTH_TOKEN_KEY and AUTH_TOKEN_KEY_ACCEPTED" in sentence
    assert KEY not in sentence


def test_the_issuing_key_is_accepted_too_and_stands_first() -> None:
    settings = read_settings({"AUTH_TOKEN_KEY": KEY, "AUTH_TOKEN_KEY_ACCEPTED": OTHER_KEY})
    assert settings.issuing_key() == KEY.encode()
    assert settings.accepted_keys() == (KEY.encode(), OTHER_KEY.encode())
    assert read_settings({"AUTH_TOKEN_KEY": KEY}).accepted_keys() == (KEY.encode(),)


def test_a_missing_issuing_key_is_one_sentence_when_it_is_asked_for() -> None:
    with pytest.raises(OperatorError, match=r"AUTH_TOKEN_KEY .*is not set.*\.$"):
        read_settings({}).issuing_key()


def test_secrets_do_not_show_in_the_settings_own_text() -> None:
    settings = read_settings({"AUTH_TOKEN_KEY": KEY, "AUTH_TOKEN_KEY_ACCEPTED": OTHER_KEY, "AUTH_REDIS_PASSWORD": "open-sesame"})
    for secret in (KEY, OTHER_KEY, "open-sesame"):
        assert secret not in f"{settings!r} {settings}"


SECRET_VALUES = {
    "TOKEN_KEY": KEY,
    "TOKEN_KEY_ACCEPTED": OTHER_KEY,
    "ORACLE_WALLET_PASSWORD": "purse",
    "REDIS_PASSWORD": "open sesame",
    "MANAGEMENT_SECRET": "a-secret-of-sixteen",
}


def test_every_secret_may_come_from_a_file() -> None:
    secret = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    # The record store's password has a setting of its own for its file, which is read again.
    assert secret - {"RECORDS_PASSWORD"} == set(SECRETS) == set(SECRET_VALUES)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_its_file_without_the_line_end(name: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes((SECRET_VALUES[name] + end).encode())
    settings = read_settings({f"AUTH_{name}_FILE": str(file)})
    assert plain(getattr(settings, name.lower())) == SECRET_VALUES[name]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_file_that_cannot_be_read_is_refused_by_name(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        assert f"AUTH_{name}_FILE" in refusal({f"AUTH_{name}_FILE": str(path)})


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_file_that_is_no_text_is_refused_by_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"open-sesame\xff\xfe")
    sentence = refusal({f"AUTH_{name}_FILE": str(file)})
    assert f"AUTH_{name}_FILE" in sentence
    assert "open-sesame" not in sentence


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_given_twice_is_refused_without_being_shown(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET_VALUES[name])
    sentence = refusal({f"AUTH_{name}_FILE": str(file), f"AUTH_{name}": SECRET_VALUES[name]})
    assert f"AUTH_{name} and AUTH_{name}_FILE" in sentence
    assert SECRET_VALUES[name] not in sentence


def test_a_placeholder_in_a_file_is_refused_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("changeme\n")
    assert "AUTH_TOKEN_KEY: " in refusal({"AUTH_TOKEN_KEY_FILE": str(file)})


@pytest.mark.parametrize(("profile", "rows", "seconds"), [("balanced", 1000, 5.0), ("throughput", 2000, 10.0), ("latency", 500, 2.0)])
def test_a_profile_sets_the_batch_and_own_numbers_go_before_it(profile: str, rows: int, seconds: float) -> None:
    environ = {"AUTH_WRITER_PROFILE": profile}
    settings = read_settings(environ)
    assert (settings.batch_rows, settings.batch_seconds) == (rows, seconds) == PROFILES[profile]
    settings = read_settings({**environ, "AUTH_WRITER_BATCH_ROWS": "7"})
    assert (settings.batch_rows, settings.batch_seconds) == (7, seconds)
    settings = read_settings({**environ, "AUTH_WRITER_BATCH_SECONDS": "0.5"})
    assert (settings.batch_rows, settings.batch_seconds) == (rows, 0.5)


def test_the_default_profile_is_balanced() -> None:
    assert (read_settings({}).batch_rows, read_settings({}).batch_seconds) == PROFILES["balanced"]


def test_every_setting_has_a_description() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert "|" not in field.description, f"{name}: a bar ends a table's cell"


def test_the_page_of_the_settings_is_up_to_date() -> None:
    page = settings_table.PAGE
    assert page.is_file(), "docs/settings.md is missing: run scripts/generate-docs"
    assert page.read_text(encoding="utf-8") == settings_table.render(), "docs/settings.md is out of date: run scripts/generate-docs"


def test_the_page_of_the_settings_names_every_variable() -> None:
    page = settings_table.render()
    for name in Settings.model_fields:
        assert f"| `AUTH_{name.upper()}`" in page
    for secret in SECRETS:
        assert f"`AUTH_{secret}_FILE`" in page
