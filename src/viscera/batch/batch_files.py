"""The files about a whole batch: failures, the table, the page."""

from __future__ import annotations

from collections.abc import Mapping

from viscera.batch.finished import STATE_FOLDER
from viscera.batch.options import BatchOptions, CaseResult
from viscera.batch.plan import BatchCase, BatchPlan
from viscera.io.failure_list import FailureList
from viscera.report.cohort_table import (
    COHORT_TABLES,
    check_cohort_tables,
    report_rows,
    write_cohort_table,
)
from viscera.report.html.case_record import read_case_record
from viscera.report.html.cohort_page import COHORT_PAGE, check_cohort_page, cohort_page
from viscera.runtime.atomic_files import write_text
from viscera.runtime.leases import LeaseFolder

FAILURES = "failures.csv"


def check_batch(plan: BatchPlan, options: BatchOptions) -> None:
    """Check before the work that the files about a whole batch can be written.

    Args:
        plan: the cases and their folder.
        options: what is done with each case.

    Raises:
        OutputError: the folder is not writable, or holds other files of these names.
        UsageError: no such kind of table.
        MissingExtraError: a table needs a package that is not installed.
    """
    assert plan.folder is not None  # a single case has no list of failures
    check_cohort_tables(plan.folder, options.outputs.cohort)
    if options.outputs.html:
        check_cohort_page(plan.folder / COHORT_PAGE)
    FailureList(plan.folder / FAILURES, options.outputs.wording)
    LeaseFolder(plan.folder / STATE_FOLDER)


def finish_batch(
    plan: BatchPlan, results: Mapping[BatchCase, CaseResult], options: BatchOptions
) -> None:
    """Write the files about a whole batch: failures, the table, the page.

    Args:
        plan: the cases and their folder.
        results: of each case.
        options: what was done with each case.

    Raises:
        OutputError: not writable.
    """
    assert plan.folder is not None
    failures = FailureList(plan.folder / FAILURES, options.outputs.wording)
    for case in plan.cases:
        failure = results[case].error
        if failure is not None:
            failures.add(case.shown, failure)
    for item in plan.passed_over:
        failures.add_passed_over(item.shown(keep_phi=options.keep_phi), item.reason)
    failures.write()
    if options.outputs.cohort:
        rows = [
            row
            for case in plan.cases
            if results[case].error is None
            for row in report_rows(case.labels_path.with_name(f"{case.name}_report.json"))
        ]
        for kind in options.outputs.cohort:
            write_cohort_table(plan.folder / COHORT_TABLES[kind], kind, rows)
    if options.outputs.html:
        pages = [case.labels_path.with_name(f"{case.name}.html") for case in plan.cases]
        records = {page.name: read_case_record(page) for page in pages}
        shown = {name: record for name, record in records.items() if record is not None}
        failed = {
            c.shown: e.message(options.outputs.wording)
            for c in plan.cases
            if (e := results[c].error)
        }
        write_text(plan.folder / COHORT_PAGE, cohort_page(shown, failed), overwrite=True)
