"""All rows of one database into another one, of whichever kind, in one transaction."""

from sqlalchemy import Engine, Table, insert, select
from sqlmodel import Session, SQLModel

from muster_controller.store import alarm_tables, order_tables, people_tables, sample_tables, tables
from muster_controller.store.engine import Reading, Unit, last_number, set_last_number
from muster_models.errors import ConflictError

# The tables of each module are known once it was imported.
MODULES = (alarm_tables, order_tables, people_tables, sample_tables, tables)
BATCH = 500  # rows in memory at a time; a window's is a kilobyte


def copy_rows(source: Engine, target: Engine) -> int:
    """Copy every row, and the numbers that were given to rows since removed, so that none is given twice.

    Both have their tables already. The target gets everything or nothing, also when the process is killed.

    Args:
        source: Nobody else may write to it.

    Returns:
        How many rows were copied.

    Raises:
        ConflictError: The target has rows.
    """
    with Reading(source) as old, Unit(target) as new:
        for table in SQLModel.metadata.sorted_tables:
            if new.execute(select(*table.primary_key).limit(1)).first() is not None:
                raise ConflictError(
                    f"database: expected one without rows, got some in {table.name}; nothing was copied"
                )
        return sum(_copy_table(table, old, new) for table in SQLModel.metadata.sorted_tables)


def _copy_table(table: Table, old: Session, new: Session) -> int:
    copied = 0
    for rows in old.execute(select(table).execution_options(yield_per=BATCH)).mappings().partitions():
        new.execute(insert(table), [dict(row) for row in rows])
        copied += len(rows)
    if table.autoincrement_column is not None:
        set_last_number(new, table, last_number(old, table))
    return copied
