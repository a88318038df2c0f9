"""Values of the service's instances: how many, how large, and how they end."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from chart.base import Autoscaling, Object, Pods, Resources, Values, resources


class AuthAutoscaling(Autoscaling):
    """HorizontalPodAutoscaler over the CPU of the container, and over metrics of the pods. With it the chart renders no `replicas`."""

    requests_per_second: Annotated[
        int | None, Field(ge=1, description="Requests a second for each pod; needs files/prometheus-adapter.yaml. Null: CPU alone.")
    ] = None
    in_flight: Annotated[
        int | None, Field(ge=1, description="Requests in work at once in each pod; needs files/prometheus-adapter.yaml. Null: CPU alone.")
    ] = None


class Keda(Values):
    """A ScaledObject of KEDA, instead of the HorizontalPodAutoscaler; the bounds are those of `autoscaling`."""

    enabled: bool = False
    triggers: Annotated[list[Object] | None, Field(description="What KEDA looks at, as it has them.")] = []


class Auth(Pods):
    """The instances that answer tokens: a Deployment."""

    replicas: Annotated[int, Field(ge=0, le=1000, description="Pods, where autoscaling is off.")] = 4
    autoscaling: AuthAutoscaling = AuthAutoscaling(min_replicas=4, max_replicas=12)
    keda: Keda = Keda()
    workers: Annotated[
        int | None, Field(ge=1, le=64, description="Worker processes of a pod. Null: one for each whole CPU of its limit.")
    ] = None
    resources: Annotated[
        Resources, Field(description="A worker takes one core at full load and 110 MiB; the memory limit must hold all workers of the pod.")
    ] = resources("250m", "192Mi", "1", "384Mi")
    drain_seconds: Annotated[
        int, Field(ge=0, le=300, description="How long a pod that was told to stop goes on answering (AUTH_DRAIN_SECONDS).")
    ] = 6
    pre_stop_seconds: Annotated[
        int | None,
        Field(
            ge=0,
            le=300,
            description="How long it waits before that, so that nginx learns first that it is leaving. Null: as long as that takes at most "
            "(nginx.dnsTtlSeconds, nginx.resolverSeconds).",
        ),
    ] = None
    termination_grace_period_seconds: Annotated[
        int | None,
        Field(ge=1, le=3600, description="When a pod that is still there is killed. Null: as long as the two above and a request take."),
    ] = None
    keep_alive_seconds: Annotated[
        int,
        Field(ge=1, le=3600, description="How long an idle connection is kept (AUTH_KEEP_ALIVE_SECONDS); longer than nginx keeps its own."),
    ] = 75
    pdb_max_unavailable: Annotated[
        int, Field(ge=1, le=100, description="Pods that a drained node may take away at once (PodDisruptionBudget).")
    ] = 1
