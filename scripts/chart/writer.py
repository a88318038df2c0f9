"""Values of the record store and of those who write it: writer, Oracle, migration, clients that a release brings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from chart.base import Name, Pods, Resources, SecretEntry, Values, resources
from chart.redis import Persistence


class Oracle(Values):
    """Oracle Database as the record store."""

    url: Annotated[
        str,
        Field(
            pattern=r"^(oracle://[^:@]+@.+)?$",
            description="oracle://USER@HOST:PORT/SERVICE, or oracle://USER@ALIAS; empty: the embedded store on the writer's volume.",
        ),
    ] = ""
    existing_secret: Annotated[Name, Field(description="Secret with the user's password.")] = ""
    entry: Annotated[SecretEntry, Field(description="The password's entry.")] = "oracle-password"
    wallet_secret: Annotated[
        Name, Field(description="Secret with tnsnames.ora, sqlnet.ora and ewallet.pem, mounted as AUTH_ORACLE_CONFIG_DIR; empty: none.")
    ] = ""
    wallet_password_entry: Annotated[
        str, Field(pattern=r"^[-._a-zA-Z0-9]*$", description="Entry of existingSecret with the wallet's password; empty: it has none.")
    ] = ""
    pool_max: Annotated[
        int,
        Field(
            ge=2, le=1000, description="Most sessions of one writer (AUTH_ORACLE_POOL_MAX); the original guide had 1000 to 2000 a server."
        ),
    ] = 4
    session_limit: Annotated[
        int, Field(ge=1, description="Sessions that the database may give to this release (AUTH_ORACLE_SESSION_LIMIT).")
    ] = 40
    session_reserve: Annotated[int, Field(ge=0, description="Of these, kept for the migration, commands and people.")] = 10
    migrate: Annotated[
        bool, Field(description="Bring the schema up to date before an installation or upgrade, by a Job. False: your DBA does it.")
    ] = True
    network_cidr: Annotated[
        str, Field(description="Where the database is, for the network policy of those who talk to it; empty: anywhere.")
    ] = ""


class Writer(Pods):
    """Writes the record of every token: a Deployment for Oracle, a StatefulSet of one pod for the embedded store."""

    replicas: Annotated[int, Field(ge=1, le=16, description="Pods, with Oracle; the embedded store has one.")] = 2
    profile: Annotated[
        Literal["balanced", "throughput", "latency"],
        Field(
            description="A batch is written at 1000 rows or after 5 s, at 2000 or after 10 s, at 500 or after 2 s (AUTH_WRITER_PROFILE)."
        ),
    ] = "balanced"
    resources: Annotated[Resources, Field(description="The embedded store runs inside the writer.")] = resources(
        "50m", "128Mi", "1", "320Mi"
    )
    persistence: Annotated[Persistence, Field(description="Of the embedded store; some 400 bytes a token.")] = Persistence(size="2Gi")


class Clients(Values):
    """Clients that a release brings with it: made or brought up to date by the writer, with digests of secrets, never secrets."""

    seed: Annotated[list[dict[str, Any]] | None, Field(description="As `authsvc client export` prints them under `clients`.")] = []
    existing_config_map: Annotated[Name, Field(description="ConfigMap whose entry clients.json is such an export, instead.")] = ""
