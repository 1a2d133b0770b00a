"""Collects the metrics of the queue and of every worker from Redis at each scrape; any API process gives the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError

from common.embedding.embedders import Embedders
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs.queue_metrics import QueueMetrics, read_queue_metrics
from common.jobs.waiting_work import WaitingWork, read_waiting_work
from common.observation.metrics_store import Family, MetricsStore
from common.training.trainers import TrainerReport, Trainers


class FleetMetrics(Collector):
    """Collects the metrics in Redis; if Redis does not answer, only the fact that it does not."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def collect(self) -> Iterable[Metric]:
        """Return the current metrics."""
        try:
            queue = read_queue_metrics(self._redis)
            work = read_waiting_work(self._redis, queue.waiting)
            workers = Fleet(self._redis).workers()
            trainers = Trainers(self._redis).live()
            embedders = Embedders(self._redis).live()
            ids = [*(one.id for one in workers), *(one.id for one in trainers), *(one.id for one in embedders)]
            metrics = MetricsStore(self._redis).read(ids)
        except RedisError:
            return [_redis_up(0)]
        of_processes = [*_of_workers(workers), *_of_trainers(trainers), _of_embedders(len(embedders))]
        return [_redis_up(1), *_of_queue(queue), *_of_waiting(work), *of_processes, *_merged(metrics)]


class NoFleet(Collector):
    """Reports that Redis is away."""

    def collect(self) -> Iterable[Metric]:
        """Return the one metric."""
        return [_redis_up(0)]


def _redis_up(value: int) -> Metric:
    return GaugeMetricFamily("slm_redis_up", "Whether the job store answered this scrape.", value=value)


def _of_queue(queue: QueueMetrics) -> Iterable[Metric]:
    waiting = GaugeMetricFamily("slm_num_requests_waiting", "Jobs waiting in the queue.", labels=["lane"])
    running = GaugeMetricFamily("slm_jobs_running", "Jobs claimed by a worker.", labels=["lane"])
    ended = CounterMetricFamily("slm_jobs", "Jobs that ended.", labels=["kind", "state"])
    for family, counts in ((waiting, queue.waiting), (running, queue.running)):
        for lane, count in counts.items():
            family.add_sample(family.name, _lane_labels(lane), count)
    for (kind, state), count in queue.ended.items():
        ended.add_metric([kind, state], count)
    happened = queue.happened
    return [
        waiting,
        running,
        ended,
        CounterMetricFamily("slm_failovers", "Attempts of jobs beyond their first.", value=happened["failovers"]),
        CounterMetricFamily(
            "slm_job_crashes", "Attempts that ended when their worker died.", value=happened["crashes"]
        ),
        CounterMetricFamily(
            "slm_jobs_quarantined", "Jobs set aside after their workers died.", value=happened["quarantined"]
        ),
        GaugeMetricFamily("slm_quarantine_size", "Jobs set aside at present.", value=queue.dead_letters),
    ]


def _of_waiting(work: Mapping[str, WaitingWork]) -> Iterable[Metric]:
    tokens = GaugeMetricFamily("slm_tokens_waiting", "The most tokens that the waiting jobs may need.", labels=["lane"])
    oldest = GaugeMetricFamily(
        "slm_oldest_wait_seconds", "Time since the oldest waiting job's creation.", labels=["lane"]
    )
    for lane, waiting in work.items():
        tokens.add_sample(tokens.name, _lane_labels(lane), waiting.tokens)
        oldest.add_sample(oldest.name, _lane_labels(lane), waiting.oldest_s)
    return [tokens, oldest]


def _lane_labels(lane: str) -> dict[str, str]:
    """Return the labels of a lane: its need, and if the base models have their own lanes, the base."""
    need, _, base = lane.partition(":")
    return {"lane": need, "base": base} if base else {"lane": need}


def _of_workers(workers: Sequence[WorkerReport]) -> Iterable[Metric]:
    by_state = GaugeMetricFamily("slm_workers", "Live workers, by their state.", labels=["state"])
    slots = GaugeMetricFamily("slm_worker_slots", "Generations the worker runs at once.", labels=["worker"])
    for state in WorkerState:
        by_state.add_metric([state.value], sum(one.state is state for one in workers))
    for one in workers:
        slots.add_sample(slots.name, {"worker": one.id} | ({"base": one.base} if one.base else {}), one.slots)
    return [by_state, slots]


def _of_trainers(trainers: Sequence[TrainerReport]) -> Iterable[Metric]:
    busy = sum(one.job_id is not None for one in trainers)
    return [
        GaugeMetricFamily("slm_training_trainers", "Live trainers.", value=len(trainers)),
        GaugeMetricFamily("slm_training_trainers_busy", "Trainers that run a job.", value=busy),
    ]


def _of_embedders(count: int) -> Metric:
    return GaugeMetricFamily("slm_embedding_embedders", "Live embedders.", value=count)


def _merged(by_worker: Mapping[str, Sequence[Family]]) -> Iterable[Metric]:
    """Return each of the workers' own metrics once, with the series of all workers."""
    metrics: dict[str, Metric] = {}
    for worker, families in by_worker.items():
        for family in families:
            metric = metrics.setdefault(family.name, Metric(family.name, family.help, family.kind))
            for sample in family.samples:
                metric.add_sample(sample.name, {"worker": worker, **sample.labels}, sample.value)
    return metrics.values()
