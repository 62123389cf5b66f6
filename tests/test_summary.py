"""Statistics over cases, paired comparison, and the tables made of them."""

from inspect import signature

import numpy as np
import pytest
from scipy import stats

from viscera.core.organs import ORGANS
from viscera.errors import InputError
from viscera.evaluation.case import Evaluation
from viscera.evaluation.cohort import EvaluationRules
from viscera.evaluation.summary import AVERAGE, summarise_cohort
from viscera.evaluation.tables import evaluation_tables, markdown_table
from viscera.metrics.cohort_statistics import bootstrap, summarise
from viscera.metrics.compare import OrganMetrics
from viscera.metrics.paired import compare_runs
from viscera.report.pictures.examples import best_and_worst

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(1).beta(8, 2, (40, 3))


def test_statistics_are_numpys(values):
    liver, *_, average = summarise(values)
    column = values[:, 0]
    assert liver.n == 40
    assert liver.mean == pytest.approx(column.mean())
    assert liver.std == pytest.approx(column.std(ddof=1))
    assert (liver.q1, liver.median, liver.q3) == pytest.approx(
        tuple(np.percentile(column, (25, 50, 75)))
    )
    assert average.mean == pytest.approx(values.mean())
    assert average.std == pytest.approx(values.mean(axis=1).std(ddof=1))


def test_the_average_is_the_mean_of_organs_not_of_numbers():
    """FLARE's rule 6: over cases first, then over organs, whatever is missing."""
    values = np.array([[1.0, 0.0], [1.0, NAN], [1.0, NAN]])
    assert summarise(values)[-1].mean == 0.5


def test_what_is_not_finite_is_left_out_and_counted():
    first, second, average = summarise(np.array([[2.0, INF], [4.0, NAN], [INF, NAN]]))
    assert (first.n, first.mean) == (2, 3)
    assert (second.n, second.mean, second.median) == (0, None, None)
    assert average.mean == 3


def test_one_case_has_no_spread():
    only = summarise(np.array([[0.5]]))[0]
    assert (only.n, only.mean, only.std, only.ci_low) == (1, 0.5, None, None)


def test_no_case_at_all():
    assert [s.n for s in summarise(np.empty((0, 2)))] == [0, 0, 0]


def test_the_bootstrap_is_scipys(values):
    # Before version 1.15 it had another name.
    has_rng = "rng" in signature(stats.bootstrap).parameters
    seed = {"rng" if has_rng else "random_state": 0}
    low, high = bootstrap(values)
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, method="percentile", n_resamples=20000, **seed
    ).confidence_interval
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=0.002)
    assert (bootstrap(values)[0] == low).all()  # the same each time


def test_the_average_s_interval_knows_that_organs_hang_together():
    """Three organs that are always alike say no more than one."""
    one = np.random.default_rng(2).random((30, 1))
    low, high = bootstrap(np.repeat(one, 3, axis=1))
    assert (low[3], high[3]) == pytest.approx((low[0], high[0]))


def test_differences_are_scipys(values):
    rng = np.random.default_rng(3)
    other = values - rng.normal(0.01, 0.03, values.shape)
    liver, *_, average = compare_runs(values, other)
    assert liver.mean == pytest.approx((values - other)[:, 0].mean())
    assert liver.p == pytest.approx(stats.wilcoxon(values[:, 0], other[:, 0]).pvalue)
    assert liver.ci_low < liver.mean < liver.ci_high
    assert average.mean == pytest.approx((values - other).mean())
    assert average.ci_low < average.mean < average.ci_high
    assert average.p_holm is None


def test_the_average_difference_is_that_of_the_summaries():
    """Also where values are missing: the mean over organs of the means over cases."""
    these = np.array([[10.0, 1.0], [20.0, NAN], [30.0, NAN]])
    those = np.array([[0.0, 0.0], [0.0, NAN], [0.0, NAN]])
    expected = summarise(these)[-1].mean - summarise(those)[-1].mean
    assert compare_runs(these, those)[-1].mean == pytest.approx(expected)


def test_holm_corrects_for_the_number_of_organs():
    rng = np.random.default_rng(4)
    base = rng.random((30, 3))
    found = compare_runs(base + np.array([0.001, 0.2, 0.0]), base + rng.normal(0, 0.05, base.shape))
    ps = [one.p for one in found[:3]]
    order = np.argsort(ps)
    expected = np.minimum(1, np.maximum.accumulate(np.array(ps)[order] * [3, 2, 1]))
    assert [found[i].p_holm for i in order] == pytest.approx(expected.tolist())


def test_the_same_run_twice_does_not_differ(values):
    assert {(one.mean, one.p) for one in compare_runs(values, values)} == {(0.0, 1.0)}


def test_only_cases_with_both_values_are_compared():
    found = compare_runs(np.array([[1.0], [NAN], [3.0]]), np.array([[0.5], [1.0], [INF]]))
    assert (found[0].n, found[0].mean, found[0].ci_low) == (1, 0.5, None)


def outcomes():
    """Four cases of two organs."""
    rows = {"a": (0.9, 0.8), "b": (0.7, 0.6), "c": (0.5, 0.0), "d": (0.3, 1.0)}
    return {
        case: Evaluation(
            case,
            "standard",
            (
                OrganMetrics("liver", liver, liver, 2.0, 1.0, 100, 90),
                OrganMetrics("spleen", spleen, spleen, *((INF,) * 2 if not spleen else (NAN,) * 2),
                           50, 40),
            ),
        )
        for case, (liver, spleen) in rows.items()
    }  # fmt: skip


RULES = EvaluationRules((ORGANS[0], ORGANS[2]))


def test_the_summary_of_a_run():
    refused = InputError("a", found="b", remedy="c", where="x")
    groups = {"a": "Asia", "b": "Europe", "c": "Asia"}
    summary = summarise_cohort(
        {**outcomes(), "e": refused},
        RULES,
        missing=["m"],
        surplus=["s"],
        groups=groups,
        seconds={"a": 2.0, "c": 4.0},
    )
    assert summary["cases"] == 4
    assert summary["refused"][0]["case"] == "e"
    assert summary["scores"]["liver"]["dsc"]["mean"] == pytest.approx(0.6)
    assert summary["scores"][AVERAGE]["dsc"]["mean"] == pytest.approx(0.6)
    assert summary["scores"]["spleen"]["hd95_mm"]["n"] == 0
    assert list(summary["groups"]) == ["", "Asia", "Europe"]
    assert summary["groups"]["Asia"]["cases"] == 2
    assert summary["groups"]["Asia"]["seconds"] == 3
    text = evaluation_tables(summary)
    assert "| Liver       | 60.00 ± 25.82      | 60.00 (45.00, 75.00) |" in text
    assert "counted as failures: m" in text
    assert "without a truth, left out: s" in text
    assert "Refused, left out: e" in text
    assert "seconds a case" in text


def test_two_runs_side_by_side():
    worse = {(case, organ): (0.1, 0.1, 9.0, 9.0) for case in "abc" for organ in ("liver", "spleen")}
    summary = summarise_cohort(outcomes(), RULES, against=worse)
    comparison = summary["comparison"]
    assert comparison["cases"] == 3
    assert comparison["scores"]["liver"]["dsc"]["mean"] == pytest.approx(0.6)
    assert "+60.00 [+40.00, +80.00]" in evaluation_tables(summary)


def test_a_bar_in_a_name_does_not_break_a_table():
    assert markdown_table(["a"], [["x|y"]]).splitlines()[2] == "| x\\|y |"


@pytest.mark.parametrize(
    ("cases", "best", "worst"),
    [
        ("abcdef", ["a", "b"], ["f", "e"]),
        ("abc", ["a", "b"], ["c"]),
        ("ab", ["a"], ["b"]),
        ("a", ["a"], []),
        ("", [], []),
    ],
)
def test_best_and_worst_never_meet(cases, best, worst):
    means = {case: 1 - n / 10 for n, case in enumerate(cases)}
    assert best_and_worst({**means, "z": NAN}) == (best, worst)
