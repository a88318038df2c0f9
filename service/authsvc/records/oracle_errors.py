"""What the errors of Oracle and its driver mean: try again, wait, refuse a row, or tell the operator."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator

import oracledb

from authsvc.errors import OperatorError, RecordRefused, RecordsUnavailable

RACES = frozenset(("ORA-00001", "ORA-00060", "ORA-08177"))
"""Two writers met: a unique race, a deadlock, a serialisation failure. The same statements go through when repeated."""

NAME_TAKEN = frozenset(("ORA-00955", "ORA-01430", "ORA-04081", "ORA-00001"))
"""Another process makes the schema at this moment."""

WAIT = {
    "ORA-00018": "has no session left (sessions)",
    "ORA-00020": "has no process left (processes)",
    "ORA-00257": "waits for its archiver",
    "ORA-02391": "gives the user no further session (SESSIONS_PER_USER of its profile)",
    "ORA-30036": "has no room for undo",
    "ORA-12514": "is not known to its listener (is it starting, or the service's name wrong?)",
    "ORA-12516": "refuses further sessions",
    "ORA-12518": "refuses further sessions",
    "ORA-12519": "refuses further sessions",
    "ORA-12520": "refuses further sessions",
    "DPY-4005": "gave no session of the pool in time",
    "DPY-4024": "did not answer in time",
}
"""What goes away by waiting, in words for the operator. Everything that is in no table is waited for, too."""

REFUSED_ROW = frozenset(
    (
        "ORA-01400",  # a column that must not be NULL
        "ORA-01407",
        "ORA-01401",  # a value too large
        "ORA-01438",
        "ORA-12899",
        "ORA-02290",  # a check constraint
        "ORA-01722",  # not a number
        "ORA-01847",
        "ORA-01465",  # not hexadecimal
        "ORA-01461",
        "DPY-4033",  # a value that the driver cannot bind
        "DPY-3002",
        "DPY-3013",
        "DPY-2016",
        "DPY-8000",
    )
)
"""Data errors of a row by itself."""

TELL = {
    "ORA-01017": "refuses the user or the password: correct AUTH_RECORDS_URL and AUTH_RECORDS_PASSWORD or its file.",
    "ORA-28000": "has locked the account: unlock the user.",
    "ORA-28001": "says that the password has expired: set a new one.",
    "ORA-01045": "does not let the user connect: grant CREATE SESSION.",
    "ORA-04098": "has an invalid trigger: mend it (`authsvc migrate --sql` prints it), or compile it again.",
    "ORA-12660": "wants encryption that thin mode does not have: set AUTH_ORACLE_THICK_MODE.",
    "ORA-16000": "is open for reading only: name the primary in AUTH_RECORDS_URL.",
    "ORA-28040": "wants an older protocol of authentication: raise SQLNET.ALLOWED_LOGON_VERSION_SERVER, or set AUTH_ORACLE_THICK_MODE.",
    "DPY-3010": "is too old for thin mode: set AUTH_ORACLE_THICK_MODE.",
    "DPY-3015": "keeps the password in a form that thin mode cannot use: set the password anew, or set AUTH_ORACLE_THICK_MODE.",
    "DPY-4000": "is a name that tnsnames.ora does not have: correct AUTH_RECORDS_URL or the file in AUTH_ORACLE_CONFIG_DIR.",
    "DPY-4001": "needs a password: set AUTH_RECORDS_PASSWORD_FILE.",
    "DPY-4026": "is a name, but AUTH_ORACLE_CONFIG_DIR has no tnsnames.ora: put it there, or say HOST:PORT/SERVICE in AUTH_RECORDS_URL.",
    "DPY-4027": "is a name in tnsnames.ora: set AUTH_ORACLE_CONFIG_DIR to the file's folder, or say HOST:PORT/SERVICE in AUTH_RECORDS_URL.",
    "ORA-00942": "has no such table: run `authsvc migrate`, or correct the user in AUTH_RECORDS_URL.",
    "ORA-02289": "has no such sequence: run `authsvc migrate`, or correct the user in AUTH_RECORDS_URL.",
    "ORA-00904": "lacks a column: run `authsvc migrate`.",
    "ORA-01031": "does not let the user do this: grant what docs/oracle.md lists.",
    "ORA-01950": "gives the user no room in the tablespace: grant a quota.",
    "ORA-01536": "gives the user no more room in the tablespace: raise the quota.",
    "ORA-01652": "has no room in the temporary tablespace: extend it.",
    "ORA-01653": "has no room for the table: extend the tablespace.",
    "ORA-01654": "has no room for an index: extend the tablespace.",
    "ORA-01688": "has no room for a partition: extend the tablespace.",
    "ORA-01691": "has no room: extend the tablespace.",
    "DPY-6002": "shows a certificate with another DN: correct ssl_server_cert_dn in tnsnames.ora.",
    "DPY-6006": "shows a certificate for another host: name in AUTH_RECORDS_URL or tnsnames.ora the host that it is for.",
}
"""What only an operator mends. Writers go on trying: nothing is lost meanwhile."""

UNTRUSTED = "shows a certificate that is not trusted: put its authority's into ewallet.pem in AUTH_ORACLE_CONFIG_DIR, or have it renewed."

_SIMILAR = re.compile(r"\(Similar to (ORA-[0-9]{5})\)")


@contextlib.contextmanager
def driver_errors(where: str) -> Iterator[None]:
    """Every call of the driver is made inside this, and nothing of a caller's is. `where` names the database to people."""
    try:
        yield
    except (oracledb.Error, OSError, TimeoutError, OverflowError, UnicodeError) as error:
        raise translated(error, where) from error


def code_of(error: BaseException) -> str:
    """`ORA-12345` or `DPY-1234`; empty for an error that has none."""
    details = error.args[0] if isinstance(error, oracledb.Error) and error.args else None
    # What the listener said is only in the words of the driver's own error.
    similar = _SIMILAR.search(str(getattr(details, "message", "")))
    return similar[1] if similar else str(getattr(details, "full_code", "") or "")


def translated(error: BaseException, where: str) -> OperatorError:
    """The driver's error as ours."""
    code, below = code_of(error), error.__cause__
    if isinstance(below, ssl.SSLCertVerificationError):
        return OperatorError(f"The record store {where} {UNTRUSTED} ({below.verify_message})")
    if below is not None and code_of(below) in TELL:
        code = code_of(below)
    if code in REFUSED_ROW or isinstance(error, (OverflowError, UnicodeError)):
        return RecordRefused(f"The record store refuses the row ({code or type(error).__name__}).")
    if code in TELL:
        return OperatorError(f"The record store {where} {TELL[code]} ({code})")
    if code in RACES:
        return RecordsUnavailable(f"The record store {where} was changed by another at the same time ({code}).")
    said = WAIT.get(code, "cannot be reached" if code.startswith("DPY-6") or not code else "cannot answer now")
    why = code or str(error) or type(error).__name__
    # A connection that failed is one code for every cause.
    because = f": {str(below).partition(chr(10))[0]}" if code == "DPY-6005" and below is not None and str(below) else ""
    return RecordsUnavailable(f"The record store {where} {said} ({why}{because}).")
