"""Start the board in a browser."""

import os
import subprocess
import sys
from pathlib import Path


def serve(home: Path, port: int) -> int:
    """Serve the board of `home` on localhost until interrupted; the server's exit code."""
    options = {
        "server.address": "localhost",
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "runner.postScriptGC": "false",  # which takes longer than the page
        "runner.magicEnabled": "false",  # or a bare expression would be shown as Markdown
        "theme.light.primaryColor": "#0072B2",
        "theme.dark.primaryColor": "#2A86BD",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    page = Path(__file__).with_name("app.py")
    environment = {**os.environ, "RAZORBENCH_HOME": str(home)}
    cards = subprocess.Popen([sys.executable, "-m", "leaderboard.cards", str(home)], stderr=subprocess.DEVNULL)
    try:
        return subprocess.run([sys.executable, "-m", "streamlit", "run", str(page), *flags], env=environment).returncode
    except KeyboardInterrupt:
        return 0
    finally:
        cards.wait()
