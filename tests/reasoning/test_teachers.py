from dataclasses import replace

import numpy as np
import pytest
from shop import ITEMS, example

from taiji import config
from taiji.config.text import TextSection
from taiji.errors import ConfigError
from taiji.language.completions import answer_lines
from taiji.language.generate import Reply, Sampling, TransformersGenerator
from taiji.reasoning.teachers import (
    EvidenceTeacher,
    LanguageModelTeacher,
    TeacherTask,
    build_teacher,
    clean,
)
from taiji.templates import ENGLISH


@pytest.fixture(params=["evidence", "language model"])
def teacher(request, tiny_model, smollm2_tokenizer):
    if request.param == "evidence":
        return EvidenceTeacher()
    generator = TransformersGenerator(tiny_model, smollm2_tokenizer, "tiny", 8)
    sampling = Sampling(max_new_tokens=6, temperature=1.0, seed=3)
    return LanguageModelTeacher(generator, sampling, ENGLISH)


TASKS = [
    TeacherTask(example((3, 2), example_id="a"), ITEMS[0]),
    TeacherTask(example(example_id="b"), ITEMS[10]),
]


class Letters:
    """Vectors of which letters a text has, in the place of an encoder."""

    def encode(self, texts):
        rows = [[letter in text for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_evidence_teacher_takes_the_clause_that_its_encoder_finds_nearest():
    clauses = ["zzz qqq xxx", "a yoghurt lover"]
    assert EvidenceTeacher(encoder=Letters())._nearest(clauses, "yoghurt")[0] == 1


def test_every_teacher_answers_in_order_with_k_replies(teacher):
    seen = []
    replies = teacher.write(TASKS, 3, lambda done, total: seen.append((done, total)))
    assert [len(group) for group in replies] == [3, 3]
    assert seen[-1] == (2, 2)
    assert teacher.name


def test_every_teacher_repeats_itself_on_the_same_task_alone(teacher):
    together = teacher.write(TASKS, 2)
    assert teacher.write(TASKS[1:], 2) == together[1:]


def test_no_teacher_writes_a_tag(teacher):
    texts = [reply.text for group in teacher.write(TASKS, 3) for reply in group]
    assert not any("<" in text for text in texts)


def test_no_tasks_give_no_replies(teacher):
    assert teacher.write([], 3) == []


def test_the_answer_is_the_items_text_without_missing_levels():
    assert TASKS[0].answer == "Private label yogurt 6 oz; Grocery; Yogurt; Yogurt cups"
    assert TASKS[1].answer == "Private label greeting card; Gifts; Cards"


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("Bread is due.\n\nSo bakery.", "ok", ("Bread is due. So bakery.", "ok")),
        ("<think>\nBread is due.\n</think>\n<answer>Bread", "ok", ("Bread is due.", "ok")),
        ("Bread is due. So bak", "truncated", ("Bread is due.", "ok")),
        ("It costs 2.50 and then", "truncated", ("It costs 2.50 and then", "truncated")),
        ("Bread is due. So bakery</think> and", "truncated", ("Bread is due. So bakery", "ok")),
        ("<think>\nThey want a", "truncated", ("They want a", "truncated")),
        ("<think>\nThey want a mug. And", "truncated", ("They want a mug.", "truncated")),
        ("Less than 2<3 oz.", "ok", ("Less than 2<3 oz.", "ok")),
        ("<think>told so</think>\n\nBread is due.", "ok", ("Bread is due.", "ok")),
        ("told so</think>Bread is due. So ba", "truncated", ("Bread is due.", "ok")),
        ("<think>I see.</think>\n", "ok", ("I see.", "ok")),
        ("</think>", "ok", ("", "empty")),
        ("  ", "ok", ("", "empty")),
        ("half a repl", "timeout", ("", "timeout")),
        ("", "http_error", ("", "http_error")),
    ],
)
def test_a_reply_is_cleaned_to_whole_sentences_without_tags(text, status, expected):
    reply = clean(Reply(text, status, 5))
    assert (reply.text, reply.status) == expected
    assert reply.num_tokens == 5


def test_a_prompts_tag_in_full_width_is_no_tag_after_cleaning():
    assert "＜" not in clean(Reply("Buys ＜answer＞ soap.", "ok", 5)).text


def test_the_recipe_names_the_teacher(tiny_model, smollm2_tokenizer, tmp_path):
    assert build_teacher(config.EvidenceTeacher(), TextSection(), 1).name == "evidence"
    tiny_model.save_pretrained(tmp_path)
    smollm2_tokenizer.save_pretrained(tmp_path)
    section = config.TransformersTeacher(kind="transformers", model=str(tmp_path))
    assert isinstance(build_teacher(section, TextSection(), 1), LanguageModelTeacher)
    remote = config.OpenAITeacher(kind="openai", base_url="http://127.0.0.1:9/v1", model="big")
    assert build_teacher(remote, TextSection(), 1).name == "big"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"language": "zh"}, "evidence writes English only.*data.text.language is zh"),
        ({"templates": {"before": "{age} ago"}}, "data.text.templates replaces before"),
    ],
)
def test_the_evidence_teacher_refuses_words_that_it_cannot_read(text, message):
    with pytest.raises(ConfigError, match=message):
        build_teacher(config.EvidenceTeacher(), TextSection(**text), 1)


def test_words_outside_of_history_lines_do_not_trouble_the_evidence_teacher():
    text = TextSection(templates={"household": "Family"}, currency="EUR", unsaid_kind="view")
    assert build_teacher(config.EvidenceTeacher(), text, 1).name == "evidence"


def test_a_chinese_chain_that_ran_into_the_limit_ends_with_its_last_sentence():
    reply = clean(Reply("用户常买牛奶。所以需要乳制品！接下来", "truncated", 9))
    assert (reply.text, reply.status) == ("用户常买牛奶。所以需要乳制品！", "ok")


def test_the_evidence_teacher_can_argue_from_meaning_alone():
    meant = replace(TASKS[0], example=example(profile="Note: a yoghurt lover, zzz qqq xxx."))
    silent = replace(TASKS[0], example=example(profile="Note: zzz qqq xxx."))
    reader = EvidenceTeacher(encoder=Letters(), only_meant=True)
    (said,), (nothing,) = reader.write([meant, silent], 1)
    assert said.status == "ok"
    assert nothing == Reply("", "empty", 0)


def test_a_list_has_the_same_form_when_only_one_item_is_known():
    alone = replace(TASKS[0], num_answers=2)
    assert alone.answer == "Grocery; Yogurt; Yogurt cups; Private label yogurt 6 oz"
    assert answer_lines(alone.answer, 2) == [TASKS[0].answer]
    with_another = replace(alone, others=[ITEMS[10]])
    assert answer_lines(with_another.answer, 2) == [TASKS[0].answer, TASKS[1].answer]
