"""The command that compares what people have already: two runs of lm-eval."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import tyro

from razorbench.harness.cli.arguments import Json
from razorbench.harness.cli.terminal import busy, listing, out, say
from razorbench.harness.core.errors import Refused


def compare(
    first: tyro.conf.Positional[Path],
    second: tyro.conf.Positional[Path],
    *,
    metric: tuple[str, ...] = (),
    common: bool = False,
    report: Path | None = None,
    json: Json = False,
) -> None:
    """Compare two runs of lm-eval document by document: what the second gained and lost, and what can be told apart.

    Args:
        first: Folder of lm-eval's output, with --log_samples; of the model before.
        second: The same of the model after.
        metric: Metrics to compare, in order of preference; by default accuracy, normalised where there is that.
        common: Compare the documents that both have, where one run lacks some.
        report: HTML file to write as well, with the documents that changed most tellingly.
    """
    from razorbench.harness.measure.logged import compare_runs, read_run
    from razorbench.harness.measure.record import plain
    from razorbench.harness.report import comparison
    from razorbench.harness.report.comparison import LONGEST
    from razorbench.harness.report.text import printable

    if report and report.is_dir():
        raise Refused(f"{report} is a folder; name the file to write")
    with busy("comparing"):
        compared = compare_runs(read_run(first), read_run(second), metrics=metric, common=common)
    if report:
        report.write_text(comparison.page(compared, datetime.now(UTC)), encoding="utf-8")
    if json:
        row = {
            "verdict": compared.verdict,
            "changes": [asdict(change) for change in compared.changes],
            "mean": asdict(compared.mean),
            "flips": [asdict(flip) for flip in compared.flips],
            "notes": compared.notes,
            "report": str(report) if report else None,
        }
        say(plain(row), json, "")
        return
    out.print(printable(compared.verdict, LONGEST), highlight=False, soft_wrap=True)
    listing(comparison.rows(compared), json)
    if len(compared.changes) > 1:
        mean = comparison.with_interval(compared.mean)
        out.print(f"Mean change over {len(compared.changes)} tasks: {mean} points.", highlight=False)
    for note in compared.notes:
        out.print(printable(note, LONGEST), highlight=False, soft_wrap=True)
    if report:
        out.print(f"{report} has this, and what changed.", highlight=False, soft_wrap=True)
