import pytest

from taiji.report.cells import NOT_APPLICABLE, NOT_RUN, Measured, Table, condensed, point_text

HALF = Measured(0.5)


def table(*rows) -> Table:
    return Table("t", "T", "Words.", ("name", "a", "b"), rows)


def test_a_column_that_is_empty_in_every_row_goes():
    short = condensed(table(("x", HALF, NOT_APPLICABLE), ("y", HALF, NOT_APPLICABLE)))
    assert short.columns == ("name", "a")
    assert short.rows == (("x", HALF), ("y", HALF))


def test_what_was_not_run_becomes_one_sentence():
    short = condensed(table(("x", HALF, HALF), ("y", NOT_RUN, NOT_RUN), ("z", NOT_RUN, NOT_RUN)))
    assert [row[0] for row in short.rows] == ["x"]
    assert short.caption == "Words. Not run: y; z."


def test_a_row_that_measured_something_stays():
    row = ("x", HALF, NOT_RUN)
    assert condensed(table(row, ("y", HALF, HALF))).rows[0] == row


def test_a_table_of_nothing_keeps_its_title_and_says_so():
    short = condensed(table(("x", NOT_RUN, NOT_RUN)))
    assert short.rows == ()
    assert short.columns == ("name",)
    assert short.caption == "Words. Not run: x."


@pytest.mark.parametrize(
    ("value", "text"), [(0.36, "0.360"), (0.0, "0.00"), (-0.00638, "-0.00638"), (9e-05, "0.0001")]
)
def test_a_number_has_three_digits_and_no_power_of_ten(value, text):
    assert point_text(Measured(value, unit="number")) == text


def test_a_zero_is_a_figure():
    assert condensed(table(("x", Measured(0.0), HALF))).columns == ("name", "a", "b")
