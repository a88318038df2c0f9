"""Reference: the same endpoints as one would write them first, FastAPI routes with redis-py asyncio."""

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import redis.asyncio
from fastapi import Depends, FastAPI, Form, HTTPException
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
basic = HTTPBasic()


def name_of(token: str) -> str:
    """The name under which a token is stored."""
    return hashlib.blake2b(token.encode(), key=KEY, digest_size=20).hexdigest()


@app.post("/token")
async def token(grant_type: Annotated[str, Form()], credentials: Annotated[HTTPBasicCredentials, Depends(basic)]) -> dict[str, object]:
    """Issue: check the secret, store the token and its stream entry, answer."""
    digest, scope = CLIENTS[credentials.username]
    presented = hashlib.sha256(credentials.password.encode()).digest()
    if grant_type != "client_credentials" or not hmac.compare_digest(presented, digest):
        raise HTTPException(401)
    made = "at_" + secrets.token_urlsafe(24)
    now = int(time.time())
    value = json.dumps({"client_id": credentials.username, "scope": scope, "iat": now, "exp": now + 3600})
    async with app.state.redis.pipeline(transaction=False) as pipe:
        pipe.set(name_of(made), value, ex=3600)
        pipe.xadd("records", {"e": value})
        await pipe.execute()
    return {"access_token": made, "token_type": "Bearer", "expires_in": 3600, "scope": scope}


@app.post("/validate")
async def validate(token: Annotated[str, Form()]) -> dict[str, object]:
    """Validate: one GET, answer what it says."""
    stored = await app.state.redis.get(name_of(token))
    if stored is None:
        raise HTTPException(401)
    value = json.loads(stored)
    return {"active": True, "valid": True, "token_type": "Bearer", "scopes": value["scope"].split(), **value}
