"""The promises over a Redis Cluster: whatever becomes of one master, no answer is wrong and nothing that was answered is lost."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from authsvc.live.keys import SHARD_OF_SLOT, STREAMS, VERSIONS, shard
from contract.cluster_moves import SLOT_OF
from servers import RedisCluster, RedisServer, ServiceProcess, run_json, running, wait_until
from service.callers import UNAVAILABLE, Callers, Question, assert_kept, questions_of
from service.deployment import Deployment, name_of
from service.one_instance import bearer
from service.wire import ask, request

OLD_ENOUGH_SECONDS = 2.0
"""A copy of this age is noticed by whoever ran since."""
RACERS = 8
PATIENCE_SECONDS = 60.0
"""So many processes start and end here that a busy machine takes its time; how soon they are back is tested over one Redis."""


class ClusterDeployment(Deployment):
    """Two instances and a writer over a Redis Cluster; its first master holds home."""

    def __init__(self, folder: Path, masters: int) -> None:
        super().__init__(folder, instances=2, redis_mode="cluster")
        self.cluster = RedisCluster(folder / "cluster", masters)
        self.redis = self.cluster.masters[0]
        for process in (*self.instances, self.writer):
            process.environ["AUTH_REDIS_URL"] = self.cluster.url

    def start_redis(self) -> None:
        self.cluster.start()

    def stop_redis(self) -> None:
        self.cluster.stop()

    def waiting_entries(self) -> int:
        """Entries that stand in the streams of all masters."""
        return sum(self.of_its_master(number, "XLEN", STREAMS[number]) for number in range(len(STREAMS)))

    def incarnations(self) -> set[bytes]:
        """Of all versions that the masters hold."""
        versions = [self.of_its_master(number, "GET", key) for number, key in enumerate(VERSIONS)]
        return {(version or b"").rpartition(b":")[0] for version in versions}

    def of_its_master(self, number: int, *words: Any) -> Any:
        """What the master of this shard says."""
        for master in self.cluster.masters:
            with self.cluster.ask(master) as client:
                try:
                    return client.execute_command(*words)
                except redis.exceptions.MovedError:
                    continue
        raise AssertionError(f"shard {number} has no master")

    def validate_at(self, instance: ServiceProcess, token: str) -> int:
        return ask(instance.port, "POST", "/validate", [bearer(token)]).status

    def tokens_of(self, shards: set[int], count: int) -> list[str]:
        """Fresh access tokens whose names lie in these shards."""
        found: list[str] = []
        while len(found) < count:
            found += [token for token in [self.issue()] if shard(name_of(token)) in shards]
        return found


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.long)])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterDeployment]:
    deployment = ClusterDeployment(tmp_path_factory.mktemp("cluster"), request.param)
    with running(deployment):
        deployment.start()
        yield deployment


@pytest.fixture
def deployment(shared: ClusterDeployment) -> ClusterDeployment:
    """All processes are ready."""
    for process in (*shared.instances, shared.writer):
        process.wait_ready()
    return shared


def wait_back(callers: Callers) -> None:
    """Everything is answered rightly."""
    callers.wait_for([good for question in callers.questions.values() for good in question.good], seconds=PATIENCE_SECONDS)


def held_by(deployment: ClusterDeployment, master: RedisServer) -> set[int]:
    """The shards of a master."""
    with deployment.cluster.ask(master) as client:
        slots = client.execute_command("CLUSTER SLOTS")
    ranges = [(first, last) for first, last, (_, port, *_), *_ in slots if port == master.port]
    return {number for number, slot in SLOT_OF.items() if any(first <= slot <= last for first, last in ranges)}


def test_tokens_of_every_master_keep_the_promises_on_every_instance(deployment: ClusterDeployment) -> None:
    one_time = [deployment.issue("/ott") for _ in range(30)]
    with ThreadPoolExecutor(RACERS) as pool:
        for token in one_time:
            racers = [deployment.instances[number % 2] for number in range(RACERS)]
            statuses = pool.map(lambda instance, token=token: deployment.validate_at(instance, token), racers)
            assert Counter(statuses) == {200: 1, 401: RACERS - 1}
    tokens = [deployment.issue() for _ in range(40)]
    assert len({shard(name_of(token)) for token in tokens}) > 8, "they lie on all masters"
    for number, token in enumerate(tokens):
        assert deployment.validate_at(deployment.instances[1], token) == 200
        if number % 2:
            deployment.revoke(token)
            assert deployment.validate_at(deployment.instances[1], token) == 401
    wait_until(lambda: deployment.waiting_entries() == 0, "the backlog is written")
    rows = deployment.rows()
    assert all(rows[name_of(token)] == (True, False, False) for token in one_time)
    assert [rows[name_of(token)][1] for token in tokens] == [number % 2 == 1 for number in range(len(tokens))]


def test_a_change_of_a_client_holds_for_tokens_of_every_master_when_the_command_returns(deployment: ClusterDeployment) -> None:
    tokens = [deployment.issue(client_id="leaver") for _ in range(24)]
    for word, status in (("disable", 401), ("enable", 200), ("revoke-tokens", 401)):
        assert run_json(deployment.environ, "client", word, "leaver")["in_force"]
        found = {deployment.validate_at(instance, token) for instance in deployment.instances for token in tokens}
        assert found == {status}, word
    assert deployment.validate(deployment.issue(client_id="leaver")) == 200


@pytest.mark.parametrize("place", [0, -1], ids=["home", "another"])
def test_a_master_that_is_killed_and_comes_back_loses_nothing(deployment: ClusterDeployment, place: int) -> None:
    master = deployment.cluster.masters[place]
    theirs = deployment.tokens_of(held_by(deployment, master), 3)
    before = deployment.incarnations()
    questions = questions_of(deployment)
    lost = {f"of the lost master {number}": request("GET", "/validate", [bearer(token)]) for number, token in enumerate(theirs)}
    questions |= {name: Question(deployment.instances[1].port, data, ("200",)) for name, data in lost.items()}
    callers = Callers(questions, pause_seconds=0.02)
    callers.add_owners(deployment)
    with callers:
        wait_back(callers)
        master.kill()
        callers.wait_for([UNAVAILABLE], *lost, "ready", seconds=PATIENCE_SECONDS)
        master.start()
        wait_back(callers)
    assert deployment.incarnations() == before
    deployment.writer.wait_ready()
    assert_kept(deployment, callers.ledger)


@pytest.mark.parametrize("place", [0, -1], ids=["home", "another"])
def test_an_older_copy_of_one_master_revives_nothing(deployment: ClusterDeployment, tmp_path: Path, place: int) -> None:
    master = deployment.cluster.masters[place]
    revoked, live = deployment.tokens_of(held_by(deployment, master), 2)
    before = deployment.incarnations()
    files = master.folder / "appendonlydir"
    shutil.copytree(files, tmp_path / "copy")
    made_at = time.monotonic()
    # Nothing of this master changes but its beats, until the token ends at the last moment.
    wait_until(lambda: time.monotonic() - made_at > OLD_ENOUGH_SECONDS, "the copy is old")
    deployment.revoke(revoked)
    asked = {
        f"{name} {number}": Question(instance.port, request("GET", "/validate", [bearer(token)]), good)
        for name, token, good in (("revoked", revoked, ("401",)), ("live", live, ("200", "401")))
        for number, instance in enumerate(deployment.instances)
    }
    with Callers(asked, pause_seconds=0) as callers:
        wait_back(callers)
        master.kill()
        shutil.rmtree(files)
        shutil.copytree(tmp_path / "copy", files)
        master.start()
        callers.wait_for(["401"], seconds=PATIENCE_SECONDS)
        wait_until(lambda: len(found := deployment.incarnations()) == 1 and not found & before, "a new incarnation")
    deployment.writer.wait_ready()
    token = deployment.issue()
    assert {deployment.validate_at(instance, token) for instance in deployment.instances} == {200}


def test_a_slot_that_moves_under_load_costs_no_wrong_answer_and_no_token(deployment: ClusterDeployment) -> None:
    source, target = deployment.cluster.masters[0], deployment.cluster.masters[-1]
    moving = max(held_by(deployment, source))
    tokens = deployment.tokens_of({moving}, 2)
    before = deployment.incarnations()
    questions = questions_of(deployment)
    moved = {
        f"of the slot that moves {number}": Question(instance.port, request("GET", "/validate", [bearer(token)]), ("200",))
        for number, (instance, token) in enumerate(zip(deployment.instances, tokens, strict=True))
    }
    callers = Callers(questions | moved, pause_seconds=0.01)
    callers.add_owners(deployment)
    with callers:
        wait_back(callers)
        asked_from = time.monotonic()
        move(deployment, SLOT_OF[moving], source, target)
        wait_back(callers)
        # It is no lead: what was asked of the wrong master went on to the right one.
        assert {asked.outcome for asked in callers.since(asked_from, *moved)} == {"200"}
        # Now it is its new master's lead: the batches under way do not learn of a version, and are refused.
        move(deployment, SLOT_OF[moving], target, source)
        wait_back(callers)
    assert deployment.incarnations() == before
    deployment.writer.wait_ready()
    assert_kept(deployment, callers.ledger)


def move(deployment: ClusterDeployment, slot: int, giver: RedisServer, taker: RedisServer) -> None:
    """Move a slot with all that it holds, as one step where the server can (Valkey 9)."""
    with deployment.cluster.ask(taker) as client:
        to = client.execute_command("CLUSTER MYID")
    with deployment.cluster.ask(giver) as client:
        try:
            client.execute_command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to)
        except redis.exceptions.ResponseError as error:
            pytest.skip(f"this server cannot move a slot in one step: {error}")

    wait_until(lambda: SHARD_OF_SLOT[slot] in held_by(deployment, taker), "the slot has moved")
