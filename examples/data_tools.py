"""Write and read one table with pandas, polars, PyArrow, DuckDB and Dask, in the workspace of a job.

    python examples/data_tools.py JOB

Server and key are found as the command line finds them. Needs
``pip install 'jobfs[fsspec]' pandas pyarrow polars duckdb 'dask[dataframe]'``; ``scripts/data-tools`` does all of this.
"""

from __future__ import annotations

import sys

import dask.dataframe
import duckdb
import fsspec
import pandas
import polars
import pyarrow.dataset
import pyarrow.parquet

TABLE = pandas.DataFrame({"place": ["harbour", "lighthouse", "market"] * 1000, "number": range(3000)})
TOTAL = int(TABLE["number"].sum())


def check(what: str, total: float) -> None:
    """Say what was done; what was read has to be what was written."""
    if int(total) != TOTAL:
        raise SystemExit(f"{what}: {total} instead of {TOTAL}")
    print(f"{what}: {int(total)}")


def with_pandas(folder: str) -> None:
    """Addresses work wherever pandas takes a path."""
    TABLE.to_csv(f"{folder}/table.csv", index=False)
    check("pandas, CSV", pandas.read_csv(f"{folder}/table.csv")["number"].sum())
    TABLE.to_csv(f"{folder}/table.csv.gz", index=False)
    check("pandas, compressed CSV", pandas.read_csv(f"{folder}/table.csv.gz")["number"].sum())
    TABLE.to_parquet(f"{folder}/table.parquet")
    check("pandas, Parquet", pandas.read_parquet(f"{folder}/table.parquet", columns=["number"])["number"].sum())


def with_polars(folder: str) -> None:
    """Polars has readers of its own for addresses, which know no others; it takes open files."""
    with fsspec.open(f"{folder}/polars.parquet", "wb") as file:
        polars.from_pandas(TABLE).write_parquet(file)
    with fsspec.open(f"{folder}/polars.parquet", "rb") as file:
        check("polars, Parquet", polars.read_parquet(file)["number"].sum())
    fs, path = fsspec.url_to_fs(f"{folder}/polars.parquet")
    lazy = polars.scan_pyarrow_dataset(pyarrow.dataset.dataset(path, filesystem=fs))
    check("polars, lazily", lazy.select(polars.col("number").sum()).collect().item())


def with_pyarrow(folder: str) -> None:
    """PyArrow takes the file system and paths in it; a data set may be many files in many directories."""
    fs, path = fsspec.url_to_fs(f"{folder}/parts")
    table = pyarrow.Table.from_pandas(TABLE)
    pyarrow.dataset.write_dataset(table, path, filesystem=fs, format="parquet", partitioning=["place"])
    parts = pyarrow.dataset.dataset(path, filesystem=fs, format="parquet", partitioning=["place"])
    check("PyArrow, a data set", pyarrow.compute.sum(parts.to_table(columns=["number"])["number"]).as_py())


def with_duckdb(folder: str) -> None:
    """DuckDB is told of the file system once, and then takes addresses and patterns."""
    with duckdb.connect() as base:
        base.register_filesystem(fsspec.filesystem("jobfs"))
        base.sql("create table numbers as select range as number from range(3000)")
        base.sql(f"copy numbers to '{folder}/duck/one.parquet' (format parquet)")
        query = f"select sum(number) from '{folder}/duck/*.parquet'"  # noqa: S608  (the address is our own)
        (found,) = base.sql(query).fetchall()
    check("DuckDB, Parquet", found[0])


def with_dask(folder: str) -> None:
    """Dask reads and writes the files of a table side by side."""
    dask.dataframe.from_pandas(TABLE, npartitions=4).to_parquet(f"{folder}/dask")
    check("Dask, Parquet", dask.dataframe.read_parquet(f"{folder}/dask")["number"].sum().compute())


def main(job: str) -> None:
    """Run it."""
    folder = f"jobfs://{job}/tables"
    for tool in (with_pandas, with_polars, with_pyarrow, with_duckdb, with_dask):
        tool(folder)


if __name__ == "__main__":
    main(sys.argv[1])
