"""A load inside the cluster: every promise asked of a URL without pause, wrong answers noted. Runs in a pod; prints JSON at its end.

    python load.py URL CLIENT SECRET THREADS MOST_SECONDS

It ends when /tmp/stop is there. It knows nothing of this project: a client's view, by the standard library alone.
"""

import base64
import http.client
import json
import os
import sys
import threading
import time
import urllib.parse

URL, CLIENT, SECRET = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], sys.argv[3]
THREADS, MOST_SECONDS = int(sys.argv[4]), float(sys.argv[5])
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
counts: dict[str, int] = {}
failures: list[str] = []
issued: list[str] = []
slowest = 0.0
lock = threading.Lock()
stopping = threading.Event()


class Caller:
    def __init__(self) -> None:
        self.connection = http.client.HTTPConnection(URL.hostname or "", URL.port or 80, timeout=15)

    def ask(self, method: str, path: str, wanted: int, headers: dict[str, str], **fields: str) -> dict[str, object]:
        global slowest
        began = time.monotonic()
        try:
            body = urllib.parse.urlencode(fields) if method == "POST" else None
            self.connection.request(method, URL.path + path, body, {**FORM, **headers})
            response = self.connection.getresponse()
            status, text = response.status, response.read()
            said = None if status == wanted else f"{method} {path}: {status} instead of {wanted}: {text[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            said, text = f"{method} {path}: {type(error).__name__} {error}", b""
            self.connection.close()
        seconds = time.monotonic() - began
        with lock:
            counts[path] = counts.get(path, 0) + 1
            slowest = max(slowest, seconds)
            if said is not None:
                failures.append(f"{time.strftime('%H:%M:%S')} {said}")
        answer = json.loads(text) if said is None and text else {}
        return answer if isinstance(answer, dict) else {}


def work() -> None:
    caller = Caller()
    while not stopping.is_set():
        kept = caller.ask("POST", "/token", 200, BASIC, grant_type="client_credentials").get("access_token")
        ended = caller.ask("POST", "/token", 200, BASIC, grant_type="client_credentials").get("access_token")
        once = caller.ask("POST", "/ott", 200, BASIC, grant_type="client_credentials").get("access_token")
        if not (kept and ended and once):
            continue
        with lock:
            issued.append(str(kept))
        caller.ask("POST", "/validate", 200, {}, token=str(kept))
        caller.ask("GET", "/validate", 200, {"Authorization": f"Bearer {kept}"})
        caller.ask("POST", "/introspect", 200, BASIC, token=str(ended))
        caller.ask("POST", "/revoke", 200, BASIC, token=str(ended))
        caller.ask("POST", "/validate", 401, {}, token=str(ended))
        caller.ask("POST", "/validate", 200, {}, token=str(once))
        caller.ask("POST", "/validate", 401, {}, token=str(once))
        caller.ask("GET", "/health", 200, {})
        time.sleep(0.02)


threads = [threading.Thread(target=work) for _ in range(THREADS)]
for thread in threads:
    thread.start()
print("started", flush=True)
deadline = time.monotonic() + MOST_SECONDS
while not os.path.exists("/tmp/stop") and time.monotonic() < deadline:
    time.sleep(0.1)
stopping.set()
for thread in threads:
    thread.join()
# Each that was answered still holds.
last = Caller()
for token in issued[-200:]:
    last.ask("POST", "/validate", 200, {}, token=token)
print(json.dumps({"counts": counts, "failures": failures[:20], "failed": len(failures), "issued": len(issued), "slowest_seconds": slowest}))
