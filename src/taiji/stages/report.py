"""Write report.html from whatever the run has so far."""

from taiji.report.page import render_report
from taiji.report.run_files import read_run
from taiji.stages.parts.context import StageContext, Summary
from taiji.store.files import replacing


def report(ctx: StageContext) -> Summary:
    """Write report.html. A stage that has not run leaves a message in its place.

    Raises:
        ConfigError: The key of the pseudonyms cannot be used.
        DataError: An artifact is damaged.
    """
    page = render_report(read_run(ctx.recipe, ctx.inputs, ctx.out.parent))
    with replacing(ctx.out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return {"bytes": len(page.encode("utf-8", errors="replace"))}
