"""Rows one by one as a server sends them: whoever looks at them says when it is enough."""

from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.generators import fetch
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

ENDS = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY, ExecStatus.FATAL_ERROR)


class RowByRow(psycopg.AsyncCursor[Any]):
    """A cursor whose `stream` takes statements without rows, too, and leaves the command tag in `tag`.

    It speaks the extended protocol, of which the server takes one statement and no more.
    """

    tag = ""

    def _stream_fetchone_gen(self, first: bool) -> PQGen[PGresult | None]:
        """Return the next row, None at the end; psycopg's own refuses what has no rows, and forgets the tag."""
        result = yield from fetch(self._pgconn)
        if result is None:
            return None
        if result.status == ExecStatus.SINGLE_TUPLE:
            self.pgresult = result
            self._tx.set_pgresult(result, set_loaders=first)
            if first:
                self._make_row = self._make_row_maker()
            return result
        if result.status not in ENDS:
            self._raise_for_result(result)
        self.tag = (result.command_status or b"").decode()
        last: PGresult | None = result
        while last is not None:
            last = yield from fetch(self._pgconn)
        if result.status == ExecStatus.FATAL_ERROR:
            self._raise_for_result(result)  # only now, or what has ended already would be cancelled
        return None
