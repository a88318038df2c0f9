"""What all groups of values share: names as Helm writes them, nothing unknown, and the parts of a pod that users set."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Object = dict[str, Any]
"""An object of the Kubernetes API, passed on as it is."""
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
"""A Kubernetes name, or empty for none."""
SecretEntry = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$")]


class Values(BaseModel):
    """A group of values."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True)


class ResourceList(Values):
    """CPU and memory."""

    cpu: Annotated[str | int | float | None, Field(description="Cores.")]
    memory: Annotated[Quantity | None, Field(description="Bytes.")]


class Resources(Values):
    """Requests and limits of the container."""

    requests: ResourceList
    limits: ResourceList


def resources(cpu: str, memory: str, cpu_limit: str | None = None, memory_limit: str | None = None) -> Resources:
    """Requests, and limits where they differ."""
    return Resources(
        requests=ResourceList(cpu=cpu, memory=memory), limits=ResourceList(cpu=cpu_limit or cpu, memory=memory_limit or memory)
    )


class Autoscaling(Values):
    """HorizontalPodAutoscaler over the CPU of the component's container. With it the chart renders no `replicas`."""

    enabled: bool = True
    min_replicas: Annotated[int, Field(ge=1, le=1000, description="Never fewer pods.")]
    max_replicas: Annotated[int, Field(ge=1, le=1000, description="Never more pods.")]
    target_cpu_utilization: Annotated[
        int, Field(ge=10, le=95, description="Per cent of the CPU request that the pods use on average when there are enough of them.")
    ] = 60


class Image(Values):
    """An image; a digest wins over the tag."""

    repository: Annotated[str, Field(description="Where it is pulled from.")]
    tag: Annotated[str, Field(description="Empty: the chart's appVersion.")]
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$", description="sha256:...; wins over the tag.")] = ""


class Exporter(Values):
    """A container beside a server that is not ours, which tells Prometheus how the server is."""

    enabled: bool = False
    image: Image
    resources: Annotated[Resources, Field(description="Of that container.")] = resources("10m", "32Mi", "100m", "64Mi")


class PodSpec(Values):
    """Fields of the pods' spec, as Kubernetes has them."""

    node_selector: Object | None = None
    tolerations: list[Object] | None = None
    affinity: Object | None = None
    topology_spread_constraints: list[Object] | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    scheduler_name: str | None = None
    host_aliases: list[Object] | None = None
    dns_config: Object | None = None


class Pods(Values):
    """What users may say of the pods of any component."""

    pod_spec: Annotated[
        PodSpec | None,
        Field(
            description="Added to the pods' spec: nodeSelector, tolerations, affinity, topologySpreadConstraints (these two instead of the chart's), "
            "priorityClassName, runtimeClassName, schedulerName, hostAliases, dnsConfig."
        ),
    ] = PodSpec()
    pod_annotations: Annotated[dict[str, str] | None, Field(description="Annotations of the pods.")] = {}
    pod_labels: Annotated[dict[str, str] | None, Field(description="Labels of the pods.")] = {}
    extra_env: Annotated[list[Object] | None, Field(description="Variables of the container, as Kubernetes has them.")] = []
    extra_volumes: Annotated[list[Object] | None, Field(description="Volumes of the pods.")] = []
    extra_volume_mounts: Annotated[list[Object] | None, Field(description="Where they are mounted in the container.")] = []
