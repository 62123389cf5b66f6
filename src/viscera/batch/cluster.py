"""A batch on Dask: workers of this machine, or of a cluster that shares its folders.

Dask hands out the cases and runs them again when a worker dies. That each is done once follows from
leases and records in the output folder, as for any batch: Dask may run a case twice, and the second
run finds it finished.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from viscera.batch.batch_files import check_batch, finish_batch
from viscera.batch.options import BatchCallbacks, BatchOptions, CaseResult
from viscera.batch.plan import BatchCase, BatchPlan
from viscera.batch.run import run_case
from viscera.bundle.spec import Precision
from viscera.errors import (
    PeerError,
    ResourceError,
    UnexpectedError,
    UsageError,
    VisceraError,
    option,
)
from viscera.predictor import Predictor
from viscera.runtime.extras import require_extra
from viscera.runtime.resources import means_no_memory, no_memory_error, thread_count

_THREADS_A_WORKER = 2
_RETRIES = 3
_FIRST_PATIENCE_S = 30.0  # for a scheduler that never was there
_MOST_ROUNDS = 5
_RUNNING = threading.Lock()  # one case at a time in a process, whatever Dask's threads


@dataclass(frozen=True)
class PredictorSettings:
    """What a `Predictor` is made from, in each process anew; see there.

    Attributes:
        bundle: folder or name.
        engine: auto, openvino or onnxruntime.
        threads: CPU threads.
        memory_limit_mb: most memory a process may take.
        precision: f32 or bf16.
        overlap: share of a window that neighbours share.
        low_memory: windows no larger than the bundle's.
    """

    bundle: str = "default"
    engine: str = "auto"
    threads: int | None = None
    memory_limit_mb: float | None = None
    precision: Precision | None = None
    overlap: float | None = None
    low_memory: bool = False

    def open(self) -> Predictor:
        """A predictor with these settings."""
        return Predictor(
            self.bundle,
            engine=self.engine,
            threads=self.threads,
            memory_limit_mb=self.memory_limit_mb,
            precision=self.precision,
            overlap=self.overlap,
            low_memory=self.low_memory,
        )


@dataclass(frozen=True)
class ClusterOptions:
    """Where the workers are.

    Attributes:
        scheduler: address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``; empty for workers
            of this machine.
        workers: of this machine; by default one for two CPUs.
        patience_s: how long a scheduler that went away is waited for.
    """

    scheduler: str = ""
    workers: int | None = None
    patience_s: float = 600.0

    def check(self) -> None:
        """Check that they go together.

        Raises:
            UsageError: a number of workers for a scheduler that has its own.
        """
        if self.scheduler and self.workers is not None:
            raise UsageError(
                f"{option('scheduler')} or {option('workers')}",
                found="both",
                remedy="start the workers where the scheduler is",
            )


def run_batch_on_cluster(
    plan: BatchPlan,
    settings: PredictorSettings,
    options: BatchOptions,
    callbacks: BatchCallbacks,
    cluster: ClusterOptions,
    *,
    on_connect: Callable[[str, int], None] = lambda _dashboard, _workers: None,
) -> tuple[CaseResult, ...]:
    """Segment the cases of a plan on a cluster, see `run_batch`.

    Scans, bundle and output folder must have the same paths on all machines.

    Args:
        plan: the cases and their folder.
        settings: of the network that each worker loads once.
        options: what is done with each case.
        callbacks: `on_result` is called with each case.
        cluster: where the workers are.
        on_connect: takes the address of Dask's dashboard, and how many workers there are.

    Raises:
        UsageError: options that contradict each other.
        OutputError: the folder is not writable.
        PeerError: no scheduler answers.
        MissingExtraError: a package of the extra `cluster` is not installed.
    """
    require_extra("distributed")
    cluster.check()
    options.check(settings.open())
    check_batch(plan, options)
    settings = _from_anywhere(settings, cluster)
    results: dict[BatchCase, CaseResult] = {}
    patience_s, rounds = min(_FIRST_PATIENCE_S, cluster.patience_s), 0
    while len(results) < len(plan.cases):
        # Again when the scheduler went away: what it had finished is found finished.
        remaining = [case for case in plan.cases if case not in results]
        if rounds == _MOST_ROUNDS:
            raise PeerError(
                "a Dask scheduler that stays",
                found=f"one that went away {rounds} times without a result",
                remedy="see its log, and run again",
                where=cluster.scheduler or None,
            )
        rounds += 1
        with _client(cluster, settings, patience_s) as client:
            on_connect(str(client.dashboard_link), len(client.scheduler_info()["workers"]))
            for case, result in _run_cases(client, remaining, settings, options):
                results[case], rounds = result, 0
                callbacks.on_result(result)
        patience_s = cluster.patience_s
    finish_batch(plan, results, options)
    return tuple(results[case] for case in plan.cases)


def _from_anywhere(settings: PredictorSettings, cluster: ClusterOptions) -> PredictorSettings:
    """The same, for processes in another current folder."""
    bundle = settings.bundle
    if Path(bundle).is_dir():
        bundle = str(Path(bundle).resolve())
    threads = settings.threads
    if threads is None and not cluster.scheduler:
        threads = min(_THREADS_A_WORKER, thread_count(None))
    return replace(settings, bundle=bundle, threads=threads)


@contextmanager
def _client(
    cluster: ClusterOptions, settings: PredictorSettings, patience_s: float
) -> Iterator[Any]:
    """A client of the scheduler, or of workers that this call starts.

    Raises:
        PeerError: no scheduler answers in time.
    """
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if not cluster.scheduler:
            # Dask would hold libraries to one thread, and have memory given back at each turn.
            stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": {}}))
            threads = settings.threads or 1
            local = LocalCluster(
                n_workers=cluster.workers or max(1, thread_count(None) // threads),
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            )
            stack.enter_context(local)
            yield stack.enter_context(Client(local))
            return
        end_s = time.monotonic() + patience_s
        while True:
            try:
                client = Client(cluster.scheduler, timeout=min(10, patience_s + 1))
                break
            except (OSError, TimeoutError) as error:
                if time.monotonic() > end_s:
                    raise PeerError(
                        "a Dask scheduler",
                        found=f"none that answers within {patience_s:.0f} s",
                        remedy="start it, or check the address and TLS",
                        where=cluster.scheduler,
                    ) from error
                time.sleep(1)
            except (ValueError, TypeError, AssertionError) as error:  # Dask's, on such addresses
                raise UsageError(
                    "the address of a Dask scheduler, such as tcp://10.0.0.1:8786",
                    found=repr(cluster.scheduler),
                    remedy="write it so; tls:// needs certificates in Dask's configuration",
                ) from error
        yield stack.enter_context(client)


def _run_cases(
    client: Any, cases: list[BatchCase], settings: PredictorSettings, options: BatchOptions
) -> Iterator[tuple[BatchCase, CaseResult]]:
    """Results as they come; those of a scheduler that goes away are left out."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, as_completed
    from distributed.comm import CommClosedError

    run = secrets.token_hex(8)
    futures: Mapping[Any, BatchCase] = {
        client.submit(
            segment_on_worker,
            _absolute(case),
            settings,
            options,
            key=f"viscera-{run}-{case.name}",  # other calls may have cases of this name
            retries=_RETRIES,
        ): case
        for case in cases
    }
    for future in as_completed(list(futures)):
        case = futures[future]
        try:
            result = future.result()
        except (CancelledError, CommClosedError):
            return  # of the scheduler
        except KilledWorker:
            result = CaseResult(case, error=_no_worker_lived(case))
        except Exception as error:  # Dask's own, such as a worker without viscera
            result = CaseResult(case, error=UnexpectedError.of(error, case.shown))
        yield case, replace(result, case=case)


def _no_worker_lived(case: BatchCase) -> ResourceError:
    return ResourceError(
        "a worker that lives until the case is done",
        found="workers that died, several times",
        remedy=f"give each more memory, or pass {option('low_memory', True)}",
        where=case.shown,
    )


def _absolute(case: BatchCase) -> BatchCase:
    return replace(case, source=case.source.resolve(), labels_path=case.labels_path.resolve())


def segment_on_worker(
    case: BatchCase, settings: PredictorSettings, options: BatchOptions
) -> CaseResult:
    """One case, in a process of a cluster.

    Args:
        case: the scan, and where its labels go.
        settings: of the network, loaded with the first case.
        options: what is done with it.
    """
    try:
        with _RUNNING:
            return run_case(case, _predictor(_within_limit(settings)), options)
    except VisceraError as error:
        return CaseResult(case, error=error)
    except Exception as error:  # of this case; the batch goes on
        if means_no_memory(error):
            return CaseResult(case, error=no_memory_error(case.shown))
        return CaseResult(case, error=UnexpectedError.of(error, case.shown))


@lru_cache(maxsize=2)
def _predictor(settings: PredictorSettings) -> Predictor:
    return settings.open()


def _within_limit(settings: PredictorSettings) -> PredictorSettings:
    """The same with the memory that Dask gives this worker, if that is less."""
    from distributed import get_worker

    limit = get_worker().memory_manager.memory_limit
    if not limit:
        return settings
    # Dask pauses a worker at four fifths of its limit and ends it at 95 %.
    limit_mb = 0.8 * limit / 1e6
    return replace(settings, memory_limit_mb=min(settings.memory_limit_mb or limit_mb, limit_mb))
