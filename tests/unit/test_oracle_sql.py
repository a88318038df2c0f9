"""What is sent to Oracle, judged without one: its SQL by a second parser, its errors, its address and the sum of its sessions."""

from __future__ import annotations

import re
from pathlib import Path

import oracledb
import pytest
from sqlalchemy.dialects.oracle.base import RESERVED_WORDS
from sqlglot import ErrorLevel, ParseError, exp, parse

from authsvc.errors import OperatorError, RecordRefused, RecordsUnavailable
from authsvc.records import migrate, oracle_sql
from authsvc.records.oracle_errors import NAME_TAKEN, RACES, REFUSED_ROW, TELL, WAIT, code_of, driver_errors, translated
from authsvc.records.oracle_settings import SHAPE, Address, PoolSettings, check_budget, how_to_connect
from authsvc.records.schema import METADATA
from certificates import Authority

FRAGMENTS = {"NOW", "CHANGE_COLUMNS", "CLIENT_COLUMNS", "RECORD_COLUMNS"}
"""Texts that are parts of statements."""
STATEMENTS = {name: text for name, text in vars(oracle_sql).items() if name.isupper() and isinstance(text, str) and name not in FRAGMENTS}
SCHEMA = [text.strip() for text in migrate.sql("oracle://user@host/service").split("\n/\n") if text.strip()]
UNPARSED = "sqlglot takes a trigger for a command of which it knows nothing; the statements in it are judged one by one"
ONLY_ORACLE_PARSES = {
    "clients_draw_at_insert": UNPARSED,
    "clients_draw_at_update": UNPARSED,
    "clients_keep_id": UNPARSED,
    "clients_drop_tombstone": UNPARSED,
    "clients_leave_tombstone": UNPARSED,
    "clients_note_change": UNPARSED,
}
OF_THE_SESSION = "ALTER SESSION SET DDL_LOCK_TIMEOUT = 60"
"""No statement that sqlglot knows."""
ELSEWHERE = {
    "dual": set(),
    "v$parameter": {"name", "value"},
    "alembic_version": {"version_num"},
    "client_sequence": {"nextval"},
    "client_change_sequence": {"nextval"},
}
"""Names that are not of our tables."""
TABLES = {table.name: {column.name for column in table.columns} for table in METADATA.sorted_tables} | ELSEWHERE
NOT_ORACLES = (exp.Command, exp.Limit, exp.OnConflict, exp.Boolean)
FUNCTIONS = {
    *("AND", "CASE", "COALESCE", "GREATEST", "IF", "LEAST", "LENGTH", "LOWER", "MAX", "OR"),
    *(
        "NUMTODSINTERVAL",
        "RAWTOHEX",
        "SUBSTRING",
        "SYS_CONTEXT",
        "TIME_TO_STR",
        "TO_CHAR",
        "TO_NUMBER",
        "SYSTIMESTAMP",
        "SYS_EXTRACT_UTC",
        "SYS_GUID",
    ),
}
"""What sqlglot holds for functions; NVL is COALESCE to it."""
RESERVED = {word.lower() for word in RESERVED_WORDS}


def parsed(text: str) -> exp.Expression:
    """The one statement that the text is. sqlglot reads named binds only, so `:1` becomes `:bind1`, as does `:NEW.epoch`."""
    named = re.sub(r":(NEW|OLD)\.(\w+)", r":\1_\2", re.sub(r":(\d+)", r":bind\1", text.replace("%(ids)s", ":1, :2")))
    [statement] = parse(named, read="oracle", error_level=ErrorLevel.RAISE)
    assert statement is not None
    return statement


def judge(text: str) -> None:
    """Fail for what Oracle does not have, and for tables and columns that the schema does not have."""
    statement = parsed(text)
    assert not [part.sql(dialect="oracle") for part in statement.find_all(*NOT_ORACLES)]
    functions = {part.name if isinstance(part, exp.Anonymous) else part.sql_name() for part in statement.find_all(exp.Func)}
    assert {name.upper() for name in functions} <= FUNCTIONS
    tables = {table.name.lower() for table in statement.find_all(exp.Table)} - {""}
    if not isinstance(statement, exp.Create):
        assert tables <= TABLES.keys()
        made = {alias.alias.lower() for alias in statement.find_all(exp.Alias)}
        columns = set().union(*(TABLES[table] for table in tables), made, {"rownum", "nextval"})
        assert {column.name.lower() for column in statement.find_all(exp.Column)} <= columns
    names = {identifier.name.lower() for identifier in statement.find_all(exp.Identifier)} - {"rownum"}
    assert not names & RESERVED


def statements_within(trigger: str) -> list[str]:
    """What a trigger does, each as a statement by itself; an assignment as a query for its value."""
    body = re.search(r"\bBEGIN\b(.*)\bEND;\s*$", trigger, re.DOTALL)
    assert body is not None
    parts = [part.strip() for part in body[1].split(";") if part.strip()]
    return [re.sub(r"^:NEW\.\w+ := (.*)$", r"SELECT \1 FROM dual", part, flags=re.DOTALL) for part in parts]


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_second_judge_takes_each_statement(name: str) -> None:
    judge(STATEMENTS[name])


@pytest.mark.parametrize("text", SCHEMA, ids=lambda text: " ".join(re.sub("--.*", "", text).split()[:6]))
def test_a_second_judge_takes_the_schema(text: str) -> None:
    trigger = re.match(r"CREATE OR REPLACE TRIGGER (\w+) ", text)
    if trigger is None:
        if not text.endswith(OF_THE_SESSION):
            judge(text)
        return
    assert ONLY_ORACLE_PARSES[trigger[1]]
    for statement in statements_within(text):
        judge(statement)


def test_every_exemption_is_of_a_trigger_that_is_there() -> None:
    assert set(re.findall(r"TRIGGER (\w+)", "\n".join(SCHEMA))) == ONLY_ORACLE_PARSES.keys()


def test_no_name_is_a_reserved_word_or_too_long_for_any_release() -> None:
    names = [*TABLES, *(name for names in TABLES.values() for name in names), *ONLY_ORACLE_PARSES]
    names += [str(index.name) for table in METADATA.tables.values() for index in table.indexes]
    names += [str(constraint.name) for table in METADATA.tables.values() for constraint in table.constraints if constraint.name]
    assert not {name.lower() for name in names} & RESERVED
    assert max(map(len, names)) <= 30


@pytest.mark.parametrize("text", SCHEMA, ids=range(len(SCHEMA)))
def test_what_a_dba_runs_is_what_sqlplus_takes(text: str) -> None:
    assert not re.search(r"&|:(?!NEW\b|OLD\b|=)\w", text), "SQL*Plus would ask for a value, or refuse"
    assert "\n\n" not in re.sub(r"^-- .*\n\n", "", text), "an empty line ends a statement in SQL*Plus"
    assert text.endswith(";") == text.startswith("CREATE OR REPLACE TRIGGER")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT jti FROM tokens LIMIT 1", "SELECT jtl FROM tokens WHERE jti = :1", "SELECT jti FROM token", "SELEC jti FROM tokens",
        "INSERT INTO store (identity) VALUES (:1) ON CONFLICT DO NOTHING", "SELECT HEX(jti) FROM tokens",
        "UPDATE clients SET enabled = TRUE", "SELECT NOW() FROM dual", "SELECT jti size FROM tokens",
        "SELECT jti FROM tokens; SELECT jti FROM tokens", "CREATE TABLE t (level NUMBER(1))",
    ],
)  # fmt: skip
def test_the_judge_refuses_what_oracle_would(text: str) -> None:
    with pytest.raises((AssertionError, ParseError, ValueError)):
        judge(text)


# Errors


def error(code: str) -> oracledb.DatabaseError:
    """An error of the driver as it raises it."""

    class Details:
        full_code = code

    return oracledb.DatabaseError(Details())


def kind(code: str) -> type[OperatorError]:
    said = translated(error(code), "app@db/SERVICE")
    assert re.fullmatch(r"[A-Z][^\n]*\S", str(said))
    assert str(said).count(code) == 1
    assert str(said).startswith("The record store app@db/SERVICE ") or code in REFUSED_ROW
    return type(said)


def test_every_code_is_in_one_table() -> None:
    tables = (RACES, WAIT.keys(), REFUSED_ROW, TELL.keys())
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert all(re.fullmatch(r"(ORA-\d{5}|DPY-\d{4})", code) for code in set().union(*tables, NAME_TAKEN))


@pytest.mark.parametrize("code", sorted(RACES))
def test_a_race_may_be_tried_again(code: str) -> None:
    assert kind(code) is RecordsUnavailable


@pytest.mark.parametrize("code", [*WAIT, "ORA-03113", "ORA-03114", "ORA-12541", "ORA-12514", "DPY-6005", "DPY-4011", "ORA-99999", ""])
def test_what_goes_away_or_is_unknown_is_waited_for(code: str) -> None:
    if code:
        assert kind(code) is RecordsUnavailable
    assert type(translated(error(code), "app@db")) is RecordsUnavailable


@pytest.mark.parametrize("lost", [ConnectionResetError("reset"), TimeoutError(), OSError()], ids=repr)
def test_a_lost_connection_is_waited_for_and_named(lost: OSError) -> None:
    with (
        pytest.raises(RecordsUnavailable, match=r"^The record store app@db cannot be reached \(.+\)\.$") as raised,
        driver_errors("app@db"),
    ):
        raise lost
    assert raised.value.__cause__ is lost


@pytest.mark.parametrize("code", sorted(REFUSED_ROW))
def test_a_row_that_can_never_be_stored_is_refused(code: str) -> None:
    assert kind(code) is RecordRefused


@pytest.mark.parametrize("bad", [OverflowError("too large"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "bad")], ids=repr)
def test_a_value_that_the_driver_cannot_send_is_refused(bad: Exception) -> None:
    with pytest.raises(RecordRefused, match=type(bad).__name__), driver_errors("app@db"):
        raise bad


@pytest.mark.parametrize("code", TELL)
def test_what_only_an_operator_mends_is_told_with_what_to_do(code: str) -> None:
    assert kind(code) is OperatorError
    assert re.fullmatch(r"\S.*: [a-z].*\.", TELL[code]), "what is wrong, and what to do"


def test_the_codes_of_the_design_are_told_apart() -> None:
    again = ("ORA-00060", "ORA-00001", "ORA-08177")
    wait = ("ORA-00018", "ORA-12516", "ORA-12519", "ORA-12520", "ORA-00257", "DPY-4024", "DPY-4005")
    tell = ("ORA-01017", "ORA-00942", "ORA-01653")
    assert RACES.issuperset(again)
    assert WAIT.keys() >= set(wait)
    assert TELL.keys() >= set(tell)


def test_a_foreign_error_has_no_code_and_passes() -> None:
    assert code_of(ValueError("ORA-00001")) == code_of(oracledb.DatabaseError()) == ""
    with pytest.raises(ZeroDivisionError), driver_errors("app@db"):
        _ = 1 / 0


# The address


@pytest.mark.parametrize(
    ("url", "user", "dsn", "password"),
    [
        ("oracle://app@db.internal:1521/ORDERS", "app", "db.internal:1521/ORDERS", None),
        ("oracle://app:secret@db:1521/S", "app", "db:1521/S", "secret"),
        ("oracle://a%40b:p%2F%3A%25@db/S", "a@b", "db/S", "p/:%"),
        ("oracle://app@orders_high", "app", "orders_high", None),
        ("oracle://app@Orders.World", "app", "Orders.World", None),
        ("oracle://app@[::1]:1521/S", "app", "[::1]:1521/S", None),
        ("oracle://app@tcps://db.internal:2484/S", "app", "tcps://db.internal:2484/S", None),
        ("oracle://app@db:1521/S:pooled", "app", "db:1521/S:pooled", None),
    ],
)
def test_an_address_names_user_database_and_perhaps_the_password(url: str, user: str, dsn: str, password: str | None) -> None:
    assert Address.parse(url) == Address(user, dsn, password)


@pytest.mark.parametrize(
    "url", ["oracle://", "oracle://db/S", "oracle://app@", "oracle://:secret@db/S", "postgresql://app@db/S", "oracle://app@db/S?x=secret",
            "oracle://app@db/S#secret", "oracle://app:secret@[::1/S", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_giving_the_password_away(url: str) -> None:
    with pytest.raises(OperatorError) as raised:
        Address.parse(url)
    assert str(raised.value) == SHAPE
    assert "secret" not in SHAPE


# The budget


@pytest.mark.parametrize("limit", [None, 18, 19, 1000])
def test_pools_that_fit_are_let_through(limit: int | None) -> None:
    check_budget(PoolSettings(max=4, writers=2, session_reserve=10), limit, "X")


def test_pools_that_do_not_fit_are_refused_with_the_sum() -> None:
    with pytest.raises(OperatorError) as raised:
        check_budget(PoolSettings(max=4, writers=2, session_reserve=10), 17, "AUTH_ORACLE_SESSION_LIMIT")
    said = "2 writers x 4 sessions + 10 in reserve = 18 sessions, but AUTH_ORACLE_SESSION_LIMIT allows 17: "
    assert str(raised.value).startswith(said)
    assert type(raised.value) is OperatorError, "trying again would not help"


@pytest.mark.parametrize(("thick_mode", "file"), [(False, "ewallet.pem"), (True, "cwallet.sso")])
def test_a_folder_without_the_wallet_of_the_mode_asks_for_none(tmp_path: Path, thick_mode: bool, file: str) -> None:
    address, settings = Address.parse("oracle://app@alias"), PoolSettings(config_dir=tmp_path, thick_mode=thick_mode)
    (tmp_path / "sqlnet.ora").write_text("")
    assert how_to_connect(address, settings, None)["wallet_location"] is None
    (tmp_path / file).write_bytes(Authority("ours").certificate)
    assert how_to_connect(address, settings, None)["wallet_location"] == str(tmp_path)
