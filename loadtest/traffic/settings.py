"""`LOAD_*`: the plan of a run and where it goes, read once from the environment of the generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from outcome.clients import Credentials
from outcome.plan import Plan
from outcome.run import RunError

PREFIX = "LOAD_"


class Settings(Plan, BaseSettings):
    """The plan, and what surrounds it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")] = "run"
    url: Annotated[str, Field(pattern=r"^https?://[^/]+$")]
    clients_file: Path
    result: Path = Path("run.json")
    workers: Annotated[int, Field(ge=1, le=1000)] = 1
    wait_seconds: Annotated[float, Field(gt=0)] = 180.0
    """How long the leader waits for workers, and a worker for the leader."""
    environment: dict[str, str | int | float] = {}
    thresholds: Path | None = None
    stack: Path | None = None
    """stack.json of a local stack, whose processes are looked at during the run."""
    release: str = ""
    """Release in this cluster, whose pods are looked at during the run."""
    config_map: str = ""
    """Where the result is kept in the cluster."""

    @property
    def plan(self) -> Plan:
        """Without what surrounds it."""
        return Plan(**{field: getattr(self, field) for field in Plan.model_fields})

    def credentials(self) -> Credentials:
        """From the clients' file."""
        try:
            return Credentials.model_validate_json(self.clients_file.read_bytes())
        except OSError as error:
            raise RunError(f"{self.clients_file} cannot be read: {error.strerror}.") from error
        except ValidationError as error:
            raise RunError(f"{self.clients_file} does not hold the credentials of the two clients of a run.") from error


def read_settings() -> Settings:
    """RunError names the first variable that is wrong."""
    try:
        return Settings()  # type: ignore[call-arg] # the rest comes from the environment
    except ValidationError as error:
        first = error.errors()[0]
        raise RunError(f"{PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}.") from error


def to_environment(plan: Plan, **around: object) -> dict[str, str]:
    """The variables that `read_settings` reads back."""
    values = plan.model_dump() | around
    return {PREFIX + name.upper(): json.dumps(value) if isinstance(value, dict) else str(value) for name, value in values.items()}
