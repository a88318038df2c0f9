"""Oracle over TCPS, with wallets: a proxy in front of the database ends TLS, as the database's own listener does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from authsvc.errors import OperatorError
from authsvc.records.oracle_pool import try_to_connect
from authsvc.records.oracle_settings import PoolSettings
from certificates import Authority, Identity
from contract.record_stores import NEEDS_FAULTS, NEEDS_ORACLE, ORACLE_WAYS, OracleDatabase, OracleFaults
from contract.redis_wires import tls_relay
from servers import TOKEN_KEY, RedisServer, ServiceProcess, free_port, running, wait_until
from service.command_line import CommandLine
from service.test_writer import add_all, issued, not_ready_because, waiting

pytestmark = [pytest.mark.oracle, NEEDS_ORACLE, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]
OURS, OTHERS = Authority("ours"), Authority("others")
SERVER = OURS.identity("database", "localhost")
PURSE = "purse-of-the-test"
UNTRUSTED = "shows a certificate that is not trusted: put its authority's into ewallet.pem in AUTH_ORACLE_CONFIG_DIR, or have it renewed."
ANOTHER_HOST = "shows a certificate for another host: name in AUTH_RECORDS_URL or tnsnames.ora the host that it is for. (DPY-6006)"


def tls_in_front(
    database: OracleDatabase, folder: Path, server: Identity = SERVER, *, asks_for: Authority | None = None
) -> AbstractContextManager[int]:
    """A port on which `server` speaks TLS for the database; clients must show a certificate of `asks_for`, if any."""
    return tls_relay(database.port, folder, server, target_host=database.host, asks_for=asks_for)


def wallet(folder: Path, *parts: bytes) -> Path:
    """A folder whose wallet has these parts."""
    folder.mkdir(exist_ok=True)
    (folder / "ewallet.pem").write_bytes(b"".join(parts))
    return folder


def wallet_with_key(folder: Path) -> Path:
    """A wallet for mutual TLS, whose key has a password."""
    client = OURS.identity("writer")
    return wallet(folder, client.key_text(PURSE), client.certificate, OURS.certificate)


def address(database: OracleDatabase, port: int, host: str = "localhost") -> str:
    """The database over TCPS, without the password."""
    return f"oracle://{database.user}@tcps://{host}:{port}/{database.dsn.partition('/')[2]}"


@pytest.fixture(autouse=True)
def left_behind() -> Iterator[None]:
    """A loop that ends at once does not close what could not connect; that is for the garbage collection of this test."""
    yield
    gc.collect()


@pytest.fixture(params=ORACLE_WAYS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> OracleDatabase:
    """A database, and the way to call the driver."""
    made: OracleDatabase = request.param(tmp_path / "database")
    return made


def connect(database: OracleDatabase, port: int, folder: Path | None = None, host: str = "localhost", purse: str | None = None) -> None:
    """Log on once over TCPS."""
    levers = PoolSettings(
        password=database.password, config_dir=folder, wallet_password=purse, in_threads=database.in_threads, wait_timeout=10
    )
    asyncio.run(try_to_connect(address(database, port, host), levers))


def refused(database: OracleDatabase, port: int, folder: Path | None = None, host: str = "localhost", purse: str | None = None) -> str:
    """The sentence of a logon that fails."""
    with pytest.raises(OperatorError) as raised:
        connect(database, port, folder, host, purse)
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert database.password not in sentence.replace(database.user, "")
    assert PURSE not in sentence
    return sentence


# What connects


def test_a_private_authority_is_trusted_by_the_wallet(database: OracleDatabase, tmp_path: Path) -> None:
    with tls_in_front(database, tmp_path) as port:
        connect(database, port, wallet(tmp_path / "wallet", OURS.certificate))


def test_a_name_of_tnsnames_ora_leads_to_tcps(database: OracleDatabase, tmp_path: Path) -> None:
    folder = wallet(tmp_path / "wallet", OURS.certificate)
    with tls_in_front(database, tmp_path) as port:
        (folder / "tnsnames.ora").write_text(
            f"secure = (DESCRIPTION=(ADDRESS=(PROTOCOL=tcps)(HOST=localhost)(PORT={port}))"
            f"(CONNECT_DATA=(SERVICE_NAME={database.dsn.partition('/')[2]})))\n"
        )
        levers = PoolSettings(password=database.password, config_dir=folder, in_threads=database.in_threads)
        asyncio.run(try_to_connect(f"oracle://{database.user}@secure", levers))


def test_mutual_tls_by_a_key_with_a_password(database: OracleDatabase, tmp_path: Path) -> None:
    with tls_in_front(database, tmp_path, asks_for=OURS) as port:
        connect(database, port, wallet_with_key(tmp_path / "wallet"), purse=PURSE)


def test_a_wallet_that_is_mended_is_read_again(database: OracleDatabase, tmp_path: Path) -> None:
    folder = wallet(tmp_path / "wallet", OTHERS.certificate)
    with tls_in_front(database, tmp_path) as port:
        assert UNTRUSTED in refused(database, port, folder)
        connect(database, port, wallet(folder, OURS.certificate))


# What does not, and the sentence for it


def test_a_certificate_that_nobody_vouches_for(database: OracleDatabase, tmp_path: Path) -> None:
    with tls_in_front(database, tmp_path) as port:
        for folder in (None, wallet(tmp_path / "wallet", OTHERS.certificate)):
            assert refused(database, port, folder).endswith(f"{UNTRUSTED} (unable to get local issuer certificate)")


def test_a_certificate_that_is_over(database: OracleDatabase, tmp_path: Path) -> None:
    with tls_in_front(database, tmp_path, OURS.identity("database", "localhost", days=-1)) as port:
        said = refused(database, port, wallet(tmp_path / "wallet", OURS.certificate))
    assert said.endswith(f"{UNTRUSTED} (certificate has expired)")


def test_a_certificate_for_another_host(database: OracleDatabase, tmp_path: Path) -> None:
    folder = wallet(tmp_path / "wallet", OURS.certificate)
    with tls_in_front(database, tmp_path, OURS.identity("elsewhere", "elsewhere.internal")) as port:
        assert refused(database, port, folder).endswith(ANOTHER_HOST)
    with tls_in_front(database, tmp_path) as port:
        assert refused(database, port, folder, host="127.0.0.1").endswith(ANOTHER_HOST)


@pytest.mark.parametrize("purse", [None, "another-purse"])
def test_a_wallet_whose_key_cannot_be_opened(database: OracleDatabase, tmp_path: Path, purse: str | None) -> None:
    """The driver would ask the terminal for the password, or leave the key out."""
    folder = wallet_with_key(tmp_path / "wallet")
    said = refused(database, free_port(), folder, purse=purse)
    assert said.startswith(f"The wallet {folder / 'ewallet.pem'} cannot be used: it must hold certificates, and a key that ")
    assert "AUTH_ORACLE_WALLET_PASSWORD opens" in said


@pytest.mark.parametrize("text", [b"", b"no certificate"])
def test_a_wallet_that_holds_nothing(database: OracleDatabase, tmp_path: Path, text: bytes) -> None:
    assert "no certificate or crl found" in refused(database, free_port(), wallet(tmp_path / "wallet", text))


def test_a_database_that_asks_for_a_certificate_of_ours_where_there_is_none(database: OracleDatabase, tmp_path: Path) -> None:
    """The database refuses after the handshake, and whether the driver reads why before the end is a matter of chance."""
    with tls_in_front(database, tmp_path, asks_for=OURS) as port:
        said = refused(database, port, wallet(tmp_path / "wallet", OURS.certificate))
    assert re.search(r"cannot be reached \(DPY-6005: .*(certificate required|closed the connection)", said)


def test_a_connection_that_fails_is_told_with_its_cause(database: OracleDatabase) -> None:
    assert "cannot be reached (DPY-6005: [Errno 111] Conn" in refused(database, free_port())
    assert "cannot be reached ([Errno " in refused(database, free_port(), host="nowhere.invalid")


# Processes


def names(database: OracleDatabase) -> set[object]:
    """The names of all tokens that have a row."""
    return {name for (name,) in database.plain_sql("SELECT jti FROM tokens")}


@NEEDS_FAULTS
@pytest.mark.parametrize("mutual", [False, True], ids=["TLS", "mutual TLS"])
def test_a_writer_writes_over_tcps_and_says_what_is_wrong_with_a_certificate(
    tmp_path: Path, redis_server: RedisServer, mutual: bool
) -> None:
    database = OracleDatabase(tmp_path / "database")
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(tls_in_front(database, tmp_path, asks_for=OURS if mutual else None))
        folder = wallet_with_key(tmp_path / "wallet") if mutual else wallet(tmp_path / "wallet", OURS.certificate)
        (tmp_path / "purse").write_text(f"{PURSE}\n")
        settings = {
            "records_url": address(database, port),
            "records_password": database.password,
            "oracle_config_dir": str(folder),
            "redis_url": redis_server.url,
            **({"oracle_wallet_password_file": str(tmp_path / "purse")} if mutual else {}),
        }
        commands = CommandLine(tmp_path, {"AUTH_TOKEN_KEY": TOKEN_KEY, **{f"AUTH_{name.upper()}": text for name, text in settings.items()}})
        stack.callback(commands.close)
        assert commands.good("migrate") == "The schema is up to date.\n"
        writer = ServiceProcess(tmp_path, "write", writer_batch_seconds=0.1, mirror_interval_seconds=0.2, **settings).start()
        stack.enter_context(running(writer))
        writer.wait_ready()
        first, second = issued(200, seed=1), issued(50, seed=2)
        add_all(redis_server, first)
        wait_until(lambda: waiting(redis_server) == 0, "all is written")
        assert names(database) == first.rows.keys()
        assert "opened, read and written" in commands.run("check").stdout
        # New sessions read the wallet anew; those that are open must first be lost.
        good = (folder / "ewallet.pem").read_bytes()
        wallet(folder, OTHERS.certificate)
        OracleFaults().ask("fault/drop")
        assert UNTRUSTED in commands.refused("migrate")
        add_all(redis_server, second)
        wait_until(lambda: UNTRUSTED in not_ready_because(writer), "the writer says what is wrong")
        wallet(folder, good)
        writer.wait_ready()
        wait_until(lambda: waiting(redis_server) == 0, "all is written")
        assert names(database) == first.rows.keys() | second.rows.keys()
        assert PURSE not in writer.log_file.read_text()
