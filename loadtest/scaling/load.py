"""Runs of load against the release under test: one after the other, with the same two clients, each gone before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic.alias_generators import to_camel

from authsvc.commands.cluster import Cluster
from outcome.plan import Plan
from outcome.run import Run, RunError
from scaling import release
from scaling.plan import ScalePlan
from swarm import helm
from swarm.service import Service
from swarm.swarm import State, Swarm

POLL_SECONDS = 1.0
TOKENS = 60
"""Prepared by the generator before each run; more would take longer and change nothing."""


class Load:
    """Makes load on one release."""

    def __init__(self, cluster: Cluster, plan: ScalePlan, image: dict[str, str]) -> None:
        self._cluster, self._plan, self._image = cluster, plan, image
        self._service = Service(cluster, release.NAME)
        self._clients = Swarm(cluster, "clients")

    def make_clients(self) -> None:
        """Once in a namespace; they go with it."""
        self._clients.claim(release.NAME)
        self._clients.keep_clients(self._service.add_clients("scale-test"))

    def place(self) -> dict[str, str | int | float]:
        """Of the cluster; what changes from row to row is left out."""
        return {key: value for key, value in self._service.place().items() if key not in ("instances", "auth_cpu_limit")}

    def run(self, plan: Plan, meanwhile: Callable[[State], None]) -> Run:
        """Run a plan to its end; `meanwhile` is called again and again, with the run's state. RunError where it was cut off."""
        swarm = Swarm(self._cluster, "row")
        try:
            helm.install(swarm.release_name, self._cluster.namespace, self._values(plan))
            state = self._follow(swarm, plan, meanwhile)
            # What is kept while a run goes on is behind; the last word is kept at its end. `missed`: there were wrong answers.
            run = Run.model_validate_json(swarm.files()["run.json"]) if state.phase in ("complete", "missed") else None
            if run is None or run.end != "complete" or run.generator.lost:
                raise RunError(f"The load on {plan.endpoint} was cut off: {state.reason or state.phase}. {swarm.last_words()}".rstrip())
            return run
        finally:
            swarm.stop_pods()
            swarm.forget_results()

    def _follow(self, swarm: Swarm, plan: Plan, meanwhile: Callable[[State], None]) -> State:
        deadline = time.monotonic() + plan.seconds + release.ROLL_SECONDS
        while not (state := swarm.state()).is_over:
            if time.monotonic() > deadline:
                raise RunError(f"The load on {plan.endpoint} did not end. {swarm.last_words()}".rstrip())
            meanwhile(state)
            time.sleep(POLL_SECONDS)
        return state

    def _values(self, plan: Plan) -> dict[str, object]:
        cpu = f"{self._plan.generator_millicores}m"
        given = plan.model_copy(update={"tokens": TOKENS})
        return {
            "image": self._image,
            "target": {"url": self._service.url(), "release": release.NAME, "clientsSecret": self._clients.secret_name},
            "plan": {to_camel(field): value for field, value in given.model_dump().items()},
            "workers": 1,
            "workerResources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": cpu, "memory": "256Mi"}},
            "leaderResources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}},
        }
