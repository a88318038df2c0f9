"""How Oracle is reached: its address, the levers of the pool and the budget they must fit, password, wallet, client libraries."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import oracledb

from authsvc.errors import OperatorError

SESSIONS_BESIDE = 2
"""Sessions of a writer beside its workers': for clients, marks and purges."""
SHAPE = "The address of an Oracle database is oracle://USER@HOST:PORT/SERVICE, or oracle://USER@ALIAS for a name in tnsnames.ora."


@dataclass(frozen=True)
class PoolSettings:
    """The levers, in seconds, by the names that `oracledb.create_pool` has for them (https://python-oracledb.readthedocs.io)."""

    # The original guide's numbers beside ours; docs/oracle.md says why they differ.
    max: int = 4  # 1000 to 2000 open
    min: int = 1  # 500 to 1000 idle
    max_lifetime_session: int = 1800  # 15 to 30
    timeout: int = 300  # 300 to 600
    """Idle sessions are closed after this."""
    wait_timeout: float = 5.0
    """Longest wait for a session of the pool."""
    ping_interval: int = -1
    """Never by default: the driver tells a timeout to what it pings, and to a session that was cut that is a crash (SIGSEGV)."""
    stmtcachesize: int = 40
    call_timeout: float = 30.0
    password: str | None = None
    password_file: Path | None = None
    config_dir: Path | None = None
    """Holds tnsnames.ora and the wallet (TNS_ADMIN)."""
    wallet_password: str | None = None
    session_limit: int | None = None
    session_reserve: int = 10
    writers: int = 1
    workers: int = 2
    """Of one writer; each has a session while it writes."""
    thick_mode: bool = False
    in_threads: bool = False
    """Thick mode's way of calling the driver; tests go it in thin mode, too."""


@dataclass(frozen=True)
class Address:
    """Which database, as whom."""

    user: str
    dsn: str
    password: str | None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `oracle://USER[:PASSWORD]@DSN`; OperatorError if it is none."""
        try:
            parts = urlsplit(url)
            dsn = parts.netloc.rpartition("@")[2] + parts.path
        except ValueError as error:
            raise OperatorError(SHAPE) from error
        if parts.scheme != "oracle" or not parts.username or not dsn or parts.query or parts.fragment:
            raise OperatorError(SHAPE)
        return cls(unquote(parts.username), dsn, unquote(parts.password) if parts.password else None)


def check_budget(settings: PoolSettings, limit: int | None, whose: str) -> None:
    """OperatorError with the sum written out when the pools of all writers do not fit into this limit."""
    if settings.workers + SESSIONS_BESIDE > settings.max:
        raise OperatorError(
            f"A writer of {settings.workers} workers takes {settings.workers + SESSIONS_BESIDE} sessions, but AUTH_ORACLE_POOL_MAX is"
            f" {settings.max}: raise it, or lower AUTH_WRITER_WORKERS."
        )
    needed = settings.writers * settings.max + settings.session_reserve
    if limit is not None and needed > limit:
        raise OperatorError(
            f"{settings.writers} writers x {settings.max} sessions + {settings.session_reserve} in reserve = {needed} sessions, but"
            f" {whose} allows {limit}: lower AUTH_ORACLE_POOL_MAX, AUTH_ORACLE_WRITERS or AUTH_ORACLE_SESSION_RESERVE, or raise the limit."
        )


def connect_once(address: Address, settings: PoolSettings) -> oracledb.Connection:
    """One session outside any pool, for a command that ends. Whoever takes it has made sure that the database answers."""
    load_client_libraries(settings)
    return oracledb.connect(**how_to_connect(address, settings, read_password(address, settings)))


def load_client_libraries(settings: PoolSettings) -> None:
    """Put the driver into thick mode where that is set; OperatorError if it cannot be."""
    if settings.thick_mode and oracledb.is_thin_mode():
        try:
            oracledb.init_oracle_client(config_dir=str(settings.config_dir) if settings.config_dir else None)
        except oracledb.Error as error:
            # What follows the first line is an address of the driver's help.
            said = str(error).partition("\n")[0].partition(". See ")[0].rstrip(".")
            raise OperatorError(
                "AUTH_ORACLE_THICK_MODE is set, but Oracle's client libraries cannot be loaded: install Oracle Instant Client where the"
                f" loader finds it, or unset the setting. ({said})"
            ) from error


def how_to_connect(address: Address, settings: PoolSettings, password: str | None) -> dict[str, Any]:
    """What the driver is told of the way to the database. A wallet is looked for only where one is."""
    folder = str(settings.config_dir) if settings.config_dir else None
    file = "cwallet.sso" if settings.thick_mode else "ewallet.pem"
    wallet = settings.config_dir is not None and (settings.config_dir / file).exists()
    if wallet and settings.config_dir is not None and not settings.thick_mode:
        _check_wallet(settings.config_dir / file, settings.wallet_password)
    return {
        "user": address.user,
        "password": password,
        "dsn": address.dsn,
        "tcp_connect_timeout": settings.wait_timeout,
        "config_dir": folder,
        "wallet_location": folder if wallet else None,
        "wallet_password": settings.wallet_password,
    }


def _check_wallet(file: Path, password: str | None) -> None:
    """The driver asks the terminal for a password that it lacks, and leaves out a key for which it has a wrong one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
        if b"PRIVATE KEY" in file.read_bytes():
            context.load_cert_chain(file, password=lambda: password or "")
    except ssl.SSLError as error:
        raise OperatorError(
            f"The wallet {file} cannot be used: it must hold certificates, and a key that AUTH_ORACLE_WALLET_PASSWORD opens. ({error})"
        ) from error
    except OSError as error:
        raise OperatorError(f"The wallet {file} cannot be read: {error}.") from error


def read_password(address: Address, settings: PoolSettings) -> str | None:
    """The password as it is now; OperatorError if its file cannot be read."""
    file = settings.password_file
    if file is None:
        return settings.password or address.password
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"AUTH_RECORDS_PASSWORD_FILE {file} cannot be read: {error}.") from error
