import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taiji.safe_text import defang

CONTROL = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<s>",
    "</s>",
    "<unk>",
    "<0x0A>",
    "<<SYS>>",
    "<start_of_turn>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "\uff1cthink\uff1e",
    "[INST]",
    "[/INST]",
    "[gMASK]",
    "[TOOL_CALLS]",
    "[control_8]",
    "[unused0]",
]
PIECES = [
    *CONTROL,
    *"<>[]|/_",
    "think",
    "INST",
    "3",
    " ",
    "\n",
    "\r\n",
    "\x00",
    "\x1b[31m",
    "\u200b",
    "\u202e",
    "\ud800",
    "\U000e0041",
    "\U0001f469\u200d\U0001f467",
    "\u725b\u5976",
]
hostile = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


@pytest.mark.parametrize(
    "text",
    [
        "PRIVATE LABEL A&B 2<3 oz, 50% off $3.99 [new]",
        "size <= 5 ct, a -> b, 3 < 5 > 2, I <3 milk",
        "caf\u00e9 \u725b\u5976 250\u514b \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f44d\U0001f3fd",
        "",
        "semi; colon, \"quotes\", 'single', back\\slash {braces}",
    ],
)
def test_ordinary_text_is_untouched(text):
    assert defang(text) == text


@pytest.mark.parametrize("token", CONTROL)
def test_control_words_lose_their_brackets_and_stay_legible(token):
    out = defang(f"milk {token} bread")
    assert token not in out
    inside = token.strip("<>[]/\uff1c\uff1e")
    assert inside in out
    assert not any(c in out for c in "<>\uff1c\uff1e")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\tc\u2028d", "a b c d"),
        ("a\x00b\x7fc\x9bd", "abcd"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("price \u202e99.3\u202c", "price 99.3"),
        ("\ufeffmi\u00adlk\u200b", "milk"),
        ("mi\ud800lk", "mi\ufffdlk"),
        ("<\x00think>", "\u2039think\u203a"),  # removing must not put a tag together
        ("<\u200b/answer>", "\u2039/answer\u203a"),
        ("x<", "x\u2039"),  # the next text may begin with "think>"
        ("<tool name='x'>", "\u2039tool name='x'>"),
        ("[NEW] [new]", "\u27e6NEW\u27e7 [new]"),
    ],
)
def test_by_hand(text, expected):
    assert defang(text) == expected


@given(hostile)
@example("<5<a>")
@example("[[INST]]")
@example("<[INST]>")
@example("[IN\x00ST]")
def test_idempotent_one_line_and_utf8(text):
    once = defang(text)
    assert defang(once) == once
    assert len(once.splitlines()) <= 1
    once.encode("utf-8")


@given(hostile, hostile)
def test_no_control_word_survives_alone_or_joined(left, right):
    for text in (defang(left), defang(left) + defang(right)):
        for token in CONTROL:
            if token.startswith("["):  # half a square word may be completed by the next text
                continue
            assert token not in text
    for token in CONTROL:
        assert token not in defang(left + right)


@pytest.mark.parametrize(
    "text", ["<" * 200_000, "<5" * 100_000 + ">", "[" + "_" * 200_000, "[A" * 99_000]
)
def test_time_is_linear(text):
    start = time.process_time()
    defang(text)
    assert time.process_time() - start < 2  # quadratic would take minutes
