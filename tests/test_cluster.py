"""Batches on Dask: workers that are killed, a scheduler that is started again, tables."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import viscera
from tests.pacs_peers import free_port
from viscera.batch.cluster import (
    ClusterOptions,
    PredictorSettings,
    run_batch_on_cluster,
    segment_on_worker,
)
from viscera.batch.options import BatchCallbacks, BatchOptions
from viscera.batch.outputs import OutputOptions
from viscera.batch.plan import plan_batch
from viscera.errors import OutputError, PeerError, UsageError, VisceraError
from viscera.io.write import write_volume

# 200 by hand, see docs/throughput.md.
CASES = int(os.environ.get("VISCERA_CLUSTER_CASES", "60"))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """A folder of small phantoms: a few made, the others their copies under other names."""
    folder = tmp_path_factory.mktemp("phantoms")
    for n in range(CASES):
        path = folder / f"p{n:03d}.nii.gz"
        if n < 4:
            volume, _ = viscera.make_phantom(n, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
            write_volume(path, volume)
        else:
            path.write_bytes((folder / f"p{n % 4:03d}.nii.gz").read_bytes())
    return folder


class Processes:
    """A Dask scheduler and its workers, each a process, as a cluster has them."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.port, self._folder, self._workers = free_port(), folder, workers
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.scheduler = self._run("scheduler", "--host", "127.0.0.1", "--port", str(self.port),
                                   "--no-dashboard")  # fmt: skip
        self.workers = [
            self._run("worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
            for _ in range(self._workers)
        ]

    def _run(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [Path(sys.executable).with_name("dask"), *words],
            cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def add_worker(self) -> None:
        self.workers.append(
            self._run("worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
        )

    def stop(self, kind: int = signal.SIGKILL) -> None:
        for process in (self.scheduler, *self.workers):
            process.send_signal(kind)
        for process in (self.scheduler, *self.workers):
            process.wait()


@pytest.fixture
def processes(tmp_path):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    made = Processes(tmp_path, 2)
    yield made
    made.stop()


def labels_of(folder):
    return sorted(path.name for path in folder.glob("p*.nii.gz"))


@pytest.mark.slow
def test_all_are_done_each_once_whatever_dies(processes, phantoms, tmp_path):
    """A worker is killed in the middle; then the scheduler, which is started again."""
    out = tmp_path / "out"
    plan = plan_batch([phantoms], out)
    options = BatchOptions(outputs=OutputOptions(cohort=("csv",)))
    seen, problems, connected = [], [], []

    def fail_things():
        try:
            while len(labels_of(out)) < CASES // 6:
                time.sleep(0.02)
            processes.workers[0].kill()
            processes.add_worker()
            while len(labels_of(out)) < CASES // 3:
                time.sleep(0.02)
            processes.stop()
            time.sleep(1)
            processes.start()
        except Exception as error:  # a failure of the test itself
            problems.append(error)

    thread = threading.Thread(target=fail_things, daemon=True)
    thread.start()
    results = run_batch_on_cluster(
        plan,
        PredictorSettings("phantom", threads=1),
        options,
        BatchCallbacks(on_result=seen.append),
        ClusterOptions(processes.address, patience_s=60),
        on_connect=lambda _dashboard, _workers: connected.append(len(seen)),
    )
    thread.join(timeout=60)
    assert problems == []
    assert len(connected) == 2  # the scheduler went away in the middle
    assert connected[1] < CASES
    assert [result.error for result in results] == [None] * CASES
    assert len(labels_of(out)) == CASES
    assert sorted(result.case.name for result in seen) == sorted(c.name for c in plan.cases)
    with (out / "cohort.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == CASES * 13
    assert {row["case"] for row in rows} == {case.name for case in plan.cases}
    assert not (out / "failures.csv").exists()
    for case in plan.cases:
        assert json.loads((out / ".viscera" / f"{case.name}.json").read_text())["complete"] is True
    # Once more, alone: all of it is finished, so nothing was left half done.
    again = viscera.segment_batch(
        phantoms, out, predictor=viscera.Predictor("phantom", threads=1),
        outputs=OutputOptions(cohort=("csv",)),
    )  # fmt: skip
    assert all(result.was_finished for result in again)


@pytest.mark.slow
def test_the_command_uses_the_processors_of_this_machine(phantoms, tmp_path):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, of the extra cluster")
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(phantoms.iterdir())[:6]:
        (few / path.name).write_bytes(path.read_bytes())
    (few / "bad.nii.gz").write_bytes(b"no scan")
    done = subprocess.run(
        [sys.executable, "-m", "viscera", "segment", str(few), "-o", str(tmp_path / "out"),
         "-b", "phantom", "--cluster", "local", "--workers", "2", "--threads", "1",
         "--cohort", "parquet", "--cohort", "csv"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert "2 workers; Dask's dashboard: http://127.0.0.1:" in done.stderr
    assert "7 cases: 6 segmented, 1 failed" in done.stderr
    assert "an hour" in done.stderr
    table = parquet.read_table(tmp_path / "out" / "cohort.parquet")
    assert table.num_rows == 6 * 13
    assert str(table.schema.field("volume_ml").type) == "double"
    one = viscera.segment(few / "p003.nii.gz", bundle="phantom").volumes_ml()["liver"]
    (row,) = [row for row in table.to_pylist() if row["case"] == "p003" and row["organ"] == "liver"]
    assert row["volume_ml"] == pytest.approx(one, rel=1e-3)
    assert "bad.nii.gz" in (tmp_path / "out" / "failures.csv").read_text()


def test_a_scheduler_that_is_not_there_is_said(phantoms, tmp_path):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    plan = plan_batch([phantoms], tmp_path / "out")
    nobody = f"tcp://127.0.0.1:{free_port()}"
    for address, error in ((nobody, PeerError), ("nonsense://x", UsageError)):
        with pytest.raises(error, match="a Dask scheduler"):
            run_batch_on_cluster(
                plan, PredictorSettings("phantom"), BatchOptions(), BatchCallbacks(),
                ClusterOptions(address, patience_s=0),
            )  # fmt: skip


@pytest.mark.slow
def test_two_calls_on_one_scheduler_do_not_share_cases(processes, phantoms, tmp_path):
    """Folders whose scans have the same names, at the same time."""
    results = {}
    paths = sorted(phantoms.iterdir())

    def call(n):
        folder = tmp_path / f"in{n}"
        folder.mkdir()
        (folder / "scan.nii.gz").write_bytes(paths[n].read_bytes())
        (folder / "other.nii.gz").write_bytes(paths[n].read_bytes())
        plan = plan_batch([folder], tmp_path / f"out{n}")
        results[n] = run_batch_on_cluster(
            plan, PredictorSettings("phantom", threads=1), BatchOptions(), BatchCallbacks(),
            ClusterOptions(processes.address),
        )  # fmt: skip

    threads = [threading.Thread(target=call, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(2):
        assert [result.error for result in results[n]] == [None, None]
        assert (tmp_path / f"out{n}" / "scan.nii.gz").exists()


def test_a_fault_on_a_worker_is_the_result_of_its_case(phantoms, tmp_path):
    """The batch goes on; the text of the fault, which may name a patient, is left out."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    (case,) = plan_batch([phantoms / "p000.nii.gz"], tmp_path / "out", many=True).cases
    # No worker of Dask runs this, which is a fault that nobody foresaw.
    result = segment_on_worker(case, PredictorSettings("phantom"), BatchOptions())
    assert result.error.exit_code == 1
    assert str(result.error).endswith("found ValueError; report it")
    assert str(phantoms) not in repr(case)


def test_workers_belong_to_this_machine():
    with pytest.raises(UsageError, match="workers"):
        ClusterOptions("tcp://127.0.0.1:8786", workers=2).check()
    ClusterOptions("tcp://127.0.0.1:8786").check()
    ClusterOptions(workers=2).check()


def test_a_table_of_the_batch_knows_finished_cases_too(phantoms, tmp_path):
    """A second call with more cases; failures have no rows."""
    few = tmp_path / "few"
    few.mkdir()
    paths = sorted(phantoms.iterdir())
    predictor = viscera.Predictor("phantom")
    for count in (1, 2):
        (few / paths[count].name).write_bytes(paths[count].read_bytes())
        viscera.segment_batch(
            few, tmp_path / "out", predictor=predictor, outputs=OutputOptions(cohort=("csv",))
        )
        with (tmp_path / "out" / "cohort.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 13 * count
    liver = next(row for row in rows if row["organ"] == "liver")
    assert float(liver["volume_ml"]) > 1000
    assert float(liver["seconds"]) > 0
    assert liver["verdict"] == "good"
    (tmp_path / "out" / "cohort.csv").write_text("mine\n")
    with pytest.raises(OutputError, match="rename it"):
        viscera.segment_batch(
            few, tmp_path / "out", predictor=predictor, outputs=OutputOptions(cohort=("csv",))
        )
    assert (tmp_path / "out" / "cohort.csv").read_text() == "mine\n"
    with pytest.raises(UsageError, match="csv, parquet"):
        viscera.segment_batch(few, tmp_path / "out", outputs=OutputOptions(cohort=("excel",)))


def test_a_list_names_scans(phantoms, tmp_path):
    from viscera.errors import InputError

    paths = sorted(phantoms.iterdir())[:2]
    text = f"# two scans\n{paths[0]}\n\nbeside.nii.gz\n"
    (tmp_path / "scans.txt").write_text(text)
    (tmp_path / "beside.nii.gz").write_bytes(paths[1].read_bytes())
    plan = plan_batch([tmp_path / "scans.txt"], tmp_path / "out")
    assert [case.source for case in plan.cases] == [paths[0], tmp_path / "beside.nii.gz"]
    (tmp_path / "scans.txt").write_text("beside.nii.gz\n")
    one = plan_batch([tmp_path / "scans.txt"], tmp_path / "out")
    assert one.folder == tmp_path / "out"  # the last of many lists may have one line
    with pytest.raises(VisceraError):
        plan_batch([tmp_path / f"{'x' * 300}.txt"], tmp_path / "out")
    (tmp_path / "scans.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match="a path a line"):
        plan_batch([tmp_path / "scans.txt"], tmp_path / "out")
