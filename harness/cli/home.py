"""The commands that look after a home and the machine: rebuild, serve, board, doctor."""

import sys
from dataclasses import asdict

from razorbench.harness.cli.arguments import HOME, Home, Json, Server
from razorbench.harness.cli.terminal import MARKS, left_out, listing, out, say


def rebuild(*, server: Server = None, home: Home = HOME, json: Json = False) -> None:
    """Make the database again from the record files."""
    from razorbench.harness.store.database import Store

    rows = Store(home, server=server).rebuild()
    say({"records": rows}, json, f"{home} is rebuilt from {rows} records.")


def serve(*, listen: str = "quack:localhost", home: Home = HOME) -> None:
    """Write the store for workers on several machines that share the home folder, until interrupted.

    The token that they share stands in RAZORBENCH_STORE_TOKEN.

    Args:
        listen: Address to listen on, as quack:HOST:PORT.
    """
    from razorbench.harness.store import quack, server
    from razorbench.harness.store.database import Store

    def ready(address: str) -> None:
        left_out(Store(home).torn())
        out.print(f"The store of {home} is served at {address}.", highlight=False)

    server.serve(home, listen, quack.token(), ready)


def board(*, port: int = 8501, home: Home = HOME) -> None:
    """Open the leaderboard in a browser.

    Args:
        port: Port to serve on.
    """
    from razorbench.leaderboard.serve import serve

    sys.exit(serve(home, port))


def doctor(*, home: Home = HOME, json: Json = False) -> None:
    """Say what works on this machine, and what to do about what does not."""
    from razorbench.harness.cli.doctor import diagnose

    findings = diagnose(home)
    if json:
        listing([asdict(finding) for finding in findings], json)
        return
    for finding in findings:
        out.print(MARKS[{"ok": True, "missing": None, "broken": False}[finding.state]], end=" ")
        out.print(f"{finding.what}: {finding.detail}", highlight=False, soft_wrap=True)
        if finding.cure:
            out.print(f"    {finding.cure}", highlight=False, soft_wrap=True, style="cyan")
