"""Reference: the same endpoints as one would write them first, FastAPI routes with redis-py asyncio."""

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import redis.asyncio
from fastapi import Depends, FastAPI, Form, Header, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials

REDIS_URL = os.environ["BENCH_REDIS_URL"]
KEY = os.environ["BENCH_KEY"].encode()
CLIENTS = {"bench": (hashlib.sha256(os.environ["BENCH_SECRET"].encode()).digest(), "read write")}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect for as long as the app lives."""
    app.state.redis = redis.asyncio.from_url(REDIS_URL)
    yield
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


def name_of(token: str) -> str:
    """The name under which a token is stored."""
    return hashlib.blake2b(token.encode(), key=KEY, digest_size=20).hexdigest()


def authenticated(credentials: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
    """The client that authenticates."""
    digest, _ = CLIENTS[credentials.username]
    if not hmac.compare_digest(hashlib.sha256(credentials.password.encode()).digest(), digest):
        raise HTTPException(401)
    return credentials.username


Caller = Annotated[str, Depends(authenticated)]


async def issue(client_id: str, grant_type: str, one_time: bool) -> dict[str, object]:
    """Store the token and its stream entry, answer."""
    if grant_type != "client_credentials":
        raise HTTPException(400)
    _, scope = CLIENTS[client_id]
    made = "at_" + secrets.token_urlsafe(24)
    now = int(time.time())
    value = json.dumps({"client_id": client_id, "scope": scope, "iat": now, "exp": now + 3600, "one_time": one_time})
    async with app.state.redis.pipeline(transaction=False) as pipe:
        pipe.set(name_of(made), value, ex=3600)
        pipe.xadd("records", {"e": value})
        await pipe.execute()
    return {"access_token": made, "token_type": "Bearer", "expires_in": 3600, "scope": scope}


async def end(token: str) -> bool:
    """End a token and record it; whether it was alive."""
    async with app.state.redis.pipeline(transaction=True) as pipe:
        pipe.delete(name_of(token))
        pipe.xadd("records", {"e": token})
        deleted, _ = await pipe.execute()
    return bool(deleted)


async def described(token: str) -> dict[str, Any] | None:
    """What is kept of a token."""
    stored = await app.state.redis.get(name_of(token))
    return None if stored is None else json.loads(stored)


@app.post("/token")
async def token(grant_type: Annotated[str, Form()], client_id: Caller) -> dict[str, object]:
    """An access token."""
    return await issue(client_id, grant_type, one_time=False)


@app.post("/ott")
async def ott(grant_type: Annotated[str, Form()], client_id: Caller) -> dict[str, object]:
    """A one-time token."""
    return await issue(client_id, grant_type, one_time=True)


async def valid(token: str) -> dict[str, object]:
    """One GET, answer what it says; a one-time token ends."""
    value = await described(token)
    if value is None or (value["one_time"] and not await end(token)):
        raise HTTPException(401)
    return {"active": True, "valid": True, "token_type": "Bearer", "scopes": value["scope"].split(), **value}


@app.post("/validate")
async def validate(token: Annotated[str | None, Form()] = None, authorization: Annotated[str, Header()] = "") -> dict[str, object]:
    """Validate the token of the body or of the header."""
    return await valid(token or authorization.removeprefix("Bearer "))


@app.get("/validate")
async def validate_get(authorization: Annotated[str, Header()]) -> dict[str, object]:
    """Validate the token of the header."""
    return await valid(authorization.removeprefix("Bearer "))


@app.post("/introspect")
async def introspect(token: Annotated[str, Form()], client_id: Caller) -> dict[str, object]:
    """What a token is worth."""
    value = await described(token)
    return {"active": False} if value is None else {"active": True, "token_type": "Bearer", "scopes": value["scope"].split(), **value}


@app.post("/revoke")
async def revoke(token: Annotated[str, Form()], client_id: Caller) -> dict[str, object]:
    """End a token."""
    await end(token)
    return {"message": "Token revoked"}


@app.get("/health")
async def health() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}
