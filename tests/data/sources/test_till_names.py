import pytest

from taiji.data.sources.till_names import brand_name, item_key, item_title, readable


@pytest.mark.parametrize(
    ("printed", "read"),
    [
        ("YOGURT NOT MULTI-PACKS", "yogurt not multi-packs"),
        ("FRZN SS PREMIUM ENTREES/DNRS/N", "frozen single serve premium entrees/dinners/n"),
        ("SFT DRNK SNGL SRV BTL CARB", "soft drink single serve bottle carbonated"),
        ("PNT BTR/JELLY/JAMS", "peanut butter/jelly/jams"),
        ("SANDWICHES&HANDHELDS", "sandwiches & handhelds"),
        ("BBQ SAUCE", "BBQ sauce"),
        ("CARBURETOR FLUID", "carburetor fluid"),  # whole words only
        ("L      8 OZ", "L 8 oz"),
        ("1 GA", "1 gal"),
        ("14.0 OZ", "14 oz"),
        ("10.05 OZ", "10.05 oz"),
        ("", ""),
    ],
)
def test_a_tills_name_becomes_readable(printed, read):
    assert readable(printed) == read


def test_reading_twice_changes_nothing():
    for printed in ("FRZN JCE CONC/DRNKS", "DRUG GM", "12 PK/12 OZ", "PUDDING&GELATIN CUPS"):
        assert readable(readable(printed).upper()) == readable(printed)


def test_a_title_leaves_out_what_is_missing():
    assert (
        item_title("Private", "YOGURT NOT MULTI-PACKS", "6 OZ")
        == "Private label yogurt not multi-packs 6 oz"
    )
    assert item_title("National", "BANANAS", None) == "National brand bananas"
    assert item_title(None, "BANANAS", "40 LB") == "Bananas 40 lb"


def test_an_unknown_brand_kind_is_kept_as_written():
    assert brand_name("Local") == "Local"
    assert brand_name(None) is None


def test_item_ids_never_change():
    # BLAKE2b is a standard: this value holds on every machine and version.
    path = ("Grocery", "Yogurt", "Yogurt not multi-packs")
    assert item_key("Private label yogurt not multi-packs 6 oz", path) == "edb56549737ecc4a"


def test_one_title_under_two_paths_is_two_items():
    assert item_key("Juice", ("Grocery", "Juice")) != item_key("Juice", ("Produce", "Juice"))
    assert item_key("Juice", ("a", "b")) != item_key("Juice", ("a b",))
