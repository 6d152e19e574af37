"""What `/metrics` shows, in Prometheus' text format. One registry per application, no global."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from service.tables import Job
from service.wiring import Service

JobCounts = Mapping[tuple[str, str], int]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one API process, and the gauges read off the database when asked."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "perfusion_http_requests_total",
            "Requests answered; status 0: the client went away first.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "perfusion_http_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.limited = Counter(
            "perfusion_limited_requests_total",
            "Requests refused by a limit.",
            registry=self._registry,
        )
        self.limiter_fallbacks = Counter(
            "perfusion_limiter_fallbacks_total",
            "Requests counted in this process alone, because the shared counter did not answer.",
            registry=self._registry,
        )
        self.streams = Gauge(
            "perfusion_event_streams", "Open event streams.", registry=self._registry
        )
        self._registry.register(_Jobs(lambda: _count_jobs(service)))

    def observe_request(self, method: str, route: str, *, status: int, seconds: float) -> None:
        """Count one request under its route's template."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """The whole registry in the text format."""
        return generate_latest(self._registry)


class _Jobs(Collector):
    """Jobs by kind and status, as the database has them now."""

    def __init__(self, count: Callable[[], JobCounts]) -> None:
        self._count = count

    def describe(self) -> Iterable[Metric]:
        """Name the metric without reading the database, which may not be there yet."""
        return [_job_gauge()]

    def collect(self) -> Iterable[Metric]:
        """Read the database."""
        gauge = _job_gauge()
        for (kind, status), count in self._count().items():
            gauge.add_metric([kind, status], count)
        yield gauge


def _count_jobs(service: Service) -> JobCounts:
    with service.database.read() as session:
        counted = select(Job.kind, Job.status, func.count()).group_by(Job.kind, Job.status)
        rows = session.execute(counted)
        return {(kind.value, status.value): count for kind, status, count in rows}


def _job_gauge() -> GaugeMetricFamily:
    return GaugeMetricFamily("perfusion_jobs", "Jobs in the database.", labels=["kind", "status"])
