"""A witness of a registry that asks nobody: triggers in its database write down what every change left there."""

import json
from datetime import UTC, datetime

import sqlalchemy
from sqlalchemy import text

TABLES = ("registered_models", "registered_model_aliases", "model_versions", "tags", "params")
_POSTGRESQL = """
CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO witness ("of", did, "row") VALUES (TG_TABLE_NAME, TG_OP, coalesce(to_jsonb(NEW), to_jsonb(OLD))::text);
  RETURN NULL; END $$
"""


class Witness:
    """Sees the tables of a registry's database from now on."""

    def __init__(self, uri: str) -> None:
        self._engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)  # it outlives restarts
        sqlite = self._engine.dialect.name == "sqlite"
        number = "INTEGER" if sqlite else "bigserial"
        now = "(julianday('now') - 2440587.5) * 86400" if sqlite else "extract(epoch FROM clock_timestamp())"
        with self._engine.begin() as connection:
            columns = f'id {number} PRIMARY KEY, at DOUBLE PRECISION DEFAULT ({now}), "of" TEXT, did TEXT, "row" TEXT'
            connection.execute(text(f"CREATE TABLE witness ({columns})"))
            if not sqlite:
                connection.execute(text(_POSTGRESQL))
            for table in TABLES:
                names = [column["name"] for column in sqlalchemy.inspect(connection).get_columns(table)]
                for did in ("INSERT", "UPDATE", "DELETE"):
                    connection.execute(text(_sqlite(table, names, did) if sqlite else _postgresql(table, did)))

    def served(self, model: str) -> list[tuple[datetime, int | None]]:
        """Return when, by the database's clock, the alias ``champion`` was set to which version; None: it was dropped."""
        aliases = 'SELECT at, did, "row" FROM witness WHERE "of" = \'registered_model_aliases\' ORDER BY id'
        with self._engine.connect() as connection:
            seen = [(at, did, json.loads(row)) for at, did, row in connection.execute(text(aliases))]
        ours = [(at, did, row) for at, did, row in seen if (row["name"], row["alias"]) == (model, "champion")]
        return [(datetime.fromtimestamp(at, UTC), None if did == "DELETE" else int(row["version"])) for at, did, row in ours]


def _postgresql(table: str, did: str) -> str:
    return f"CREATE TRIGGER witness_{did} AFTER {did} ON {table} FOR EACH ROW EXECUTE FUNCTION witness()"


def _sqlite(table: str, columns: list[str], did: str) -> str:
    row = ", ".join(f"'{column}', {'OLD' if did == 'DELETE' else 'NEW'}.\"{column}\"" for column in columns)
    noted = f"INSERT INTO witness (\"of\", did, \"row\") VALUES ('{table}', '{did}', json_object({row}));"
    return f"CREATE TRIGGER witness_{table}_{did} AFTER {did} ON {table} BEGIN {noted} END"
