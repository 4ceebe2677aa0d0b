"""Start the board."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from streamlit.web import cli

from razorbench.leaderboard import cards

OPTIONS = {
    "server.address": "localhost",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "runner.postScriptGC": "false",  # it takes longer than the page
    "runner.magicEnabled": "false",  # or a bare expression would be shown as Markdown
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#2A86BD",
}


def serve(home: Path, port: int) -> int:
    """Serve the board of `home` on localhost until interrupted; the server's exit code."""
    options = {**OPTIONS, "server.port": str(port)}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RAZORBENCH_HOME": str(home), cards.PLACE: folder}
        child = subprocess.Popen([sys.executable, "-m", "razorbench.leaderboard.cards"], stderr=subprocess.DEVNULL)
        try:
            return cli.main(["run", str(Path(__file__).with_name("app.py")), *flags], standalone_mode=False) or 0
        except KeyboardInterrupt:
            return 0
        finally:
            child.kill()
            child.wait()
