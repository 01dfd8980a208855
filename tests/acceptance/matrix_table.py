"""The matrix itself: its columns, its rows, and the table in the docs."""

from tests.acceptance.matrix import HttpsRow, Row, TcpRow, TlsRow, UdpRow, WsRow, WssRow
from tests.acceptance.matrix_callers import GatewayRow, PullRow

# The columns, in order, with the words of their head.
CELLS = {
    "delivered": "delivered and acked",
    "reply": "reply correlated",
    "down": "peer down: retried",
    "killed": "peer killed mid-message: no loss",
    "oversized": "oversized",
    "wrong_name": "wrong TLS name",
    "bad_credential": "bad credential",
    "leak": "10,000 messages without a leak",
}

MADE: tuple[type[Row], ...] = (Row, HttpsRow, TcpRow, TlsRow, UdpRow, WsRow, WssRow, GatewayRow, PullRow)
ROWS: dict[str, type[Row]] = {row.protocol: row for row in MADE}


def table() -> str:
    """Return the matrix as a table in Markdown, with why below it for every cell that cannot apply."""
    lines = ["| protocol | " + " | ".join(CELLS.values()) + " |", "|---|" + "---|" * len(CELLS)]
    reasons = []
    for protocol, row in ROWS.items():
        cells = []
        for cell in CELLS:
            if cell in row.cannot:
                reasons.append(f"- `{protocol}`, {CELLS[cell]}: {row.cannot[cell]}.")
                cells.append("n/a")
            elif cell == "delivered":
                cells.append(f"yes, `{row.ack_level}`")
            else:
                cells.append("yes" + (f": {row.says[cell]}" if cell in row.says else ""))
        lines.append(f"| `{protocol}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "What cannot apply:", "", *reasons]) + "\n"
