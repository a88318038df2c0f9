"""Values of the live state: the chart's own Redis, or one that is there already."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chart.base import Exporter, Image, Name, Pods, Quantity, Resources, SecretEntry, Values, resources


class ExternalRedis(Values):
    """A Redis 7 or Valkey that is there already. It must be persistent and must not evict (maxmemory-policy noeviction)."""

    url: Annotated[
        str,
        Field(
            pattern=r"^(rediss?://([^:@/]+@)?[^@]+)?$",
            description="redis:// or rediss://USER@HOST:PORT/DATABASE, without a password; empty: the chart's own.",
        ),
    ] = ""
    cluster: Annotated[
        bool, Field(description="It is a Redis Cluster: the URL leads to any node, best by a name of all (docs/redis-cluster.md).")
    ] = False
    existing_secret: Annotated[Name, Field(description="Secret with its password; empty: it asks for none.")] = ""
    entry: Annotated[SecretEntry, Field(description="The password's entry.")] = "redis-password"
    ca_secret: Annotated[Name, Field(description="Secret whose entry ca.crt is the CA of rediss://; empty: the public ones.")] = ""
    memory: Annotated[Quantity, Field(description="Its maxmemory, for the sums; a cluster's masters together.")] = "4Gi"
    max_clients: Annotated[int, Field(ge=16, description="Its maxclients, for the sums.")] = 10000


class Persistence(Values):
    """A volume."""

    size: Annotated[Quantity, Field(description="Bytes.")]
    storage_class: Annotated[str | None, Field(description='Null: the cluster\'s default; "": none.')] = None


class Redis(Pods):
    """Tokens that are alive, the client directory, and the events on their way to the record store: a StatefulSet of one pod."""

    external: ExternalRedis = ExternalRedis()
    image: Image = Image(repository="redis", tag="8.0")
    resources: Annotated[
        Resources,
        Field(description="Half of the memory limit is maxmemory: the other half is for the copy that a rewrite of the file makes."),
    ] = resources("250m", "512Mi", "1", "1Gi")
    exporter: Annotated[
        Exporter, Field(description="redis_exporter beside the chart's own Redis, for what Redis tells of itself (docs/observability.md).")
    ] = Exporter(image=Image(repository="docker.io/oliver006/redis_exporter", tag="v1.86.0"))
    appendfsync: Annotated[
        Literal["always", "everysec"],
        Field(
            description="always: what was answered is on disk. everysec: faster on a slow disk, and gives up the tokens and revocations answered in "
            "the last two seconds before Redis is killed."
        ),
    ] = "always"
    max_clients: Annotated[int, Field(ge=16, le=100000, description="Connections that Redis takes.")] = 10000
    persistence: Annotated[Persistence, Field(description="At least three times maxmemory: the file, its rewrite, and room.")] = (
        Persistence(size="2Gi")
    )
