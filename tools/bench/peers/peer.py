"""One engine beside which Tidemark is measured, driven by lines of JSON on stdin.

peer.py duckdb|delta|postgres DIRECTORY [DSN]

A line is one of
  {"do": "create", "table": T, "rows": N}
  {"do": "update", "table": T, "where": SQL, "set": [COLUMN, SQL]}
  {"do": "delete", "table": T, "where": SQL}
  {"do": "query", "sql": SQL}
  {"do": "drop", "table": T}
and is answered by {"ms": FLOAT, "rows": [[TEXT, ...], ...]} or {"error": TEXT}. Every table has the
columns of ROWS, made by one formula, so that all engines hold the same data.
"""

import json
import shutil
import sys
import time
from pathlib import Path

ROWS = (
    "SELECT i AS id, CAST((i * 7919) % 1000 AS integer) AS k,"
    " CAST((i * 104729) % 100000 AS double precision) / 100 AS v,"
    " 's' || CAST((i * 15485863) % 1000003 AS varchar) AS s"
)


class DuckDb:
    def __init__(self, directory, _dsn):
        import duckdb

        self.connection = duckdb.connect(str(Path(directory) / "peer.duckdb"))
        self.version = f"DuckDB {duckdb.__version__}"

    def run(self, sql):
        return self.connection.execute(sql).fetchall()

    def create(self, table, rows):
        self.run(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, k integer, v double precision, s varchar)"
        )
        self.run(f"INSERT INTO {table} {ROWS} FROM range(0, {rows}) AS r(i)")

    def update(self, table, where, column, value):
        self.run(f"UPDATE {table} SET {column} = {value} WHERE {where}")

    def delete(self, table, where):
        self.run(f"DELETE FROM {table} WHERE {where}")

    def drop(self, table):
        self.run(f"DROP TABLE {table}")

    def query(self, sql):
        return self.run(sql)


class Postgres:
    def __init__(self, _directory, dsn):
        import psycopg

        self.connection = psycopg.connect(dsn, autocommit=True)
        version = self.connection.execute("SHOW server_version").fetchone()[0]
        self.version = f"PostgreSQL {version.split()[0]}"

    def create(self, table, rows):
        self.connection.execute(f"DROP TABLE IF EXISTS {table}")
        self.connection.execute(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, k integer, v double precision, s varchar)"
        )
        self.connection.execute(
            f"INSERT INTO {table} {ROWS} FROM generate_series(0::bigint, {rows} - 1) AS r(i)"
        )
        self.connection.execute(f"VACUUM ANALYZE {table}")

    def update(self, table, where, column, value):
        self.connection.execute(f"UPDATE {table} SET {column} = {value} WHERE {where}")

    def delete(self, table, where):
        self.connection.execute(f"DELETE FROM {table} WHERE {where}")

    def drop(self, table):
        self.connection.execute(f"DROP TABLE {table}")

    def query(self, sql):
        return self.connection.execute(sql).fetchall()


class Delta:
    """delta-rs; its rows are made by DuckDB, its queries run by the engine it brings along."""

    def __init__(self, directory, _dsn):
        import deltalake
        import duckdb

        self.deltalake = deltalake
        self.duckdb = duckdb
        self.directory = Path(directory)
        self.tables = {}
        self.version = f"delta-rs {deltalake.__version__}"

    def create(self, table, rows):
        made = self.duckdb.sql(f"{ROWS} FROM range(0, {rows}) AS r(i)")
        path = str(self.directory / table)
        self.deltalake.write_deltalake(path, made.to_arrow_table())
        self.tables[table] = self.deltalake.DeltaTable(path)

    def update(self, table, where, column, value):
        self.tables[table].update(updates={column: value}, predicate=where)

    def delete(self, table, where):
        self.tables[table].delete(where)

    def drop(self, table):
        self.tables.pop(table)
        shutil.rmtree(self.directory / table)

    def query(self, sql):
        builder = self.deltalake.QueryBuilder()
        for name, table in self.tables.items():
            builder = builder.register(name, table)
        result = builder.execute(sql).read_all()
        columns = [column.to_pylist() for column in result.columns]
        return list(zip(*columns))


ENGINES = {"duckdb": DuckDb, "postgres": Postgres, "delta": Delta}


def text(cell):
    return None if cell is None else str(cell)


def answer(engine, line):
    start = time.perf_counter()
    rows = []
    match line["do"]:
        case "create":
            engine.create(line["table"], line["rows"])
        case "update":
            engine.update(line["table"], line["where"], *line["set"])
        case "delete":
            engine.delete(line["table"], line["where"])
        case "drop":
            engine.drop(line["table"])
        case "query":
            rows = engine.query(line["sql"])
        case other:
            raise ValueError(f"no such order: {other}")
    elapsed = (time.perf_counter() - start) * 1000
    return {"ms": elapsed, "rows": [[text(cell) for cell in row] for row in rows]}


def main():
    engine = ENGINES[sys.argv[1]](sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
    print(json.dumps({"version": engine.version}), flush=True)
    for line in sys.stdin:
        try:
            reply = answer(engine, json.loads(line))
        except Exception as error:  # whatever it is, it is the other side's to show
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


main()
