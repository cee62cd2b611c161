import base64
import hashlib
import html
import json
import re

import finished_run
import page_run
import pytest
import small_run

from taiji.report.cards import CardTables, build_cards
from taiji.report.page import render_report, selection_summary
from taiji.report.run_files import ReportData


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(small_run.whole_run())


def texts(page: str, test_id: str) -> list[str]:
    found = re.findall(rf'data-testid="{test_id}"[^>]*>(.*?)</', page, re.DOTALL)
    return [text.strip() for text in found]


def test_loads_nothing_from_anywhere(page):
    own = page.partition("</main>")[0]
    assert "http:" not in own
    assert "https:" not in page
    assert "<script" not in own.lower()
    assert page.lower().count("<script") == 2  # the data, and what looks through it
    assert " src=" not in page.replace("&lt;img src=x", "").replace("\\u003cimg src=x", "")
    assert "<iframe" not in page.lower()
    assert not re.search(r"(src|href)=(?!\"(#|data:,\"))", own.replace("src=x", ""))
    assert not re.search(r"url\((?!#)", page)
    policy = html.unescape(page)
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy


def test_only_the_script_whose_digest_the_policy_names_may_run(page):
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html.unescape(page)


def test_no_text_ends_the_island_of_data(page):
    island = page.partition('id="island">')[2].partition("</script>")[0]
    rows = json.loads(island)["rollouts"]["rows"]
    assert rows[0][2] == small_run.HOSTILE[1]  # the answer, whole and as text
    assert "<" not in island


def test_hostile_text_is_text(page):
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "&lt;/script&gt;&lt;script&gt;alert(2)&lt;/script&gt;" in page
    assert "{{7*7}} ${7*7} {% raw %}" in page
    said = page.partition("</main>")[0]
    assert "49" not in re.sub(
        r"<svg.*?</svg>|<style.*?</style>|<meta[^>]*>", "", said, flags=re.DOTALL
    )


def test_marks_that_reorder_text_are_shown_not_obeyed(page):
    assert "\u202e" not in page
    assert "pay ⟨U+202E⟩evil⟨U+202C⟩ now" in page


def test_emoji_and_other_scripts_stay():
    items = small_run.items().set_column(
        1, small_run.items().schema.field("title"), [["茶 👩‍👩‍👧 چای نی‌شکر"] * 4]
    )
    assert "茶 👩‍👩‍👧 چای نی‌شکر" in render_report(small_run.whole_run(items=items))


def test_perplexities_on_cards_are_those_of_the_table(page):
    expected = [f"{value:.4f}" for value in small_run.PERPLEXITIES]
    assert texts(page, "ppl") == expected * 2


def test_a_card_of_many_chains_shows_the_first_and_says_of_how_many():
    page = render_report(small_run.whole_run(scored=page_run.many(600)["scored"]))
    assert len(texts(page, "ppl")) == 2 * 24  # of two users
    assert page.count("The first 24 of 300 chains.") == 2


def test_exactly_the_chains_below_r_say_kept(page):
    assert texts(page, "verdict") == ["kept", "rejected", "rejected"] * 2


def test_shares_at_r_are_those_of_python(page):
    below = sum(p < small_run.THRESHOLD for p in small_run.PERPLEXITIES) / 3
    assert texts(page, "share-below") == [f"{100 * below:.1f}&nbsp;%"]
    assert texts(page, "share-kept") == [f"{100 * below:.1f} %"]
    assert texts(page, "threshold") == ["4.6000"]


def test_what_if_counts_strictly_below():
    summary = selection_summary(small_run.scored(), {"threshold": 4.6})
    lows = dict(summary["what_if"])
    assert lows[4.6] == pytest.approx(1 / 3)  # 4.6 itself is not below 4.6
    assert lows[9.87654] == pytest.approx(2 / 3)
    assert summary["reasons"] == [("perplexity", 4), ("kept", 2)]


def test_what_was_not_measured_says_so(page):
    assert ">not run<" not in page
    assert "Not run: GRPO, fixed weights; POPO-light." in page


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"scored": None, "threshold": None}, "refine"),
        ({"align_steps": (), "rollouts": None}, "align"),
        ({"metrics": None, "judgements": None}, "evaluate"),
        ({"examples": None}, "construct"),
        ({"manifests": ()}, "construct"),
    ],
)
def test_a_missing_stage_leaves_a_message(change, stage):
    page = render_report(small_run.whole_run(**change))
    assert f'data-testid="missing-{stage}"' in page
    assert f"taiji {stage}" in page


def test_a_run_that_has_not_begun_has_a_page():
    page = render_report(ReportData(recipe=small_run.Recipe(name="empty")))
    for stage in ("construct", "refine", "align", "evaluate"):
        assert f'data-testid="missing-{stage}"' in page


def test_fixed_weights_have_no_alignment_scores_to_draw():
    steps = [{"step": 1, "w_semantic": 0.5, "w_preference": 0.5}]
    page = render_report(small_run.whole_run(align_steps=steps))
    assert 'data-testid="chart-weights"' in page
    assert 'data-testid="chart-alignment"' not in page


@pytest.mark.parametrize("part", ["texts", "judgements", "features", "rollouts", "scored"])
def test_cards_do_without_any_one_part(part):
    assert 'data-testid="user-card"' in render_report(small_run.whole_run(**{part: None}))


def test_candidates_stand_in_before_refine():
    chains = small_run.scored().drop_columns(["perplexity", "num_answer_tokens", "kept", "reason"])
    page = render_report(small_run.whole_run(scored=None, threshold=None, candidates=chains))
    assert 'data-testid="chain"' in page
    assert 'data-testid="verdict"' not in page


def test_ids_of_charts_are_unique_in_the_page(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_every_figure_about_rewards_that_there_is_has_a_chart():
    page = render_report(small_run.whole_run(align_steps=small_run.diagnosed_steps()))
    drawn = set(re.findall(r'data-testid="chart-([a-z]+)"', page))
    assert drawn >= {"weights", "alignment", "norms", "cosines", "means", "shares", "rungs"}
    assert drawn >= {"form", "constant", "scatter", "kl"}
    assert not drawn & {"popularity", "flat", "clip"}, "nothing was logged to draw them from"
    assert "Rewards: semantic, preference." in page


def test_the_top_answers_are_named_as_text(page):
    table = page.partition('data-testid="top-answers"')[2].partition("</table>")[0]
    assert "&lt;img src=x onerror=alert(1)&gt;" in table
    assert table.count("100.0 %") == 2


def test_cards_choose_users_that_more_stages_saw_first():
    run = small_run.whole_run()
    cards = build_cards(
        CardTables(
            examples=run.examples,
            items=run.items,
            chains=run.scored,
            texts=run.texts,
            judgements=run.judgements,
            rollouts=run.rollouts,
            features=run.features,
        ),
        num_cards=1,
    )
    assert [card.user_id for card in cards] == ["u0"]  # u1 has no rollouts and no neighbour
    assert cards[0].num_parts == 4
    assert cards[0].neighbour["titles"] == list(small_run.HOSTILE[1:3])


def test_the_first_screen_says_what_was_seen_and_what_was_not():
    metrics = finished_run.metrics()
    manifests = [
        {**small_run.manifest(stage), "summary": summary}
        for stage, summary in finished_run.SUMMARIES.items()
    ]
    page = render_report(small_run.whole_run(metrics=metrics, manifests=manifests))
    first = page.partition('data-testid="seen"')[2].partition('data-testid="caveats"')[0]
    assert "kept 54 of 108 chains under R = 28.87" in first
    assert "popo, 2 steps: semantic 0.50, preference 0.50 (hardly moved)" in first
    assert "<b>Not seen:</b> a lift, or its absence: 12 answers were tested" in first
