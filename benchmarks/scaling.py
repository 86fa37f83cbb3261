"""A sweep of many small jobs: throughput, overhead of each job, nothing lost, and what 1000 workers would ask for.

python -m benchmarks.scaling --page          # all of it; writes into docs/results/scaling.md
python -m benchmarks.scaling --quick         # few jobs
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import GOALS, Goal, Report, number, parser, table
from experiments.config import resolve
from experiments.farm import completed, farm_from
from experiments.marked_page import put
from experiments.run import run_experiment
from experiments.sweep import Sweep, Told, load_sweep, sweep
from experiments.sweep.table import write_table
from qgen.run import read_json

PAGE = Path("docs/results/scaling.md")
LIMIT_S = 0.3
WORKERS, JOB_S = 1000, 60.0
"""What is extrapolated to: so many workers, each with a job of so many seconds after the other."""

MANY = 100_000
"""Jobs of a sweep that files and tables are extrapolated to."""

NOTHING = {
    "name": "scaling",
    "description": "small jobs",
    "dataset": {"kind": "muon", "n": 600, "beam_energies": [100], "features": ["energy", "theta"]},
    "models": {"histogram": {"kind": "histogram"}},
    "evaluation": {"metrics": ["sliced_wasserstein"], "bootstrap": 2},
}
"""A job whose training takes milliseconds: what it takes is overhead."""

TRAINING = {
    **NOTHING,
    "models": {
        "born machine": {
            "kind": "born_machine",
            "bits": 4,
            "layers": 4,
            "objective": {"kind": "mmd"},
            "training": {"steps": 300, "batch_size": None, "validate_every": 300},
        }
    },
}
"""A job that trains for about a second."""

FILE_CALLS = (
    "open,openat,stat,lstat,newfstatat,statx,access,faccessat2,readlink,mkdir,rename,renameat2,unlink,unlinkat,rmdir,"
    "getdents64,flock,fsync"
)


@dataclass(frozen=True)
class Pace:
    """Seconds of a series of jobs.

    Args:
        first: until the first had ended, with the start of workers and imports.
        later: of a worker, for each further job; its training is part of it.
        cpu: processor seconds of all processes for each further job.
        training: wall seconds of a training.
        training_cpu: processor seconds of one.
    """

    first: float
    later: float
    cpu: float
    training: float
    training_cpu: float

    @property
    def overhead(self) -> float:
        """Wall seconds of a worker for each job after the first, beside the training."""
        return self.later - self.training


class Clock:
    """Notes when jobs end."""

    def __init__(self, workers: int) -> None:
        self.workers, self.began, self.ends = workers, time.perf_counter(), list[tuple[float, float]]()

    def __call__(self, *_: object) -> None:
        self.ends.append((time.perf_counter() - self.began, family_cpu()))

    def pace(self, results: list[Path]) -> Pace:
        """What was noted, with the trainings' own times from the runs' files."""
        warm = self.workers - 1  # each worker has a first job, with imports and compiling in it
        (first, cpu_first), (last, cpu_last) = self.ends[warm], self.ends[-1]
        later = len(self.ends) - self.workers
        measured = [read_json(path)["models"].values() for path in sorted(results, key=_when)[self.workers :]]
        return Pace(
            self.ends[0][0],
            self.workers * (last - first) / later,
            (cpu_last - cpu_first) / later,
            statistics.fmean(sum(model["train_seconds"] for model in models) for models in measured),
            statistics.fmean(sum(map(_train_cpu, models)) for models in measured),
        )


def _when(path: Path) -> int:
    return path.stat().st_mtime_ns


def _train_cpu(model: dict[str, Any]) -> float:
    """Processor seconds of a training; none of the truth on a model's cells, which is judged beside it."""
    found: float = model.get("cost", {}).get("train_cpu_seconds", 0.0)
    return found


def family() -> list[int]:
    """This process and all that descend from it."""
    found, new = [], [os.getpid()]
    while new:
        found += new
        new = [int(child) for pid in new for path in _tasks(pid) for child in _read(path / "children").split()]
    return found


def _tasks(pid: int) -> list[Path]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _read(path: Path) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return path.read_text()
    return ""


def family_cpu() -> float:
    """Processor seconds of this process and all that descend from it."""
    ticks = 0
    for pid in family():
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15])) if fields else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Megabytes of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", _read(Path(f"/proc/{pid}/status")))
    return int(found[1]) / 1024 if found else 0.0


# jobs


def swept(farm: str, workers: int, config: dict[str, Any], jobs: int) -> Pace:
    """A sweep over seeds on a farm."""
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(workers)
        found = sweep(config, {"seed": range(jobs)}, farm=farm, out=f"{folder}/sweep", told=Told(ended=clock))
        _check(found, jobs)
        return clock.pace(list(Path(folder).glob("sweep/jobs/*/results.json")))


def bare(config: dict[str, Any], folder: str, seed: int) -> int:
    """The same job without a sweep."""
    run_experiment(resolve({**config, "seeds": [seed]}), Path(folder) / str(seed))
    return seed


def by_pool(workers: int, config: dict[str, Any], jobs: int) -> Pace:
    """Peer: ``multiprocessing.Pool``, which loses a job when its process dies."""
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(workers)
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for _ in pool.imap_unordered(_bare, [(config, folder, seed) for seed in range(jobs)]):
                clock()
        return clock.pace(list(Path(folder).glob("*/results.json")))


def by_dask(workers: int, config: dict[str, Any], jobs: int) -> Pace:
    """Peer: bare ``Client.submit``, with which nobody holds back a worker of another lab or counts attempts."""
    from distributed import Client, LocalCluster, as_completed

    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(workers)
        with (
            LocalCluster(
                workers, 1, True, dashboard_address="127.0.0.1:0", memory_limit=0, local_directory=folder
            ) as cluster,
            Client(cluster) as client,
        ):
            place = Path(folder) / "runs"
            futures = [client.submit(bare, config, str(place), seed, pure=False) for seed in range(jobs)]
            for _ in as_completed(futures):
                clock()
        return clock.pace(list(place.glob("*/results.json")))


def _bare(arguments: tuple[dict[str, Any], str, int]) -> int:
    return bare(*arguments)


def _check(found: Sweep, jobs: int) -> tuple[int, int]:
    """How many jobs were lost, and how many begun more than once.

    Raises:
        ArithmeticError: some are lost.
    """
    if found.failures:
        raise ArithmeticError(f"{len(found.failures)} jobs failed, one of them: {found.failures[0].error}")
    folders = [path.parent for path in found.folder.glob("jobs/*/results.json")]
    rows = {(row["job"], row["model"], row["seed"], row["metric"]) for row in found.table.to_pylist()}
    lost = jobs - len(folders)
    if lost or len(rows) != found.table.num_rows or len({row[0] for row in rows}) != jobs:
        raise ArithmeticError(f"{lost} of {jobs} jobs are lost, or the table holds one twice")
    begun = [len((folder / "starts.jsonl").read_text().splitlines()) for folder in folders]
    return lost, sum(count > 1 for count in begun)


# sections


def pace(options: argparse.Namespace) -> Report:
    """Throughput and overhead, on one and two workers, beside peers."""
    jobs, rounds = (6, 1) if options.quick else (options.jobs, options.rounds)
    ways: dict[str, tuple[int, Callable[[dict[str, Any]], Pace]]] = {
        "sweep, here": (1, lambda config: swept("here", 1, config, jobs)),
        "sweep, processes=1": (1, lambda config: swept("processes=1", 1, config, jobs)),
        "sweep, processes=2": (2, lambda config: swept("processes=2", 2, config, jobs)),
        "sweep, dask=1": (1, lambda config: swept("dask=1", 1, config, jobs)),
        "sweep, dask=2": (2, lambda config: swept("dask=2", 2, config, jobs)),
        "multiprocessing.Pool(2), no sweep": (2, lambda config: by_pool(2, config, jobs)),
        "dask Client.submit, 2 workers, no sweep": (2, lambda config: by_dask(2, config, jobs)),
    }
    tables, goals = [], []
    for what, config in (("no training", NOTHING), ("a training", TRAINING)):
        found: dict[str, list[Pace]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (_, run) in ways.items():
                found[way].append(run(config))
        rows = []
        for way, (workers, _) in ways.items():
            middle = {
                name: statistics.median(getattr(one, name) for one in found[way])
                for name in ("first", "later", "training", "overhead", "cpu", "training_cpu")
            }
            beside = max(0.0, middle["cpu"] - middle["training_cpu"])
            cells = (middle["first"], workers / middle["later"], middle["training"], middle["overhead"], beside)
            rows.append([way, *map(number, cells)])
            if way.startswith("sweep"):
                goals.append(Goal(f"overhead per job, {way}, {what}", LIMIT_S, middle["overhead"], " s", most=True))
        header = ["first job, s", "jobs/s after it", "training, s", "overhead, s", "overhead, processor s"]
        tables.append(([f"{jobs} jobs, {what}", *header], rows))
    return Report(
        "Pace",
        f"Sweeps over seeds; medians where there are several rounds, here {rounds}. A job reads its configuration, "
        "simulates 600 muon events, fits or trains a model, draws as many events, judges them and writes eight files. "
        "The first job has the start of the workers and all imports in it. Overhead is what a worker takes for a job "
        "after its first, less the training: wall time, and processor time of all processes together (the scheduler's "
        "among it). Peers run the same jobs as runs of their own, without claims, table, retries or resuming; each "
        "rehearses and simulates its events anew, which a sweep does once.",
        tables,
        goals,
    )


def long_run(options: argparse.Namespace) -> Report:
    """Many small jobs through dask, one worker killed on the way."""
    jobs = 30 if options.quick else options.long
    samples: list[tuple[int, float, float, float]] = []
    killed: list[int] = []
    every = max(1, jobs // 20)

    def look(_: str, done: int, of: int) -> None:
        if done % every and done != of:
            return
        workers = [pid for pid in family()[1:] if resident(pid) > 100]
        samples.append((done, resident(os.getpid()), max(map(resident, workers), default=0.0), family_cpu()))
        if done >= jobs // 2 and not killed and workers:
            killed.append(workers[0])
            os.kill(workers[0], 9)

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        found = sweep(NOTHING, {"seed": range(jobs)}, farm="dask=2", out=f"{folder}/sweep", told=Told(ended=look))
        took = time.perf_counter() - began
        lost, doubled = _check(found, jobs)
        again = time.perf_counter()
        write_table(found.folder, load_sweep(found.folder).table)
        writing = time.perf_counter() - again
        size = (found.folder / "results.parquet").stat().st_size
        files = sum(1 for path in (found.folder / "jobs").rglob("*") if path.is_file()) / jobs
    chosen = [samples[round(place * (len(samples) - 1) / 4)] for place in range(5)]
    rows = [[str(done), *map(number, (own, worker))] for done, own, worker, _ in chosen]
    return Report(
        "Long run",
        f"{jobs} jobs through `dask=2` in {took:.0f} s, one worker killed by SIGKILL half-way: {lost} lost, "
        f"0 twice in the table, {doubled} begun twice (the one that the killed worker ran). Resident memory:",
        [
            (["jobs done", "client and scheduler, MB", "largest worker, MB"], rows),
            (
                ["what the folder holds", "measured", f"{MANY:,} jobs"],
                [
                    ["files per job", number(files), f"{MANY * files:,.0f} files"],
                    ["Parquet table, bytes per job", number(size / jobs), f"{size * MANY / jobs / 1e6:.0f} MB"],
                    [f"writing the tables of {jobs} jobs, s", number(writing), f"{writing * MANY / jobs:.0f} s"],
                ],
            ),
        ],
    )


def extrapolated(options: argparse.Namespace) -> Report:
    """What one job and one worker ask of scheduler, file system and memory, and what 1000 workers would."""
    tasks = 100 if options.quick else 4000
    seconds, cpu = _task_cost(tasks)
    imports, job = _file_calls("import"), _file_calls("jobs")
    sockets = _scheduler_sockets()
    loaded = _loaded_bytes()
    rate = WORKERS / JOB_S
    rows = [
        ["scheduler and client, processor ms per job", number(1e3 * cpu), f"{100 * rate * cpu:.1f} % of a core"],
        ["scheduler, jobs/s with 2 workers", number(1 / seconds), f"{rate:.1f} jobs/s are needed"],
        ["sockets of the scheduler per worker", number(sockets), f"{WORKERS * sockets:.0f} open files"],
        ["file calls of a start (imports)", _cell(imports), _cell(imports, WORKERS, " calls at once")],
        ["libraries and modules that a start maps, MB", number(loaded / 1e6), f"{WORKERS * loaded / 1e9:.0f} GB"],
        ["file calls per job", _cell(job), _cell(job, rate, " calls/s")],
    ]
    header = ["what", "measured", f"{WORKERS} workers, jobs of {JOB_S:.0f} s"]
    return Report(
        "What 1000 workers would ask for",
        "File calls are counted by strace: open, stat, access, readlink, mkdir, rename, unlink, readdir, flock and "
        "fsync; those of a job are the difference of 1 and 11 jobs in one process.",
        [(header, rows)],
    )


def _cell(calls: float | None, factor: float = 1.0, unit: str = "") -> str:
    return "not measured" if calls is None else f"{calls * factor:,.0f}{unit}"


def _task_cost(tasks: int) -> tuple[float, float]:
    """Wall seconds, and processor seconds of client and scheduler, of a job that does nothing."""
    with farm_from("dask=2").open() as executor:
        list(completed(executor, abs, [(1,)] * 20))
        began, cpu = time.perf_counter(), time.process_time()
        done = sum(outcome.value for outcome in completed(executor, abs, [(1,)] * tasks))
        if done != tasks:
            raise ArithmeticError(f"{tasks - done} of {tasks} tasks are lost")
        return (time.perf_counter() - began) / tasks, (time.process_time() - cpu) / tasks


def _file_calls(what: str) -> float | None:
    """File calls of a start, or of a job; None without strace."""
    if shutil.which("strace") is None:
        return None
    if what == "import":
        return _traced("import")
    return (_traced("11") - _traced("1")) / 10


def _traced(one: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "calls"
        trace = ["strace", "-f", "-c", "-o", str(log), "-e", f"trace={FILE_CALLS}"]
        subprocess.run([*trace, sys.executable, "-m", "benchmarks.scaling", "--one", one], check=True)
        total = [line.split() for line in log.read_text().splitlines() if line.endswith("total")]
        return float(total[0][3])


def _loaded_bytes() -> float:
    """Sizes of all files that a worker maps or imports."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", "files"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def _scheduler_sockets() -> float:
    """Files that a scheduler holds open for each worker."""
    with tempfile.TemporaryDirectory() as folder, _processes() as start:
        place = Path(folder) / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        scheduler = start("dask_scheduler", *options, "--scheduler-file", str(place))
        _until(place.exists)
        address = read_json(place)["address"]
        before = len(list(Path(f"/proc/{scheduler.pid}/fd").iterdir()))
        for _ in range(2):
            start("dask_worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", folder)
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            client.run(os.getpid)
        _until(lambda: not _client_left(scheduler.pid, before))
        return (len(list(Path(f"/proc/{scheduler.pid}/fd").iterdir())) - before) / 2


def _client_left(pid: int, before: int) -> bool:
    """Whether connections of a client are still being closed: the number of files still falls."""
    count = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    time.sleep(1.0)
    return len(list(Path(f"/proc/{pid}/fd").iterdir())) < count


@contextmanager
def _processes() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(command: str, *options: str) -> subprocess.Popen[bytes]:
        whole = [sys.executable, "-m", f"distributed.cli.{command}", *options]
        started.append(subprocess.Popen(whole, stderr=subprocess.DEVNULL))
        return started[-1]

    try:
        yield start
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("a scheduler of dask does not start")
        time.sleep(0.05)


def _one(what: str) -> None:
    """In a process of its own: the imports of a worker, sizes of what they load, or some jobs."""
    if what == "files":
        maps = {line.split()[-1] for line in _read(Path("/proc/self/maps")).splitlines() if "/" in line}
        modules = {module.__dict__.get("__cached__") for module in list(sys.modules.values())}
        paths = [Path(name) for name in maps | modules if isinstance(name, str) and Path(name).is_file()]
        print(sum(path.stat().st_size for path in paths))
    elif what != "import":
        swept_quietly(int(what))


def swept_quietly(jobs: int) -> None:
    """A sweep here, without its check."""
    with tempfile.TemporaryDirectory() as folder:
        sweep(NOTHING, {"seed": range(jobs)}, out=f"{folder}/sweep")


SECTIONS: dict[str, Callable[[argparse.Namespace], Report]] = {
    "pace": pace,
    "long": long_run,
    "limits": extrapolated,
}


def main() -> None:
    """Measure, and put each section into the page if that is asked for."""
    made = parser(__doc__)
    made.add_argument("--only", choices=SECTIONS, nargs="*", default=list(SECTIONS), help="these sections")
    made.add_argument("--jobs", type=int, default=40, help="jobs of each sweep that is timed (default: 40)")
    made.add_argument("--rounds", type=int, default=3, help="rounds of which medians are taken (default: 3)")
    made.add_argument("--long", type=int, default=1000, help="jobs of the long run (default: 1000)")
    made.add_argument("--page", action="store_true", help=f"put the figures into {PAGE}")
    made.add_argument("--one", metavar="WHAT", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.one is not None:
        _one(options.one)
        return
    for name in options.only:
        report = SECTIONS[name](options)
        goals = table(GOALS, [goal.row() for goal in report.goals]) if report.goals else ""
        print(report.markdown(), goals, sep="\n", flush=True)
        if options.page:
            asked = shlex.join(["python", "-m", "benchmarks.scaling", *sys.argv[1:]])
            facts = f"Written by `{asked}`; {os.cpu_count()} cores, {_load()}."
            tables = [table(header, rows) for header, rows in report.tables]
            put(PAGE, name, "\n\n".join(part for part in (facts, report.text, goals, *tables) if part))


def _load() -> str:
    """Whether others were at work: a figure taken beside them is too long."""
    return f"load {os.getloadavg()[1]:.1f} of the last five minutes"


if __name__ == "__main__":
    main()
