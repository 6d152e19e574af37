"""The thread that sends the webhooks of ended jobs, in every worker and every API process.

Each message is sent in a thread of its own. There are few such threads, and few for one owner and
one receiver, so that a slow receiver delays neither the other receivers nor the repairs of jobs.
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from time import monotonic

import structlog

from service.errors import Unavailable
from service.webhooks import messages, outbox, signatures
from service.webhooks.outbox import Candidate, Taken
from service.wiring import Service
from worker.webhooks import delivery
from worker.webhooks.delivery import Outcome

_MOST_AT_ONCE = 16
_MOST_PER_OWNER = 4
# Of one owner, because owners may share a receiver.
_MOST_PER_HOST = 2
# A lease covers the receiver's time, resolving its name, and the writes before and after.
_LEASE_MARGIN_SECONDS = 15.0
_STOP_SECONDS = 5.0
_log = structlog.get_logger("perfusion.webhooks")


class WebhookSender:
    """A thread that looks for due messages, and the threads that send them."""

    def __init__(self, service: Service, *, post: Callable[..., Outcome] = delivery.post) -> None:
        self._service = service
        self._post = post
        self._stopped = Event()
        self._look_now = Event()
        self._lock = Lock()
        self._sending: dict[str, Taken] = {}
        self._more_wait = False
        self._thread = Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking, and give the messages that are being sent a moment to end.

        Another process sends what does not end in time.
        """
        self._stopped.set()
        self._look_now.set()
        give_up_at = monotonic() + _STOP_SECONDS
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        while self._now_sending() and monotonic() < give_up_at:
            self._look_now.clear()
            self._look_now.wait(0.1)

    def _run(self) -> None:
        pause = self._service.settings.reconcile_seconds
        while not self._stopped.is_set():
            began = monotonic()
            self._guarded(self._pass)
            # Looking at many waiting messages takes the database a while, so it gets a rest.
            self._stopped.wait(min(pause, 2 * (monotonic() - began)))
            self._look_now.wait(pause)
            self._look_now.clear()

    def _pass(self) -> None:
        """Take the messages that are due, as many as may be sent now, and begin to send them."""
        sending = self._now_sending()
        if len(sending) >= _MOST_AT_ONCE:
            return
        per_owner = Counter(each.owner_id for each in sending)
        per_host = Counter((each.owner_id, each.host) for each in sending)
        due = outbox.candidates(
            self._service,
            most_per_owner=_MOST_PER_OWNER,
            most_per_host=_MOST_PER_HOST,
            full_owners=[owner for owner, n in per_owner.items() if n >= _MOST_PER_OWNER],
            full_hosts=[pair for pair, n in per_host.items() if n >= _MOST_PER_HOST],
        )
        chosen = _choose(due, per_owner, per_host, most=_MOST_AT_ONCE - len(sending))
        # If so, the end of a message makes room for another at once.
        self._more_wait = bool(chosen)
        if not chosen:
            return
        lease_seconds = self._service.settings.webhook_seconds + _LEASE_MARGIN_SECONDS
        for taken in outbox.take(self._service, chosen, lease_seconds=lease_seconds):
            with self._lock:
                self._sending[taken.id] = taken
            Thread(target=self._send, args=(taken,), name="webhook", daemon=True).start()

    def _send(self, taken: Taken) -> None:
        try:
            self._guarded(lambda: self._attempt(taken))
        finally:
            with self._lock:
                del self._sending[taken.id]
            if self._more_wait:
                self._look_now.set()

    def _attempt(self, taken: Taken) -> None:
        service, settings = self._service, self._service.settings
        body = messages.of_job(service, taken.job_id)
        if body is None:  # the job was deleted, and the message's row with it
            return
        headers = signatures.headers(
            service, taken.owner_id, message_id=taken.id, body=body, at=datetime.now(UTC)
        )
        began = monotonic()
        outcome = self._post(
            taken.url,
            headers=headers,
            body=body,
            private=settings.webhooks_private,
            seconds=settings.webhook_seconds,
        )
        # Without the URL, because its path or query may hold a secret of the receiver.
        told = {
            "webhook_id": taken.id,
            "job_id": taken.job_id,
            "host": taken.host,
            "attempt": taken.attempt,
            "outcome": outcome.what,
            "seconds": round(monotonic() - began, 3),
        }
        if outcome.is_delivered:
            outbox.delivered(service, taken, outcome=outcome.what)
            _log.info("webhook.delivered", **told)
        else:
            outbox.failed(service, taken, outcome=outcome.what, is_final=outcome.is_final)
            _log.info("webhook.not_delivered", **told)

    def _now_sending(self) -> list[Taken]:
        with self._lock:
            return list(self._sending.values())

    def _guarded(self, do: Callable[[], None]) -> None:
        """Survive every error: a message whose attempt is not recorded is sent again."""
        try:
            do()
        except Unavailable as error:
            _log.warning("webhooks.fault", problem=error.slug)
        except Exception:
            _log.exception("webhooks.failed")


def _choose(
    due: list[Candidate],
    per_owner: Counter[str],
    per_host: Counter[tuple[str, str]],
    *,
    most: int,
) -> list[str]:
    """Return the ids of the first messages that exceed no limit; count them."""
    chosen: list[str] = []
    for candidate in due:
        pair = (candidate.owner_id, candidate.host)
        if len(chosen) == most:
            break
        if per_owner[candidate.owner_id] < _MOST_PER_OWNER and per_host[pair] < _MOST_PER_HOST:
            chosen.append(candidate.id)
            per_owner[candidate.owner_id] += 1
            per_host[pair] += 1
    return chosen
