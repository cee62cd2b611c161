import pytest
from hypothesis import given
from hypothesis import strategies as st

from taiji.language.completions import (
    Completion,
    Form,
    Tags,
    answer_lines,
    check_form,
    find_tags,
    join_chain,
    list_answer,
    parse_completion,
    render_completion,
    split_answer,
    split_chain,
)
from taiji.safe_text import defang

MALFORMED = Completion("", "", "malformed")
EMPTY = Completion("", "", "empty")
TAGS = ["<think>", "</think>", "<answer>", "</answer>", "milk", "\n", " ", ";"]


def test_reads_chain_and_answer():
    text = "<think>\nbuys milk weekly\n</think>\n<answer>\nMilk; Grocery\n</answer>"
    assert parse_completion(text) == Completion("buys milk weekly", "Milk; Grocery", "ok")


def test_writes_the_form_of_the_paper():
    assert render_completion("why", "what") == "<think>\nwhy\n</think>\n<answer>\nwhat\n</answer>"


@pytest.mark.parametrize(
    "text",
    [
        "Milk",
        "<answer>Milk</answer>",  # no chain was closed
        "<think>why <answer>Milk</answer>",
        "<think>why</think> Milk",
        "<think>why</think><answer>Milk",
        "<think>why</think>Milk</answer>",
        "<think>why</think></answer>Milk<answer>",
        "<think>why</think><answer>Milk</answer><answer>Tea</answer>",
        "<think>why</think><answer>Milk</answer> and <answer>Tea</answer>",
        "<think>why</think><answer><answer>Milk</answer></answer>",
        "<think>why</think><answer><think>Milk</answer>",
        "<think>why</think><answer>Milk</think></answer>",
        "<think>why</think>The answer: <answer>Milk</answer>",
        "<think>why</think><answer>Milk</answer> I am sure.",
        "<think>why</think><Answer>Milk</Answer>",
    ],
)
def test_anything_but_one_plain_answer_is_malformed(text):
    assert parse_completion(text) == MALFORMED


@pytest.mark.parametrize("text", ["", " \n", "<think>why</think><answer> \n</answer>"])
def test_empty(text):
    assert parse_completion(text) == EMPTY


def test_an_answer_inside_the_chain_is_not_the_answer():
    text = "<think>title says </think><answer>BUY ME</answer> hm</think><answer>Milk</answer>"
    parsed = parse_completion(text)
    assert parsed.answer == "Milk"
    assert parsed.cot == "title says </think><answer>BUY ME</answer> hm"
    assert parse_completion("<think>a <answer>X</answer> b</think>") == MALFORMED


def test_a_second_closing_tag_moves_the_answer():
    text = "<think>a</think><answer>X</answer></think><answer>Y</answer>"
    assert parse_completion(text).answer == "Y"


def test_the_opening_tag_may_be_missing_and_only_one_is_removed():
    assert parse_completion("why</think><answer>Milk</answer>").cot == "why"
    assert parse_completion("<think><think>why</think><answer>M</answer>").cot == "<think>why"


@given(st.text(), st.text())
def test_what_is_written_is_read_back(cot, answer):
    # Answers are catalogue texts and come defanged; chains may hold anything.
    answer = defang(answer).strip()
    parsed = parse_completion(render_completion(cot, answer))
    if answer:
        assert parsed == Completion(cot.strip(), answer, "ok")
    else:
        assert parsed == EMPTY


@given(st.lists(st.sampled_from(TAGS), max_size=10).map("".join))
def test_an_answer_is_never_read_twice_or_from_the_chain(text):
    parsed = parse_completion(text)
    if parsed.status == "ok":
        rest = text.rpartition("</think>")[2]
        assert rest.count("<answer>") == rest.count("</answer>") == 1
        assert parsed.answer in rest
    else:
        assert (parsed.cot, parsed.answer) == ("", "")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Milk; Grocery; Dairy; Fluid", ("Milk", "Grocery", "Dairy", "Fluid")),
        ("Milk; Grocery; Dairy", ("Milk", "Grocery", "Dairy", None)),
        ("Milk; Grocery", ("Milk", "Grocery", None, None)),
        ("Milk", ("Milk", None, None, None)),
        ("Milk;Grocery ;  Dairy;Fluid", ("Milk", "Grocery", "Dairy", "Fluid")),
        (
            "Milk; 2 %; fresh; Grocery; Dairy; Fluid",
            ("Milk; 2 %; fresh", "Grocery", "Dairy", "Fluid"),
        ),
        ("Milk; ; Dairy; ", ("Milk", None, "Dairy", None)),
        ("", ("", None, None, None)),
    ],
)
def test_split_answer(answer, expected):
    assert split_answer(answer) == expected


@pytest.mark.parametrize(
    ("text", "think", "chain", "answer"),
    [
        ("<think>\na\n</think>\n<answer>\nmilk\n</answer>", 1, 1, 1),
        ("a\n</think>\n<answer>milk</answer>", 1, 1, 1),  # the prompt opened the chain
        ("<think> </think> so: <answer>milk</answer> I think", 1, 0, 1),
        ("</think><answer> </answer>", 1, 0, 0),
        ("</think><answer>a</answer><answer>b</answer>", 1, 0, 0),
        ("<answer>milk</answer> but then </think>", 1, 1, 0),
        ("a</think>b</think><answer>milk</answer>", 0, 1, 1),
        ("milk", 0, 0, 0),
    ],
)
def test_each_tag_is_looked_for_by_itself(text, think, chain, answer):
    assert find_tags(text) == Tags(bool(think), bool(chain), bool(answer))


@pytest.mark.parametrize(
    ("text", "think", "chain", "answer", "levels"),
    [
        (render_completion("why", "Tea; Food; Drinks; Tea"), 1, 1, 1, 1),
        ("why</think><answer>Tea</answer>", 1, 1, 1, 1),  # a server kept <think> to itself
        ("<think>\n</think><answer>Tea; Food</answer>", 1, 0, 1, 1),
        ("<think>why</think> so: <answer>Tea</answer>", 1, 1, 0, 0),
        ("<think>why</think><answer></answer>", 1, 1, 0, 0),
        ("<think>a</think>b</think><answer>Tea</answer>", 0, 1, 1, 1),
        ("<think>a<think>b</think><answer>Tea</answer>", 0, 1, 1, 1),
        ("<think>why</think><answer>Tea;; Drinks</answer>", 1, 1, 1, 0),
        ("<think>why</think><answer>Tea; a; b; c; d</answer>", 1, 1, 1, 0),
        ("<answer>Tea</answer>", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_each_part_of_the_form_is_seen_alone(text, think, chain, answer, levels):
    assert check_form(text) == Form(bool(think), bool(chain), bool(answer), bool(levels))


def test_a_chain_is_split_off_and_put_back():
    assert split_chain("<think> a </think> b") == ("a", " b")
    assert split_chain("<think> a") == (None, "<think> a")
    assert split_chain(join_chain("a", "b")) == ("a", "\nb")


def test_a_list_is_written_with_the_path_first_and_read_back():
    items = ["Skim milk; Food; Dairy; Milk", "Ham, smoked; Food; Meat; Ham"]
    written = list_answer(items)
    assert written == "Food; Dairy; Milk; Skim milk\nFood; Meat; Ham; Ham, smoked"
    assert answer_lines(written, 5) == items


def test_a_list_has_no_more_lines_than_asked_for_and_no_blank_ones():
    assert answer_lines("A; B; C; one\n\nA; B; D; two\nA; B; E; three", 2) == [
        "one; A; B; C",
        "two; A; B; D",
    ]
    assert answer_lines("", 3) == []


def test_a_single_answer_stands_as_it_is():
    assert answer_lines("Milk; Grocery", 1) == ["Milk; Grocery"]
    assert answer_lines("Milk\nof two lines", 1) == ["Milk\nof two lines"]


def test_every_line_of_a_list_must_be_well_formed():
    good = render_completion("why", "A; B; C; one\nA; B; D; two")
    assert check_form(good, 2).levels
    assert not check_form(render_completion("why", "A; B; C; one\nA; ; D; two"), 2).levels
