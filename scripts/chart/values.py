"""All values of the chart, in the order in which values.yaml shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from chart.auth import Auth
from chart.base import Image, Name, Object, Resources, SecretEntry, Values, resources
from chart.nginx import Nginx
from chart.redis import Redis
from chart.writer import Clients, Oracle, Writer


class ServiceImage(Image):
    """The service's image: the same for auth, writer, migration and Jobs."""

    pull_policy: Annotated[str, Field(pattern=r"^(Always|IfNotPresent|Never)$", description="Of every image of the chart.")] = (
        "IfNotPresent"
    )


class TokenKeys(Values):
    """The keys of tokens. Rotation: name a new entry as accepted; then exchange the two; when the longest TTL is over, name none accepted."""

    issuing_entry: Annotated[SecretEntry, Field(description="Entry of the key that issues tokens.")] = "token-key"
    accepted_entry: Annotated[
        str, Field(pattern=r"^[-._a-zA-Z0-9]*$", description="Entry of a key that is only accepted; empty: none.")
    ] = ""


class Secrets(Values):
    """Token keys and the password of the chart's Redis."""

    existing_secret: Annotated[
        Name,
        Field(description="Secret that holds them; empty: a Job makes one with what is missing, and it is kept when the release goes."),
    ] = ""
    token_keys: TokenKeys = TokenKeys()
    redis_password_entry: Annotated[SecretEntry, Field(description="Entry of the password of the chart's Redis.")] = "redis-password"


class NetworkPolicy(Values):
    """Deny by default; only the arrows of the architecture are open."""

    enabled: bool = True
    clients_from: Annotated[
        list[Object] | None,
        Field(
            description="Who may reach nginx, and the instances past it (NetworkPolicyPeer). Empty: everybody nginx, and nobody the instances."
        ),
    ] = []
    monitoring_from: Annotated[
        list[Object] | None,
        Field(description="Who may scrape management ports and exporters (NetworkPolicyPeer); empty: every pod of the cluster."),
    ] = []


class Objectives(Values):
    """What the alerts hold the service to."""

    error_budget: Annotated[float, Field(gt=0, lt=1, description="Share of the answers of 30 days that may be 5xx or 429.")] = 0.001
    p99_seconds: Annotated[
        float, Field(gt=0, le=4, description="What one of a hundred requests may take longer than; the longest that is told apart is 4.")
    ] = 0.05


class Monitoring(Values):
    """For the Prometheus operator: PodMonitors of auth, writer and exporters, recording and alert rules (PrometheusRule), and a dashboard."""

    enabled: bool = False
    labels: Annotated[dict[str, str] | None, Field(description="Labels by which your Prometheus finds them.")] = {}
    interval: Annotated[
        str,
        Field(pattern=r"^([1-9]|[1-5][0-9]|60)s$", description="Time between two scrapes; at most 60s, for the rules look at two minutes."),
    ] = "15s"
    dashboard_labels: Annotated[
        dict[str, str] | None,
        Field(description="Labels by which your Grafana finds the ConfigMap with the dashboard; null: no dashboard."),
    ] = {"grafana_dashboard": "1"}
    runbooks_url: Annotated[str, Field(description="Where docs/runbooks is for those who are alerted; each alert links to its page.")] = (
        "docs/runbooks"
    )
    objectives: Objectives = Objectives()
    baseline_cpu_microseconds: Annotated[
        dict[str, Annotated[int, Field(ge=1)]] | None,
        Field(
            json_schema_extra={"propertyNames": {"enum": ["health", "token", "validate", "introspect", "ott", "revoke", "idle"]}},
            description="CPU of an instance for one request of each endpoint, and idle for a second; an alert says when requests cost a "
            "quarter more. Empty: the baseline that the chart comes with; loadtest/baselines/NAME/monitoring.yaml has your own.",
        ),
    ] = {}


class Capacity(Values):
    """What the release is to carry: values that cannot are refused, with the sum."""

    tokens_per_second: Annotated[int, Field(ge=0, description="Tokens made a second, on average.")] = 200
    access_ttl_seconds: Annotated[int, Field(ge=1, description="Life of most of them.")] = 3600
    outage_minutes: Annotated[int, Field(ge=0, description="How long the record store may be away before no more tokens are made.")] = 30
    client_connections: Annotated[int, Field(ge=0, description="Connections of clients at once.")] = 2000


class Tuning(Values):
    """Kernel settings of the pods. Those of Kubernetes' safe list are on."""

    sysctls: Annotated[
        dict[str, str] | None, Field(description="Safe ones, for auth, nginx and Redis. net.* of the pod's own network namespace.")
    ] = {
        "net.ipv4.ip_local_port_range": "1024 65535",
        "net.ipv4.tcp_keepalive_time": "60",
        "net.ipv4.tcp_fin_timeout": "15",
    }
    unsafe_sysctls: Annotated[
        dict[str, str] | None,
        Field(
            description="Those that a kubelet must allow (--allowed-unsafe-sysctls); the installation fails elsewhere. The guide's: "
            'net.core.somaxconn "65535" and net.ipv4.tcp_max_syn_backlog "65535".'
        ),
    ] = {}


class ChartValues(Values):
    """The root."""

    global_: Annotated[Object | None, Field(alias="global", description="Of the parent chart; not used here.")] = {}
    enabled: Annotated[bool | None, Field(description="For a parent chart's condition; not used here.")] = None
    name_override: Annotated[str, Field(max_length=40, description="Instead of the chart's name, in labels and names.")] = ""
    fullname_override: Annotated[str, Field(max_length=40, description="Prefix of all names, instead of the release's.")] = ""
    cluster_domain: Annotated[str, Field(description="The cluster's DNS domain.")] = "cluster.local"
    common_labels: Annotated[dict[str, str] | None, Field(description="Labels of every object.")] = {}
    issuer: Annotated[
        str,
        Field(
            pattern=r"^(https?://.+)?$",
            description="Base URL that clients use (AUTH_ISSUER); empty: that of the route, Ingress or Service.",
        ),
    ] = ""
    base_path: Annotated[
        str,
        Field(
            pattern=r"^(/[A-Za-z0-9._~-]+)*$",
            description="Prefix under which nginx serves the API, as /auth-server/v1/oauth; empty: none. Needs nginx.mode http.",
        ),
    ] = ""
    image: ServiceImage = ServiceImage(repository="auth-service", tag="")
    image_pull_secrets: Annotated[list[Object] | None, Field(description="Of every pod.")] = []
    user_id: Annotated[int | None, Field(ge=10000, description="User and group of every pod. Null: the cluster says (OpenShift).")] = 10001
    settings: Annotated[
        dict[str, str | int | float | bool] | None,
        Field(
            description="AUTH_* settings of auth and writer (docs/settings.md) that have no value of their own here; the service refuses unknown ones."
        ),
    ] = {}
    auth: Auth = Auth()
    nginx: Nginx = Nginx()
    redis: Redis = Redis()
    writer: Writer = Writer()
    oracle: Oracle = Oracle()
    clients: Clients = Clients()
    secrets: Secrets = Secrets()
    network_policy: NetworkPolicy = NetworkPolicy()
    monitoring: Monitoring = Monitoring()
    capacity: Capacity = Capacity()
    tuning: Tuning = Tuning()
    job_resources: Annotated[Resources, Field(description="Of the Jobs and of init containers.")] = resources("50m", "96Mi", "1", "256Mi")
    extra_objects: Annotated[list[Object | str] | None, Field(description="Objects of your own, rendered as templates.")] = []
