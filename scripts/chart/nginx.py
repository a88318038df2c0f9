"""Values of the balancer: nginx, how it is reached, and how it finds the instances."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chart.base import Autoscaling, Exporter, Image, Name, Object, Pods, Port, Resources, Values, resources


class RateLimit(Values):
    """Requests that one address may send, over all nginx pods together; more are answered 429 (mode http). Each pod lets its part of the most
    pods through."""

    requests_per_second: Annotated[int, Field(ge=0, description="0: no limit.")] = 0
    burst: Annotated[int, Field(ge=0, description="Requests above the rate that are let through at once.")] = 200
    dry_run: Annotated[bool, Field(description="Log what would be refused, and refuse nothing.")] = False


class Tls(Values):
    """TLS at nginx itself. Ingress and HTTPRoute have their own."""

    secret_name: Annotated[Name, Field(description="A Secret of type kubernetes.io/tls; empty: no TLS.")] = ""
    port: Annotated[Port, Field(description="Port of the Service for TLS.")] = 443


class Service(Values):
    """The Service that clients use."""

    type: Annotated[Literal["ClusterIP", "NodePort", "LoadBalancer"], Field(description="As Kubernetes has it.")] = "ClusterIP"
    port: Annotated[Port, Field(description="Port for plain HTTP.")] = 80
    annotations: dict[str, str] | None = {}
    external_traffic_policy: Annotated[
        Literal["", "Cluster", "Local"],
        Field(description="Local: nginx sees the address of the client behind a LoadBalancer. Empty: Kubernetes' default."),
    ] = ""
    load_balancer_source_ranges: Annotated[list[str] | None, Field(description="Who may reach a LoadBalancer, in CIDR notation.")] = []


class Ingress(Values):
    """An Ingress to nginx."""

    enabled: bool = False
    class_name: Annotated[str, Field(description="Empty: the cluster's default.")] = ""
    host: Annotated[str, Field(description="Name that clients use; empty: any.")] = ""
    annotations: Annotated[dict[str, str] | None, Field(description="For example cert-manager.io/cluster-issuer.")] = {}
    tls_secret_name: Annotated[Name, Field(description="Secret with the certificate; empty: no TLS.")] = ""


class HttpRoute(Values):
    """A route of the Gateway API to nginx."""

    enabled: bool = False
    parent_refs: Annotated[list[Object], Field(description="The gateways.")] = []
    hostnames: Annotated[list[str] | None, Field(description="Names that clients use; empty: those of the gateways.")] = []


class Nginx(Pods):
    """The balancer: a Deployment of nginx 1.27.4 or later."""

    image: Image = Image(repository="nginx", tag="1.31")
    mode: Annotated[
        Literal["http", "stream"],
        Field(
            description="http: nginx passes on requests, and sends again what may be. stream: it passes on connections, for less CPU, and each stays "
            "with its instance (docs/balancer.md)."
        ),
    ] = "http"
    proxy_protocol: Annotated[
        bool,
        Field(
            description="With mode stream: nginx begins each connection with a PROXY header that names the caller, and auth takes no other "
            "(AUTH_PROXY_PROTOCOL). Switched in a running release, nothing is answered until both have rolled."
        ),
    ] = False
    replicas: Annotated[int, Field(ge=1, le=100, description="Pods, where autoscaling is off.")] = 2
    autoscaling: Autoscaling = Autoscaling(min_replicas=2, max_replicas=6)
    resources: Annotated[Resources, Field(description="Passing a request on costs about half of what answering it does.")] = resources(
        "100m", "64Mi", "1", "192Mi"
    )
    discovery: Annotated[
        Literal["headless", "clusterIP"],
        Field(
            description="headless: nginx asks the cluster's DNS for the pods and balances requests over them. clusterIP: for an nginx before 1.27.4; "
            "Kubernetes balances connections, so a new pod gets work only as they are renewed, and a renewed certificate is used after a restart."
        ),
    ] = "headless"
    resolver_seconds: Annotated[
        int, Field(ge=1, le=30, description="How long nginx keeps what DNS said, so how soon a new pod is used.")
    ] = 5
    dns_ttl_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=300,
            description="How long the cluster's DNS may give an old answer (`ttl` and `cache` of CoreDNS; kubeadm has 30). Pods roll this much slower.",
        ),
    ] = 30
    access_log: Annotated[
        Literal["errors", "all", "off"],
        Field(
            description="Which requests (mode stream: connections) are logged, as JSON: those that nginx or an instance failed, all, none."
        ),
    ] = "errors"
    trusted_proxies: Annotated[
        list[str] | None, Field(description="CIDRs of balancers before nginx whose X-Forwarded-For names the client (mode http).")
    ] = []
    rate_limit: RateLimit = RateLimit()
    server_snippet: Annotated[
        str,
        Field(description="nginx directives added to the server block, of the http or the stream module. Checked before the pod starts."),
    ] = ""
    stub_status: Annotated[
        bool, Field(description="Serve nginx's counters at /status of its management port; the image must have the module.")
    ] = False
    exporter: Annotated[
        Exporter,
        Field(
            description="nginx-prometheus-exporter beside each nginx, for its counters (docs/observability.md); nginx's image must have the module "
            "stub_status."
        ),
    ] = Exporter(image=Image(repository="docker.io/nginx/nginx-prometheus-exporter", tag="1.4.1"))
    tls: Tls = Tls()
    service: Service = Service()
    ingress: Ingress = Ingress()
    http_route: HttpRoute = HttpRoute()
    pdb_max_unavailable: Annotated[
        int, Field(ge=1, le=100, description="Pods that a drained node may take away at once (PodDisruptionBudget).")
    ] = 1
