"""Values of charts/loadtest: a swarm for one run."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from chart.base import Image, Name, Object, PodSpec, Resources, Values, resources
from outcome.plan import Plan


class LoadImage(Image):
    """Built from loadtest/Dockerfile."""

    pull_policy: Annotated[str, Field(pattern=r"^(Always|IfNotPresent|Never)$", description="When it is pulled.")] = "IfNotPresent"


class Target(Values):
    """What is asked."""

    url: Annotated[str, Field(pattern=r"^(https?://[^/]+)?$", description="The service as pods reach it: http://auth-auth-service.")] = ""
    release: Annotated[
        str, Field(description="Release of auth-service in this namespace whose pods are looked at during the run; empty: none.")
    ] = ""
    clients_secret: Annotated[Name, Field(description="Secret whose entry clients.json has the credentials of the run's two clients.")] = ""


class PlanValues(Plan):
    """What is asked, how much and for how long."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True)


class LoadValues(Values):
    """The root."""

    image: LoadImage = LoadImage(repository="auth-service-load", tag="")
    image_pull_secrets: Annotated[list[Object] | None, Field(description="Of every pod.")] = []
    user_id: Annotated[int | None, Field(ge=10000, description="User and group of every pod. Null: the cluster says (OpenShift).")] = 10001
    target: Target = Target()
    plan: PlanValues = PlanValues()
    workers: Annotated[int, Field(ge=1, le=100, description="Pods that make load, each with one process.")] = 2
    wait_seconds: Annotated[
        int, Field(ge=1, le=3600, description="How long the leader waits for them, and they for it; then the run fails.")
    ] = 180
    thresholds: Annotated[str, Field(description="Gates as TOML (loadtest/profiles); the run's Job fails where one is missed.")] = ""
    environment: Annotated[
        dict[str, str | int | float] | None,
        Field(description="What is known of the place, for the report: runs of different places are not compared."),
    ] = {}
    leader_resources: Annotated[Resources, Field(description="Of the pod that leads.")] = resources("100m", "128Mi", "1", "256Mi")
    worker_resources: Annotated[
        Resources, Field(description="Of each pod that makes load. One that is throttled measures itself, so a whole core is best.")
    ] = resources("1", "256Mi")
    pod_spec: Annotated[
        PodSpec | None,
        Field(description="Added to the pods' spec: nodeSelector, tolerations, affinity and the like, as Kubernetes has them."),
    ] = PodSpec()
