"""KAITO's guard, as far as clients and the metrics page see it.

KAITO's inference server refuses a request with 429 while more wait than the engine
runs at most. 60 requests at once on 16 sequences: 33 go in (16 run, 17 wait).
vLLM is told of it by --middleware keda_engine.guard.Guard.
"""

import json
import os

from prometheus_client import Counter, Gauge

SEATS = "KEDA_ENGINE_SEATS"  # the environment variable with max_num_seqs × engines

COMPLETIONS = ("/v1/completions", "/v1/chat/completions")

REFUSAL = json.dumps(
    {"error": {"message": "too many requests wait", "type": "rate_limit_exceeded", "code": 429}}
).encode()

rejected = Counter("kaito_ratelimit_rejected", "Requests rejected with HTTP 429.")
# KAITO's wrapper keeps these on the page once the model is there.
Gauge("kaito_model_download_speed_bytes_per_second", "Model download speed.").set(0)
Gauge("kaito_model_download_remaining_seconds", "Remaining time of the download.").set(0)


class Guard:
    """ASGI middleware that counts the requests in the engine."""

    def __init__(self, app):
        self.app = app
        self.seats = int(os.environ[SEATS])
        self.in_flight = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] not in COMPLETIONS:
            await self.app(scope, receive, send)
            return
        if self.in_flight - self.seats > self.seats:
            rejected.inc()
            await refuse(send)
            return
        self.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.in_flight -= 1


async def refuse(send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(REFUSAL)).encode())]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})
