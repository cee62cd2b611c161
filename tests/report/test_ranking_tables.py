import small_run

from taiji.report.cells import NOT_APPLICABLE, NOT_RUN, cell_text
from taiji.report.ranking_tables import ranking_tables


def tables(ranking):
    return {table.key: table for table in ranking_tables(ranking)}


def rows(table) -> dict:
    return {row[0]: row[1:] for row in table.rows}


def test_arms_come_before_contrasts_and_controls_after_real_arms():
    ranked = rows(tables(small_run.ranking())["ranking-network-all-ctcvr"])
    assert list(ranked) == [
        "Base",
        "+ intra-user codes",
        "+ both, shuffled among users",
        "+ intra-user codes – Base",
        "+ both – Base",
    ]
    assert cell_text(ranked["Base"][0]) == "0.8500 [0.8400, 0.8600]"
    assert ranked["Base"][1] == NOT_APPLICABLE, "no GAUC in these figures"


def five_seeds(**lifts):
    return tables(small_run.ranking(**lifts) | {"seeds": 5})


def test_the_last_column_and_the_caption_say_what_is_shown_and_what_is_not():
    table = five_seeds()["ranking-network-all-click"]
    ranked = rows(table)
    assert ranked["+ intra-user codes – Base"][-1] == "lift shown"
    assert ranked["+ both – Base"][-1] == "no lift shown"
    assert "Lift shown: + intra-user codes." in table.caption
    assert "No lift shown: + both." in table.caption
    assert "Means over 5 seeds" in table.caption
    assert "A control" not in table.caption


def test_one_seed_shows_no_lift():
    table = tables(small_run.ranking())["ranking-network-all-click"]
    assert rows(table)["+ intra-user codes – Base"][-1] == "takes more seeds"
    assert rows(table)["+ both – Base"][-1] == "no lift shown"
    assert "Takes more seeds: + intra-user codes." in table.caption
    assert "One seed" in table.caption


def test_a_control_that_lifts_is_said_aloud():
    lifts = {"both - base": 0.02, "both:shuffled - base": 0.02}
    table = five_seeds(**lifts)["ranking-network-all-ctcvr"]
    assert "A control lifts too (+ both, shuffled among users)" in table.caption
    silent = five_seeds(**lifts | {"both:shuffled - base": 0.0})
    assert "A control" not in silent["ranking-network-all-ctcvr"].caption


def test_an_interaction_has_words_of_its_own_and_a_loss_is_a_loss():
    lifts = {"interaction": -0.02, "both - base": -0.02, "both - both:shuffled": 0.0}
    ranked = rows(five_seeds(**lifts)["ranking-network-all-ctcvr"])
    assert ranked["Interaction of both"][-1] == "less than the sum"
    assert ranked["+ both – Base"][-1] == "loss shown"
    assert ranked["+ both – + both, shuffled among users"][-1] == "no lift shown"


def test_backbones_stand_in_our_order_and_ones_own_last():
    ranking = small_run.ranking()
    groups = ranking["backbones"]["network"]
    ranking["backbones"] = dict.fromkeys(("a.b:C", "lightgbm", "network"), groups)
    names = [table.title.rpartition(", ")[2] for table in ranking_tables(ranking)]
    assert list(dict.fromkeys(names)) == ["network", "LightGBM", "a.b:C"]


def test_what_is_not_defined_is_a_dash_and_cannot_be_judged():
    few = tables(small_run.ranking())["ranking-network-covered-ctcvr"]
    assert set(rows(few)["Base"]) == {NOT_APPLICABLE}
    assert few.title.endswith("users with language features, network")


def test_nothing_ranked_is_not_run():
    (table,) = ranking_tables(None)
    assert all(set(row[1:]) == {NOT_RUN} for row in table.rows)
    assert {len(row) for row in table.rows} == {len(table.columns)}
