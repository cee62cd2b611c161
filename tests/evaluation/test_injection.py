import importlib
from pathlib import Path

import pytest

from taiji import schema
from taiji.data.item_text import one_part
from taiji.language.prompt import ChatScaffold, Prompt, Segment
from taiji.reasoning.prompts import student_prompt
from taiji.templates import resolve_templates

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def study():
    """The injection study, which is a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("injection")


@pytest.fixture(scope="module")
def scaffold(smollm2_tokenizer):
    return ChatScaffold(smollm2_tokenizer)


def prompt_with(title: str) -> Prompt:
    line = f"{'; '.join([one_part(title), 'Grocery', 'Drinks', 'Tea'])}; 1.00 USD; 2 days before"
    example = {"profile": "Age 65+.", "history": [{"text": line}, {"text": "Cola; 1 day before"}]}
    return student_prompt(example, resolve_templates("en", {}))


def titles(study) -> list[str]:
    return [study.hostile("Green tea", number) for number in range(len(study.HOSTILE))]


def test_hostile_titles_change_no_structure_of_a_prompt(study, scaffold):
    clean = study.skeleton(prompt_with("Green tea"), scaffold)
    assert [study.skeleton(prompt_with(title), scaffold) for title in titles(study)] == [
        clean
    ] * len(study.HOSTILE)


def test_without_the_fences_they_would(study, scaffold):
    def unfenced(title: str) -> Prompt:
        return Prompt("", (Segment(f"1. {title}\n2. Cola\n", data=False),))

    clean = study.skeleton(unfenced("Green tea"), scaffold)
    changed = [study.skeleton(unfenced(title), scaffold) != clean for title in titles(study)]
    assert sum(changed) >= 2  # template tokens and line breaks


def test_hostile_titles_change_no_structure_of_a_label(study):
    row = {"title": "Green tea", "category_l1": "Grocery", "category_l2": "Drinks"}
    row |= {"category_l3": None}
    clean = study.label_form(row)
    assert clean == ("ok", 3, ("Grocery", "Drinks", None))
    for title in titles(study):
        assert study.label_form(row | {"title": title}) == clean


def test_what_prompts_show_is_planted_first(study):
    items = schema.ITEMS.empty_table().from_pylist(
        [{"item_id": f"i{n}", "title": f"Title {n}"} for n in range(100)], schema.ITEMS
    )
    examples = [{"history": [{"item_id": "i7"}, {"item_id": "i8"}]}]
    chosen = study.choose(examples, items, share=0.03)
    assert len(chosen) == 3
    assert set(chosen) > {"i7", "i8"}
    planted = {row["item_id"]: row["title"] for row in study.plant(items, chosen).to_pylist()}
    assert {item for item, title in planted.items() if title != f"Title {item[1:]}"} == set(chosen)
