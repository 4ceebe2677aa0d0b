"""The command that compares: two models, two runs of lm-eval, or two rows of the board."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from razorbench.harness.cli.arguments import HOME, Computed, Home, Json, Name
from razorbench.harness.cli.terminal import command, err, listing, out, say
from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.runtime import AUTO


def compare(
    first: Name,
    second: Name,
    *,
    new: str = "",
    priors: tuple[str, ...] = (),
    items: int = 200,
    limit: int = 0,
    metric: tuple[str, ...] = (),
    common: bool = False,
    report: Path | None = None,
    runtime: Computed = AUTO,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Compare two models on the same items: gain, what was forgotten, drift; or two runs of lm-eval, or two rows.

    What the two are is told by what lies in them. Stopped and started again, it goes on with what the base has
    answered.

    Args:
        first: The model before: a folder, OWNER/NAME@COMMIT on the hub, or http://HOST/v1#MODEL behind a server; or a
            folder of lm-eval's output (--log_samples); or the name or id of a row.
        second: The same after; of a model, or a LoRA as peft saves one.
        new: Of models, the id of the task that the second was to learn; if not given, only priors are asked.
        priors: Of models, ids of the tasks that should not be forgotten, such as lm-eval/hellaswag, or a suite; paper,
            if not given, and which of them cannot be asked here is said.
        items: Of models, how many items of each task; 0: all.
        limit: Of models, tokens that a reply to the new task has at most; 0: 512.
        metric: Of runs, metrics to compare, in order of preference; by default accuracy, normalised where there is
            that.
        common: Of runs, compare the documents that both have, where one lacks some.
        report: HTML file to write as well, with the items that changed most tellingly.
        runtime: Of models, how they are computed; it changes no result but for rounding.
    """
    from razorbench.harness.measure.record import plain
    from razorbench.harness.report import comparison
    from razorbench.harness.report.comparison import LONGEST
    from razorbench.harness.report.text import printable
    from razorbench.harness.runs import comparing

    if report and report.is_dir():
        raise Refused(f"{report} is a folder; name the file to write")
    with err.status("comparing") as status:

        def tell(what: str) -> None:
            if err.is_terminal:
                status.update(what)
            else:
                err.print(what, highlight=False, soft_wrap=True)

        compared = comparing.compare(
            first,
            second,
            new=new,
            priors=priors,
            items=items,
            limit=limit,
            metric=metric,
            common=common,
            home=home,
            runtime=runtime,
            tell=tell,
        )
    if report:
        report.write_text(comparison.page(compared, datetime.now(UTC)), encoding="utf-8")
    if json:
        row = {
            "verdict": compared.verdict,
            "changes": [asdict(change) for change in compared.changes],
            "mean": asdict(compared.mean),
            "drifts": compared.drifts,
            "beside": compared.beside,
            "flips": [asdict(flip) for flip in compared.flips],
            "notes": compared.notes,
            "track": compared.track or None,
            "record": compared.record or None,
            "report": str(report) if report else None,
        }
        say(plain(row), json, "")
        return
    out.print(printable(compared.verdict, LONGEST), highlight=False, soft_wrap=True)
    listing(comparison.rows(compared), json)
    if beside := comparison.beside(compared):
        listing(beside, json)
    for sentence in [*comparison.sentences(compared), *compared.notes]:
        out.print(printable(sentence, LONGEST), highlight=False, soft_wrap=True)
    for line in comparison.lines(compared):
        out.print(line, highlight=False, soft_wrap=True)
    if report:
        out.print(f"{report} has this, and what changed.", highlight=False, soft_wrap=True)
    if compared.record:
        out.print("It is a row of its own, with all flips:", highlight=False)
        command(f"razorbench show {compared.record}", home)
