"""Settings: every `AUTH_*` variable, read once at the start and refused with one sentence when unknown or bad."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import DirectoryPath, Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from authsvc.errors import OperatorError

PREFIX = "AUTH_"
SECRETS = ("TOKEN_KEY", "TOKEN_KEY_ACCEPTED", "REDIS_PASSWORD", "ORACLE_WALLET_PASSWORD", "MANAGEMENT_SECRET")
"""Settings that may come from a file named by `AUTH_<NAME>_FILE` instead."""
PLACEHOLDER_WORDS = ("changeme", "change-me", "change_me", "placeholder", "example", "your-", "your_", "insecure")
PROFILES = {"balanced": (1000, 5.0), "throughput": (2000, 10.0), "latency": (500, 2.0)}
"""Writer profiles: rows of a batch, and the seconds after which a smaller one is written."""
LevelName = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """What an operator may set. The variable is the field's name in capitals with the prefix `AUTH_`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    issuer: str = Field("http://127.0.0.1:8080", description="Base URL that clients use; `issuer` of the discovery document (RFC 8414).")
    host: str = Field("127.0.0.1", description="Address of the public socket.")
    port: int = Field(8081, ge=1, le=65535, description="Port of the public socket.")
    management_host: str = Field("127.0.0.1", description="Address of the management socket.")
    management_port: int = Field(
        9081, ge=1, le=65535, description="Port of the management socket: `/live`, `/ready`, `/metrics`. Not to be exposed."
    )
    workers: int | Literal["auto"] = Field(
        1, description="Worker processes of one instance, or `auto`: one for each CPU of the cgroup's limit."
    )

    token_key: SecretStr | None = Field(
        None, description="Key that issues tokens and is accepted: 32 to 64 random characters, the same everywhere."
    )
    token_key_accepted: SecretStr | None = Field(None, description="One more key that is only accepted, for rotation.")

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="The shared store, `redis://` or `rediss://`, with an optional user and database number."
    )
    redis_mode: Literal["single", "cluster"] = Field(
        "single", description="`cluster`: `AUTH_REDIS_URL` leads to any node of a Redis Cluster, as in docs/redis-cluster.md."
    )
    redis_password: SecretStr | None = Field(None, description="Password for Redis, when it is not part of the URL.")
    redis_timeout_ms: int = Field(
        1000, ge=50, le=60000, description="A request that Redis has not answered after this long is refused with 503."
    )
    redis_ca_file: FilePath | None = Field(None, description="CA bundle for `rediss://`, instead of the system's.")

    ready_grace_seconds: float = Field(2.0, ge=0, le=60, description="`/ready` turns 503 once Redis has been out of reach for this long.")
    drain_seconds: float = Field(5.0, ge=0, le=300, description="How long a stopping instance goes on listening with `/ready` red.")
    max_in_flight: int = Field(1000, ge=1, le=100000, description="Requests that one worker works on at once; more wait for their turn.")
    queue_wait_ms: int = Field(
        100, ge=1, le=10000, description="Longest that a request waits for its turn; then it is refused with 429 `slow_down`."
    )
    backlog_limit: int | None = Field(
        None,
        ge=1,
        description="Entries not yet in the record store at which `/token` and `/ott` answer 429. By default a quarter of Redis's "
        "memory (`maxmemory`, else the machine's) at 256 bytes an entry: a million entries a GiB, or 17 minutes of database outage "
        "at 1000 tokens a second.",
    )
    fast_lane: bool = Field(
        True,
        description="Answer plain requests to the hot endpoints inside the HTTP protocol; `false` sends all through ASGI, which is slower.",
    )
    keep_alive_seconds: int = Field(
        75, ge=1, le=3600, description="How long an idle client connection stays open; longer than the balancer's."
    )

    proxy_protocol: bool = Field(
        False,
        description="Every connection to the public socket begins with a PROXY header, version 1 or 2, that names the caller; others are "
        "closed. For a balancer that passes on connections, and only if nobody gets past it.",
    )

    records_url: str = Field(
        "sqlite:///records.db",
        description="The record store: `sqlite:///PATH` (embedded), or Oracle: `oracle://USER@HOST:PORT/SERVICE`, or "
        "`oracle://USER@ALIAS` for a name in `tnsnames.ora`.",
    )
    records_password: SecretStr | None = Field(None, description="Password for Oracle.")
    records_password_file: FilePath | None = Field(
        None, description="File with the password for Oracle, instead; read again when the database refuses the one that was read."
    )
    oracle_config_dir: DirectoryPath | None = Field(
        None, description="Folder with `tnsnames.ora` and the wallet (`ewallet.pem`) for TCPS; what others call `TNS_ADMIN`."
    )
    oracle_wallet_password: SecretStr | None = Field(None, description="Password of the wallet's `ewallet.pem`, for mutual TLS.")
    oracle_pool_max: int = Field(
        4, ge=2, le=1000, description="Most sessions of one writer: its workers, and two for all else that it does."
    )
    oracle_pool_min: int = Field(1, ge=0, le=1000, description="Sessions that stay open when nothing is to do.")
    oracle_max_lifetime_session_seconds: int = Field(1800, ge=0, le=86400, description="A session is replaced after this long; 0: never.")
    oracle_timeout_seconds: int = Field(300, ge=0, le=86400, description="An idle session is closed after this long; 0: never.")
    oracle_wait_timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="Longest wait for a session of the pool, and for the database to accept a connection."
    )
    oracle_ping_interval_seconds: int = Field(
        -1, ge=-1, le=3600, description="In thick mode a session that was idle this long is tried before it is used; -1: none is."
    )
    oracle_statement_cache_size: int = Field(40, ge=0, le=1000, description="Statements that a session keeps parsed.")
    oracle_session_limit: int | None = Field(
        None, ge=1, description="Sessions that the database may give to this service: a writer that could need more does not start."
    )
    oracle_session_reserve: int = Field(10, ge=0, le=1000, description="Of that limit, sessions kept for migrations, commands and people.")
    oracle_writers: int = Field(1, ge=1, le=100, description="How many writers run, for that sum.")
    oracle_thick_mode: bool = Field(
        False,
        description="Use Oracle's client libraries, which must be installed: Native Network Encryption and `cwallet.sso` need them. For "
        "writers and all commands.",
    )
    writer_profile: Literal["balanced", "throughput", "latency"] = Field(
        "balanced", description="Batch of the writer: 1000 rows or 5 s, 2000 or 10 s, 500 or 2 s."
    )
    writer_batch_rows: int | None = Field(None, ge=1, le=50000, description="Rows of a batch, instead of the profile's.")
    writer_batch_seconds: float | None = Field(
        None, gt=0, le=300, description="Seconds after which a smaller batch is written, instead of the profile's."
    )
    writer_workers: int = Field(2, ge=1, le=16, description="Workers of one writer; each drains its share of the 16 streams.")
    writer_call_timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=600,
        description="Longest time of one call to the record store; a lost writer's entries are claimed after this and the batch wait.",
    )
    mirror_interval_seconds: float = Field(
        2.0, gt=0, le=9, description="How often the writer compares the clients of the record store with their mirror in Redis."
    )
    clients_file: Path | None = Field(
        None,
        description="File with clients as `authsvc client export` prints them: the writer adds those that are missing and changes those "
        "that differ, at its start and whenever the file changed; their tokens go on. See docs/design.md.",
    )
    retention_days: float = Field(90.0, gt=0, description="Records are kept this long after their token expired.")
    purge_interval_seconds: float = Field(3600.0, gt=0, description="How often expired records are looked for.")

    operator: str | None = Field(
        None, min_length=1, max_length=200, description="Who works with commands, for the record of changes; by default the user and host."
    )
    log_level: LevelName = Field("info", description="Lowest level that is logged.")
    management_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="Who knows it may ask the management port for a profile or for another log level for a while; by default nobody may.",
    )
    access_log: bool = Field(
        False,
        description="Log a line, of level info, for each request that is refused, and for some of the others; at level debug, for all, "
        "whatever is set here. See docs/observability.md.",
    )
    access_log_success_share: float = Field(0.01, ge=0, le=1, description="The share of answers that are no refusals in the access log.")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what `read_settings` hands over: it alone reads the environment."""
        return (init_settings,)

    @field_validator("token_key", "token_key_accepted")
    @classmethod
    def _strong(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        problem = key_problem(key.get_secret_value())
        if problem:
            raise ValueError(f"{problem}; make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'")
        return key

    @field_validator("workers")
    @classmethod
    def _worker_count(cls, workers: int | str) -> int | str:
        if isinstance(workers, int) and not 1 <= workers <= 64:
            raise ValueError("must be 1 to 64, or auto")
        return workers

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, url: str) -> str:
        # urlsplit's own words may quote the password.
        if not _is_url(url, "redis", "rediss"):
            raise ValueError("must look like redis://HOST:PORT/DB or rediss://HOST:PORT/DB")
        if not re.fullmatch(r"/?[0-9]*", urlsplit(url).path):
            raise ValueError("must end in a database number, such as /0")
        return url

    @field_validator("issuer")
    @classmethod
    def _issuer_url(cls, issuer: str) -> str:
        if not _is_url(issuer, "http", "https"):
            raise ValueError("must be an http or https URL without query or fragment")
        return issuer.rstrip("/")

    @field_validator("records_url")
    @classmethod
    def _records_scheme(cls, url: str) -> str:
        embedded = url.startswith("sqlite:///") and url != "sqlite:///"
        if not embedded and not re.fullmatch(r"oracle://[^@/?#\s]+@[^@?#\s]+", url):
            raise ValueError("must look like sqlite:///PATH or oracle://USER@HOST:PORT/SERVICE")
        return url

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.token_key and self.token_key_accepted and self.token_key.get_secret_value() == self.token_key_accepted.get_secret_value():
            raise ValueError("AUTH_TOKEN_KEY and AUTH_TOKEN_KEY_ACCEPTED are the same key")
        if self.records_password is not None and self.records_password_file is not None:
            raise ValueError("AUTH_RECORDS_PASSWORD and AUTH_RECORDS_PASSWORD_FILE are both set: set one")
        if self.redis_mode == "cluster" and int(urlsplit(self.redis_url).path.strip("/") or 0):
            raise ValueError("AUTH_REDIS_URL names a database, and a Redis Cluster has only database 0")
        if self.oracle_ping_interval_seconds >= 0 and not self.oracle_thick_mode:
            raise ValueError("AUTH_ORACLE_PING_INTERVAL_SECONDS needs AUTH_ORACLE_THICK_MODE: thin mode's pings crash (oracledb 26.1)")
        if self.oracle_pool_min > self.oracle_pool_max:
            raise ValueError("AUTH_ORACLE_POOL_MIN is above AUTH_ORACLE_POOL_MAX")
        if self.port == self.management_port:
            raise ValueError("AUTH_PORT and AUTH_MANAGEMENT_PORT must differ")
        return self

    @property
    def batch_rows(self) -> int:
        """Rows of a writer's batch."""
        return self.writer_batch_rows or PROFILES[self.writer_profile][0]

    @property
    def batch_seconds(self) -> float:
        """Seconds after which a writer's smaller batch is written."""
        return self.writer_batch_seconds or PROFILES[self.writer_profile][1]

    def issuing_key(self) -> bytes:
        """The key that issues; OperatorError if it is missing."""
        if self.token_key is None:
            raise OperatorError("AUTH_TOKEN_KEY (or AUTH_TOKEN_KEY_FILE) is not set: every instance needs the same key.")
        return self.token_key.get_secret_value().encode()

    def accepted_keys(self) -> tuple[bytes, ...]:
        """The keys whose tokens are accepted, the issuing one first."""
        more = (self.token_key_accepted.get_secret_value().encode(),) if self.token_key_accepted else ()
        return (self.issuing_key(), *more)


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check all `AUTH_*` variables; OperatorError with one sentence naming the first that is wrong."""
    environ = os.environ if environ is None else environ
    values = {name.removeprefix(PREFIX): value for name, value in environ.items() if name.startswith(PREFIX)}
    for name in SECRETS:
        path = values.pop(f"{name}_FILE", None)
        if path is None:
            continue
        if name in values:
            raise OperatorError(f"{PREFIX}{name} and {PREFIX}{name}_FILE are both set: set one.")
        try:
            values[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(f"{PREFIX}{name}_FILE cannot be read: {error}.") from error
    known = {name.upper() for name in Settings.model_fields}
    for name in values:
        if name not in known:
            raise OperatorError(f"{PREFIX}{name} is not a setting of this service: see docs/settings.md.")
    try:
        return Settings.model_validate({name.lower(): value for name, value in values.items()})
    except ValidationError as error:
        raise OperatorError(_sentence(error)) from None


def key_problem(key: str) -> str | None:
    """Why this may be no token key; None if it may."""
    if not 32 <= len(key.encode()) <= 64:
        return "must be 32 to 64 bytes long"
    if len(set(key)) < 12 or any(word in key.lower() for word in PLACEHOLDER_WORDS):
        return "looks like a placeholder"
    return None


def _is_url(text: str, *schemes: str) -> bool:
    """Whether it is a URL of one of these schemes with a host, a port if any, and no query or fragment."""
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        return False


def _sentence(error: ValidationError) -> str:
    """One sentence for the operator that names the variable but never shows a secret's value."""
    first = error.errors(include_url=False, include_input=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"{reason}."
    return f"{PREFIX}{str(first['loc'][0]).upper()}: {reason}."
