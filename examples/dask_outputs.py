"""Count words over the outputs of many jobs, side by side, with Dask.

    python examples/dask_outputs.py --pattern '**/*.md' --report jobfs://JOB/words.csv JOB JOB JOB

Without jobs, those of all jobs are taken that have such files. Server and key are found as the command line finds them.
The cluster here is of threads in this process, or of processes of this machine with ``--processes``; with the address
of another one, ``Client("tcp://...")``, nothing else changes: each worker reads what it needs by itself, and needs
``JOBFS_URL`` and ``JOBFS_API_KEY`` in its environment.

Needs ``pip install 'jobfs[fsspec]' 'dask[distributed]'``.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator, Sequence

import dask.bag
import fsspec
from dask.distributed import Client, LocalCluster

MOST = 10


def outputs(jobs: Sequence[str], pattern: str) -> list[str]:
    """Return the addresses of all files that match, of these jobs or of every one."""
    fs = fsspec.filesystem("jobfs")
    found = [path for job in jobs or ["*"] for path in fs.glob(f"{job}/{pattern}")]
    return [fs.unstrip_protocol(path) for path in found if fs.isfile(path)]


def words(line: str) -> Iterator[str]:
    """Yield the words of a line, in small letters."""
    return (match.group().casefold() for match in re.finditer(r"[^\W\d_]+", line))


def count(addresses: Sequence[str]) -> list[tuple[str, int]]:
    """Return the most frequent words of all files, counted by the workers of the current cluster."""
    lines = dask.bag.read_text(list(addresses))
    frequencies: list[tuple[str, int]] = lines.map(words).flatten().frequencies().compute()
    return sorted(frequencies, key=lambda found: (-found[1], found[0]))[:MOST]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Count words over the outputs of many jobs.")
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="ids of jobs, or run:RUN; all jobs where none is named")
    parser.add_argument("--pattern", default="**/*.md", help="which of their files")
    parser.add_argument("--report", metavar="jobfs://JOB/PATH", help="where to write the result, as CSV")
    parser.add_argument("--processes", action="store_true", help="workers are processes, not threads")
    told = parser.parse_args()

    addresses = outputs(told.jobs, told.pattern)
    if not addresses:
        parser.exit(1, f"no job has files that match {told.pattern}\n")
    with LocalCluster(processes=told.processes, dashboard_address=None) as cluster, Client(cluster):
        found = count(addresses)
    print(f"{len(addresses)} files")
    for word, number in found:
        print(f"{number:6} {word}")
    if told.report:
        with fsspec.open(told.report, "w", newline="") as file:
            csv.writer(file).writerows([("word", "count"), *found])


if __name__ == "__main__":
    main()
