"""DuckDB, able to read some tables and nothing else: no file, network, extension, setting or variable of Python's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import duckdb

T = TypeVar("T")


def closed_connection(
    tables: Mapping[str, Any], aliases: Mapping[str, Mapping[str, str]] | None = None, **config: Any
) -> duckdb.DuckDBPyConnection:
    """Return a connection to tables that were opened before it was closed to all else.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table or pyarrow.dataset.Dataset
        By name.
    aliases : mapping of str to mapping of str to str, optional
        By table, more names of its columns: by that name the column's own.
    **config
        More of DuckDB's settings, such as ``temp_directory``.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_persistent_secrets": False,
            "python_enable_replacements": False,
            **config,
        },
    )
    for name, table in tables.items():
        also = "".join(f', "{own}" AS "{alias}"' for alias, own in (aliases or {}).get(name, {}).items())
        connection.from_arrow(table).project(f"*{also}").create_view(name)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


@contextmanager
def interruptible(connection: duckdb.DuckDBPyConnection) -> Iterator[Callable[[Callable[[], T]], T]]:
    """Give what runs a call of DuckDB in a thread, so that an interrupt is heard at once and ends the statement.

    DuckDB looks for Ctrl-C and SIGTERM now and then, and in some long statements never.
    """
    with ThreadPoolExecutor(1) as thread:

        def run(call: Callable[[], T]) -> T:
            asked = thread.submit(call)
            try:
                return asked.result()
            except KeyboardInterrupt:
                while not asked.done():  # one that is only about to begin does not hear it
                    connection.interrupt()
                    wait([asked], timeout=0.1)
                raise

        yield run


def quoted(name: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def words_of(error: duckdb.Error) -> str:
    """Return DuckDB's message; what follows its first paragraph draws the statement with a caret."""
    return " ".join(str(error).split("\n\n")[0].split())
