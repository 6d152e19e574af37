"""The clients during the chaos: they order, repeat orders, cancel, and note each answer."""

import io
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2 as httpx
from PIL import Image

from tests.integration.stack.deployment import Api

_PATIENCE_SECONDS = 120
# The promise is that no request hangs; this is the time after which a client gives up.
_ANSWER_SECONDS = 30


@dataclass
class Order:
    """One job that a client wants, sent under one idempotency key until it is accepted."""

    key: str
    kind: str
    steps: int
    at_seconds: float
    repeats: int
    cancel_after_seconds: float | None
    job_ids: set[str] = field(default_factory=set)  # more than one id is a violation
    cancelled: bool = False  # the server has accepted the cancellation


class Clients:
    """The clients, with one thread per order."""

    def __init__(self, apis: Sequence[Api], orders: Sequence[Order], *, webhook: str) -> None:
        self._apis = apis
        self._webhook = {"url": webhook}
        self._began = time.monotonic()
        self.orders = orders
        self.slowest_seconds = 0.0
        self.refused: dict[int, int] = {}
        self.problems: list[str] = []
        self._threads = [
            threading.Thread(target=self._place, args=(order,), daemon=True) for order in orders
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until every order is accepted and every cancellation answered."""
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS + 60)

    def _place(self, order: Order) -> None:
        choose = random.Random(order.key)
        time.sleep(max(0.0, self._began + order.at_seconds - time.monotonic()))
        try:
            for _ in range(1 + order.repeats):
                self._send(order, choose)
            if order.cancel_after_seconds is not None:
                time.sleep(order.cancel_after_seconds)
                self._cancel(order, choose)
        except Exception as error:
            self.problems.append(f"{order.key}: {error!r}")

    def _send(self, order: Order, choose: random.Random) -> None:
        answer = self._retry_while_unavailable(choose, lambda api: _post(api, order, self._webhook))
        if answer.status_code != 202:
            self.problems.append(f"{order.key} was answered {answer.status_code}: {answer.text}")
        else:
            order.job_ids.add(answer.json()["job"]["id"])

    def _cancel(self, order: Order, choose: random.Random) -> None:
        (job_id,) = order.job_ids
        answer = self._retry_while_unavailable(
            choose, lambda api: api.http.post(f"/jobs/{job_id}/cancel")
        )
        if answer.status_code not in (202, 409):
            self.problems.append(f"cancelling {job_id} was answered {answer.status_code}")
        order.cancelled = answer.status_code == 202

    def _retry_while_unavailable(self, choose: random.Random, send: "object") -> httpx.Response:
        """Send the request until the answer is not "not now"."""
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            began = time.monotonic()
            try:
                answer: httpx.Response = send(choose.choice(self._apis))  # type: ignore[operator]
            except httpx.TimeoutException:
                self.problems.append(f"no answer within {_ANSWER_SECONDS} s")
            except httpx.TransportError:
                pass  # this API was killed, or has not started yet
            else:
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
                status = answer.status_code
                if status not in (429, 503):
                    return answer
                if "retry-after" not in answer.headers:
                    self.problems.append(f"a {status} without Retry-After")
                self.refused[status] = self.refused.get(status, 0) + 1
            time.sleep(0.5)
        raise TimeoutError(f"not accepted within {_PATIENCE_SECONDS} s")


def orders(seed: int, *, count: int, seconds: float) -> list[Order]:
    """Return a seed's orders: a sixth are trainings, a third repeated, and a sixth cancelled."""
    choose = random.Random(f"orders-{seed}")
    made = []
    for n in range(count):
        cancelled = n % 6 == 1
        made.append(
            Order(
                key=f"seed-{seed}-order-{n}",
                kind="train" if n % 6 == 0 else "generate",
                steps=choose.randint(8, 25),
                at_seconds=choose.uniform(0, seconds),
                repeats=choose.randint(1, 2) if n % 3 == 0 else 0,
                # A quick machine has ended most jobs after a second, so every other one is at once.
                cancel_after_seconds=choose.uniform(0, 3) * (n % 12 != 1) if cancelled else None,
            )
        )
    return made


def _post(api: Api, order: Order, webhook: dict[str, str]) -> httpx.Response:
    headers = {"Idempotency-Key": order.key}
    if order.kind == "generate":
        body = {
            "prompt": "a boat",
            "num_inference_steps": order.steps,
            "seed": 1,
            "webhook": webhook,
        }
        return api.http.post("/generate", json=body, headers=headers, timeout=_ANSWER_SECONDS)
    return api.http.post(
        "/concepts",
        data={
            "name": order.key,
            "superclass": "boat",
            "training": json.dumps({"max_train_steps": order.steps}),
            "webhook": json.dumps(webhook),
        },
        files=[("images", ("0.png", _PICTURE))],
        headers=headers,
        timeout=_ANSWER_SECONDS,
    )


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), "teal").save(file, "PNG")
    return file.getvalue()


_PICTURE = _picture()
