"""A swarm: the objects of one run in the cluster, by name, and what it kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from authsvc.commands.cluster import CONFLICT, NOT_FOUND, Cluster
from outcome.clients import Credentials
from outcome.files import files_of
from outcome.packing import unpack
from outcome.run import Run, RunError
from swarm import helm
from swarm.listing import listed

NAME, INSTANCE, COMPONENT = (f"app.kubernetes.io/{key}" for key in ("name", "instance", "component"))
PREFIX = "loadtest-"
"""Of the Helm releases of runs: a run can have the name of any other release and never touches it."""
WAITS_FOR_EVER = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
STOP_SECONDS = 60.0
RELEASE_ANNOTATION = "auth-service/release"
"""On the Secret with the clients: the release that they are clients of."""


@dataclass(frozen=True)
class State:
    """A run at this moment."""

    name: str
    phase: str
    """`starting`, `running`, `complete`, `missed` (its thresholds), `failed`, `lost` (its leader), or `kept`: only its results are left."""
    reason: str = ""
    workers: int = 0
    """Worker pods that run."""
    run: Run | None = None
    began: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.phase not in ("starting", "running")


class Swarm:
    """One run of a namespace."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self.name = cluster, name
        self._namespace = cluster.namespace
        self._batch = client.BatchV1Api(cluster.api.api_client)
        self.release_name = PREFIX + name
        self._labels = f"{NAME}=loadtest,{INSTANCE}={self.release_name}"

    @property
    def secret_name(self) -> str:
        """Of the Secret with its clients."""
        return f"{self.release_name}-clients"

    def claim(self, release: str) -> None:
        """Make the Secret that its clients will be in, and with it the run's: whoever comes second is refused, whatever both do at once."""
        taken = RunError(f"There is a run {self.name} already: name another, or end and forget it with `stop {self.name} --forget`.")
        if self._config_map() is not None or self._jobs():
            raise taken
        metadata = client.V1ObjectMeta(
            name=self.secret_name, labels={NAME: "loadtest", INSTANCE: self.release_name}, annotations={RELEASE_ANNOTATION: release}
        )
        try:
            self._cluster.api.create_namespaced_secret(self._namespace, client.V1Secret(metadata=metadata))
        except ApiException as error:
            raise taken if error.status == CONFLICT else error from error

    def keep_clients(self, credentials: Credentials) -> None:
        """Put them where the generators read them."""
        self._cluster.api.patch_namespaced_secret(
            self.secret_name, self._namespace, {"stringData": {"clients.json": credentials.model_dump_json()}}
        )

    def exists(self) -> bool:
        """Whether anything of a run of this name is there, results included."""
        return bool(self._jobs() or self._config_map() or self.release() is not None)

    def release(self) -> str | None:
        """Of auth-service, whose clients the run has; None once they are gone."""
        try:
            secret = self._cluster.api.read_namespaced_secret(self.secret_name, self._namespace)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return None
            raise
        annotations = (secret.metadata and secret.metadata.annotations) or {}
        return annotations.get(RELEASE_ANNOTATION)

    def forget_clients(self) -> None:
        """Delete that Secret."""
        _unless_gone(lambda: self._cluster.api.delete_namespaced_secret(self.secret_name, self._namespace))

    def forget_results(self) -> None:
        """Delete what the run kept."""
        kept = self._config_map()
        if kept is not None:
            _unless_gone(lambda: self._cluster.api.delete_namespaced_config_map(kept["metadata"]["name"], self._namespace))

    def state(self) -> State:
        """Look at its Jobs, pods and what it keeps."""
        jobs, kept = self._jobs(), self._config_map()
        if not jobs and kept is None:
            raise RunError(f"There is no run {self.name} in the namespace {self._namespace}.")
        files = _files(kept) if kept else {}
        run = Run.model_validate_json(files["run.json"]) if "run.json" in files else None
        leader = jobs.get("leader")
        if leader is None:
            return State(self.name, "kept", run=run)
        status = leader.get("status", {})
        pods = self._pods()
        workers = sum(pod["status"].get("phase") == "Running" for pod in pods if pod["metadata"]["labels"][COMPONENT] == "worker")
        began = datetime.fromisoformat(leader["metadata"]["creationTimestamp"])
        phase, reason = _phase(status, run, (kept or {}).get("data", {}))
        if phase == "starting" and (stuck := _stuck(pods)):
            phase, reason = "failed", stuck
        return State(self.name, phase, reason, workers, run, began)

    def files(self) -> dict[str, str]:
        """What it kept, by file name; RunError where there is nothing.

        A run that was cut off has kept its figures alone: its page is made here.
        """
        kept = self._config_map()
        found = _files(kept) if kept else {}
        if not found:
            raise RunError(f"The run {self.name} has kept nothing: it has not begun, or there is none in the namespace {self._namespace}.")
        if "report.html" in found:
            return found
        run = Run.model_validate_json(found["run.json"])
        return files_of(run.model_copy(update={"end": "interrupted"}))

    def stop_pods(self) -> None:
        """Let the leader end the run and keep what it has, then remove the Jobs, Service and rights."""
        for component in ("leader", "worker"):
            selector = f"{self._labels},{COMPONENT}={component}"
            self._batch.delete_collection_namespaced_job(self._namespace, label_selector=selector, propagation_policy="Foreground")
            deadline = time.monotonic() + STOP_SECONDS
            # The leader first: it ends the workers, and the rights by which it keeps its result go with the release.
            while self._pods(component) and time.monotonic() < deadline:
                time.sleep(0.5)
        helm.uninstall(self.release_name, self._namespace)
        kept = self._config_map()
        if kept is not None and not kept.get("binaryData"):
            self.forget_results()

    def last_words(self) -> str:
        """The end of the leader's log."""
        for pod in self._pods("leader"):
            try:
                log = self._cluster.api.read_namespaced_pod_log(pod["metadata"]["name"], self._namespace, tail_lines=5)
            except ApiException:
                continue
            lines = [line for line in str(log).splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return ""

    def _pods(self, component: str | None = None) -> list[dict[str, Any]]:
        selector = self._labels + (f",{COMPONENT}={component}" if component else "")
        return listed(self._cluster.api.list_namespaced_pod, self._namespace, label_selector=selector)

    def _jobs(self) -> dict[str, dict[str, Any]]:
        jobs = listed(self._batch.list_namespaced_job, self._namespace, label_selector=self._labels)
        return {job["metadata"]["labels"][COMPONENT]: job for job in jobs}

    def _config_map(self) -> dict[str, Any] | None:
        selector = f"{self._labels},{COMPONENT}=leader"
        kept = listed(self._cluster.api.list_namespaced_config_map, self._namespace, label_selector=selector)
        found = [each for each in kept if not each["metadata"]["name"].endswith("-thresholds")]
        return found[0] if found else None


def names(cluster: Cluster) -> Iterator[str]:
    """Of all runs of the namespace, those of which only results are left included."""
    kept = listed(cluster.api.list_namespaced_config_map, cluster.namespace, label_selector=f"{NAME}=loadtest")
    found = {each["metadata"]["labels"][INSTANCE] for each in kept}
    yield from sorted(each.removeprefix(PREFIX) for each in found)


def _phase(status: dict[str, Any], run: Run | None, words: dict[str, str]) -> tuple[str, str]:
    if status.get("succeeded"):
        return "complete", ""
    failed = next((each for each in status.get("conditions", ()) if each["type"] == "Failed" and each["status"] == "True"), None)
    if failed is not None or status.get("failed"):
        if run is not None and run.end == "complete":
            return "missed", "a threshold was missed"
        if run is not None and run.end == "running":
            return "lost", "its leader went away before the end; what is kept is what it had up to then"
        reason = (failed or {}).get("message", "")
        return "failed", "it was interrupted" if run is not None else reason or "its leader ended before the load began"
    return ("running", "") if run is not None or words.get("state") == "running" else ("starting", "")


def _stuck(pods: list[dict[str, Any]]) -> str | None:
    """Why a run will not begin."""
    for pod in pods:
        for each in pod["status"].get("containerStatuses", ()):
            waiting = each.get("state", {}).get("waiting", {})
            if waiting.get("reason") in WAITS_FOR_EVER:
                return f"its pods do not start: {waiting['reason']} of the image {each['image']}"
    return None


def _files(kept: dict[str, Any]) -> dict[str, str]:
    return unpack(kept.get("binaryData") or {})


def _unless_gone(delete: Any) -> None:
    try:
        delete()
    except ApiException as error:
        if error.status != NOT_FOUND:
            raise
