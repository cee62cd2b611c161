import re
import string
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import ITEMS, NOW, PROFILE, WORDS, example

from taiji.data.examples.text import age_text, kind_text
from taiji.reasoning import evidence
from taiji.reasoning.evidence import (
    MAX_WORDS,
    MIN_WORDS,
    write_chains,
    write_direct,
    write_readings,
)
from taiji.reasoning.facts import find_facts
from taiji.reasoning.leakage import copied_share, find_phrase
from taiji.reasoning.prompts import prompt_text, student_prompt
from taiji.templates import ENGLISH, KINDS

NUMBER = re.compile(r"\d+(?:\.\d+)?")
AGE = re.compile(r"\d+ (?:minute|hour|day|week|month|year)s?")


def kinds(row, target):
    return {fact.kind: fact for fact in find_facts(row, ITEMS[target])}


def plain_words(text):
    return set(re.findall(r"[^\W_]+", text.casefold()))


OUR_WORDS = plain_words(
    " ".join(
        "".join(literal for literal, *_ in string.Formatter().parse(saying))
        for group in (*evidence._SAYINGS.values(), *evidence._CONCLUSIONS.values())
        for saying in group
    )
    + " ".join(evidence._CAUTION)
) | {"and", "before"}  # how two items are joined, how an age is read


def test_our_phrasings_hold_no_figure_of_their_own():
    assert not any(any(map(str.isdigit, word)) for word in OUR_WORDS)


@st.composite
def histories(draw):
    days = sorted(draw(st.lists(st.integers(0, 500), max_size=8)))
    return [
        (draw(st.integers(0, len(ITEMS) - 1)), day, draw(st.sampled_from([None, 0.5, 2.25, 10.0])))
        for day in days
    ]


@settings(max_examples=150, deadline=None)
@given(
    history=histories(),
    target=st.integers(0, len(ITEMS) - 1),
    profile=st.sampled_from(["", PROFILE, "Household: kids: 1.", "Buys mostly bread."]),
    name=st.text("abcdef", min_size=1, max_size=4),
    k=st.integers(1, 5),
)
def test_a_chain_says_nothing_that_the_prompt_does_not(history, target, profile, name, k):
    """Numbers, ages, titles, categories, and in the end every word.

    A word comes from the prompt, from our fixed phrasings, or is part of a category name of
    the target, which is what a chain concludes.
    """
    row, item = example(*history, profile=profile, example_id=name), ITEMS[target]
    prompt = prompt_text(student_prompt(row, ENGLISH))
    own = [item[f"category_l{level}"] for level in (1, 2, 3) if item[f"category_l{level}"]]
    for chain in write_chains(row, item, k):
        assert {*NUMBER.findall(chain)} <= {*NUMBER.findall(prompt)}
        assert all(age in prompt for age in AGE.findall(chain))
        for other in ITEMS:
            assert other["title"] not in chain or other["title"] in prompt
            for age in re.findall(rf"{other['title']} \((\d+ \w+) before\)", chain):
                lines = [line["text"] for line in row["history"]]
                assert any(line.startswith(other["title"]) and age in line for line in lines)
            for level in (1, 2, 3):
                category = other[f"category_l{level}"]
                named = category and re.search(rf"\b{category}\b", chain)
                assert (
                    not named or category in prompt or category in own or category in " ".join(own)
                )
        assert plain_words(chain) <= plain_words(prompt) | plain_words(" ".join(own)) | OUR_WORDS


@settings(max_examples=80, deadline=None)
@given(history=histories(), target=st.integers(0, len(ITEMS) - 1), k=st.integers(1, 16))
def test_chains_are_different_short_and_free_of_leaks(history, target, k):
    row, item = example(*history), ITEMS[target]
    chains = write_chains(row, item, k)
    assert len(set(chains)) == k
    assert all(MIN_WORDS <= len(chain.split()) <= MAX_WORDS for chain in chains)
    lines = [line["text"] for line in row["history"]]
    categories = [item[f"category_l{level}"] or "" for level in (1, 2, 3)]
    assert {find_phrase(chain, ENGLISH.teacher_task) for chain in chains} == {None}
    copied = [copied_share(chain, item["title"], [*lines, *categories]) for chain in chains]
    assert max(copied) < 0.8
    assert chains == write_chains(row, item, k)


def test_strong_evidence_comes_first_and_concludes_most():
    row = example((6, 2, 2.5), (0, 9, 0.5), (5, 20))
    strong, _, weak = write_chains(row, ITEMS[2], 3)
    assert "Private label yogurt 6 oz (1 week before)" in strong
    assert "Yogurt cups" in strong.split(". ")[-1]
    assert "Yogurt cups" not in weak


def test_a_repeat_is_quoted_because_the_history_holds_it():
    fact = kinds(example((0, 3), (3, 5)), 0)["repeat"]
    assert fact.level == 3
    assert fact.slots == {"item": "Private label yogurt 6 oz (3 days before)"}


def test_the_shelf_is_the_same_path_down_to_level_2():
    facts = kinds(example((1, 3)), 0)
    assert facts["shelf"].slots["category"] == "Yogurt"
    assert "kind" not in facts


def test_prices_are_those_paid_in_the_category():
    facts = kinds(example((2, 3, 0.75), (3, 4, 0.99), (0, 30, 0.5)), 0)
    assert facts["price"].slots["prices"] == "0.75 USD and 0.50 USD"
    assert "price" not in kinds(example((3, 4, 0.99)), 0)


def test_recency_needs_a_later_trip_that_the_prompt_shows_as_later():
    facts = kinds(example((3, 2), (2, 20)), 0)
    assert facts["recency"].slots == {
        "category": "Yogurt cups",
        "age": "2 weeks",
        "newest": "2 days",
    }
    assert "recency" not in kinds(example((2, 2), (3, 20)), 0)
    assert "recency" not in kinds(example((3, 15), (2, 16)), 0)  # both read "2 weeks before"


def test_a_companion_was_bought_with_the_category_and_again_without():
    facts = kinds(example((3, 2), (2, 20), (3, 20)), 0)
    assert facts["together"].slots == {
        "category": "Yogurt cups",
        "age": "2 weeks",
        "companion": "Private label white bread 20 oz",
        "again": "2 days",
    }
    assert "together" not in kinds(example((3, 2), (2, 2), (2, 20), (3, 20)), 0)


def test_a_brand_counts_when_most_lines_carry_it():
    assert "brand" in kinds(example((3, 1), (6, 2), (5, 3)), 0)
    assert "brand" not in kinds(example((3, 1), (5, 2), (7, 3)), 0)


def test_the_profile_is_quoted_clause_by_clause():
    facts = find_facts(example(), ITEMS[0])
    said = [fact.slots["clause"] for fact in facts if fact.kind in ("household", "profile")]
    assert said[0] == "household of 4 and kids: 2"
    assert "usually pays 1.00 to 3.99 USD" in said
    assert kinds(example(), 0)["favourite"].slots == {"category": "Yogurt"}


def test_nothing_to_argue_from_is_said_honestly():
    row = example(profile="")
    assert [fact.kind for fact in find_facts(row, ITEMS[9])] == ["nothing"]
    (chain,) = write_chains(row, ITEMS[9], 1)
    assert "Drug" in chain
    assert "Batteries" not in chain
    assert "Alkaline" not in chain


def test_a_target_without_categories_gets_an_open_conclusion():
    item = {**ITEMS[0], "category_l1": None, "category_l2": None, "category_l3": None}
    (chain,) = write_chains(example((3, 2)), item, 1)
    assert "Yogurt" not in chain
    assert "None" not in chain


TEAS = ("Green tea bags", "Oolong tea tin", "Steel kettle", "Blue mug")


def untold(*names):
    """Items of a log that has no categories."""
    levels = dict.fromkeys(("category_l1", "category_l2", "category_l3"))
    return [{"item_id": name, "title": name, "brand": None, **levels} for name in names]


def history_of(*lines):
    """Lines as (title, days before, price)."""
    told = [
        {
            "item_id": title,
            "ts": NOW - timedelta(days=days),
            "price": price,
            "text": f"{title}; {price:.2f}; {age_text(days * 24 * 60, WORDS)}",
        }
        for title, days, price in lines
    ]
    return example(profile="") | {"history": told}


def test_without_categories_titles_are_what_is_argued_from():
    tea, oolong, kettle, mug = TEAS
    row = history_of((kettle, 1, 30.0), (mug, 2, 8.0), (tea, 9, 3.5), (kettle, 9, 30.0))
    target = untold(oolong)[0]
    facts = {fact.kind: fact for fact in find_facts(row, target)}
    assert facts["words"].slots == {"category": "tea", "item": "Green tea bags (1 week before)"}
    assert facts["price"].slots == {"category": "tea", "prices": "3.50"}  # no currency is known
    assert facts["together"].slots["companion"] == kettle
    assert facts["recency"].slots["age"] == "1 week"
    assert "nothing" not in facts
    chains = write_chains(row, target, 4)
    assert "Nothing that is known settles" not in " ".join(chains)
    assert "tea" in chains[0].split(". ")[-1]
    for chain in chains:
        assert "Oolong" not in chain
        assert "tin" not in chain.split()


def test_words_that_are_everywhere_say_nothing():
    row = history_of(*((f"Acme {word}", n, 1.0) for n, word in enumerate(("cup", "pan", "lid"), 1)))
    assert {fact.kind for fact in find_facts(row, untold("Acme spoon")[0])} == {"nothing", "latest"}


def test_a_repeat_and_a_brand_lead_to_a_conclusion_without_categories():
    row = history_of(("Blue mug", 2, 8.0))
    (chain,) = write_chains(row, untold("Blue mug")[0], 1)
    assert any(chain.endswith(end) for end in evidence._NAMED["repeat"])
    lines = [(f"Acme {word}", n, 1.0) for n, word in enumerate(("cup", "pan"), 1)]
    item = untold("Acme spoon")[0] | {"brand": "Acme"}
    assert "Acme" in write_chains(history_of(*lines), item, 1)[0].split(". ")[-1]


@pytest.mark.parametrize("target", range(len(ITEMS)))
def test_where_nothing_is_bought_no_chain_speaks_of_buying(target):
    row = example((6, 2, 2.5), (0, 9, 0.5), (5, 20), (3, 30), (0, 40), profile="")
    chains = [*write_chains(row, ITEMS[target], 12, purchases=False)]
    chains += write_direct(row, 12, purchases=False)
    assert not re.search("shop|purchas|bought|buy|basket|trip", " ".join(chains), re.IGNORECASE)


def test_a_note_is_read_as_no_category():
    row = example((0, 3, 0.5))
    (line,) = row["history"]
    text = line["text"].replace("; 0.50 USD", '; "rated 4"; 0.50 USD')
    assert text != line["text"]
    noted = row | {"history": [line | {"text": text}]}
    assert find_facts(noted, ITEMS[0]) == find_facts(row, ITEMS[0])


def test_different_users_are_told_in_different_words():
    chains = {
        write_chains(example((0, 3), (3, 5), example_id=f"e{number}"), ITEMS[0], 1)[0]
        for number in range(40)
    }
    assert len(chains) >= 10


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_line_of_another_kind_is_read_like_a_purchase(kind):
    row = example((0, 2, 0.99), (3, 9))
    said = kind_text(kind, WORDS)
    told = [
        line | {"text": line["text"].replace(f"; {age} before", f"; {said}; {age} before")}
        for line, age in zip(row["history"], ("2 days", "1 week"), strict=True)
    ]
    assert told[0]["text"].endswith(f"0.99 USD; {said}; 2 days before")
    assert find_facts(row | {"history": told}, ITEMS[0]) == find_facts(row, ITEMS[0])


class Blind(dict):
    """An example that cannot be asked about its targets."""

    def __getitem__(self, name):
        assert "target" not in name, f"looked at {name}"
        assert "basket" not in name, f"looked at {name}"
        return super().__getitem__(name)


@settings(max_examples=60, deadline=None)
@given(history=histories(), k=st.integers(1, 8))
def test_direct_chains_are_different_and_never_look_at_the_target(history, k):
    row = Blind(example(*history))
    texts = write_direct(row, k)
    chains = [text.rpartition("Answer:")[0] for text in texts]
    assert len(set(chains)) == k
    assert texts == write_direct(row | {"target_item_id": "i5"}, k)
    lines = [line["text"] for line in row["history"]]
    for text in texts:
        answer = text.rpartition("Answer:")[2].strip()
        assert any(line.startswith(answer) for line in lines) if lines else answer == ""


def test_a_direct_chain_guesses_what_is_bought_most_first():
    row = example((3, 2), (0, 5), (0, 20), (6, 30))
    first, second, third = write_direct(row, 3)
    assert first.endswith("Answer: Private label yogurt 6 oz; Grocery; Yogurt; Yogurt cups")
    assert second.endswith("Answer: Private label white bread 20 oz; Grocery; Bread; White bread")
    assert "White bread" in second
    assert third.endswith("Answer: Private label salad mix 16 oz; Produce; Salad; Salad mix")


def by_shared_letters(clauses, name):
    """In the place of an encoder: the share of the name's letters that a clause has."""
    shares = [len(set(name) & set(clause)) / len(set(name)) for clause in clauses]
    best = max(range(len(shares)), key=shares.__getitem__)
    return best, shares[best]


def test_a_clause_that_means_the_target_speaks_for_its_category():
    row = example(profile="Note: my remote and torch are dead, it is cold today.")
    assert "meant" not in {fact.kind for fact in find_facts(row, ITEMS[9])}
    (fact,) = (
        fact for fact in find_facts(row, ITEMS[9], by_shared_letters) if fact.kind == "meant"
    )
    assert fact.slots["clause"] == "my remote and torch are dead"
    assert fact.level == 3
    (chain,) = write_chains(row, ITEMS[9], 1, nearest=by_shared_letters)
    assert "my remote and torch are dead" in chain.lower()
    assert fact.slots["category"] in chain


def test_a_clause_that_is_far_from_the_target_is_no_fact():
    row = example(profile="Note: it is cold today.")
    facts = find_facts(row, ITEMS[9], lambda clauses, name: (0, 0.1))
    assert {fact.kind for fact in facts} == {fact.kind for fact in find_facts(row, ITEMS[9])}


def test_readings_argue_for_each_item_from_a_clause_of_its_own():
    row = example(profile="Buys mostly yogurt. Note: my remote and torch are dead, we toast a lot.")
    targets = [ITEMS[9], ITEMS[2]]
    first, second = write_readings(row, targets, 2, by_shared_letters)
    assert first != second
    for chain in (first, second):
        assert "my remote and torch are dead" in chain.lower()
        assert "we toast a lot" in chain.lower()
        assert "mostly" not in chain


def test_a_clause_that_names_the_category_is_no_reading():
    named = example(profile="Buys mostly yogurt and milk. Note: it is cold today.")

    def only_the_first_of_many_means_it(clauses, name):
        return 0, 0.9 if "yogurt" in clauses[0] else 0.1

    assert write_readings(named, [ITEMS[2]], 2, only_the_first_of_many_means_it) == ["", ""]


def test_an_item_that_no_clause_means_leaves_the_example_without_a_chain():
    row = example(profile="Note: my remote and torch are dead.")
    assert write_readings(row, [ITEMS[9]], 1, by_shared_letters) != [""]
    assert write_readings(row, [ITEMS[9], ITEMS[2]], 1, by_shared_letters) == [""]
