"""The fsspec file system ``jobfs://JOB/path``: for pandas, polars, DuckDB, PyArrow, Dask, and all that speaks fsspec.

``jobs`` is the file system, ``opened`` the files that it opens, ``failures`` how its errors look. All work is done by
``workspace``; absent from here: any rule about what may be written, and how.
"""
