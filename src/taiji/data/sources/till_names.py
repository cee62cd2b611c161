"""Readable titles and category names out of a till's upper-case abbreviations.

A till prints `FRZN SS PREMIUM ENTREES/DNRS/N`; a language model reads `frozen single serve
premium entrees/dinners/n` with more profit. Only abbreviations with one meaning in this
vocabulary are expanded, and nothing is guessed where the source cut a name at 30 characters.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

# Words and sizes share one table: each entry has one meaning in both.
_EXPANSIONS = {
    "accss": "accessories",
    "bbq": "BBQ",
    "bev": "beverage",
    "bg": "bags",
    "bkd": "baked",
    "bn": "beans",
    "bndges": "bandages",
    "brkfst": "breakfast",
    "btl": "bottle",
    "btr": "butter",
    "carb": "carbonated",
    "catfd": "cat food",
    "chix": "chicken",
    "choc": "chocolate",
    "chococlate": "chocolate",
    "cig": "cigarette",
    "ckys": "cookies",
    "cleang": "cleaning",
    "cnd": "canned",
    "cndles": "candles",
    "cndy": "candy",
    "cntrl": "control",
    "conc": "concentrate",
    "crbntd": "carbonated",
    "crkr": "crackers",
    "crystl": "crystal",
    "ctn": "carton",
    "diapr": "diaper",
    "disposible": "disposable",
    "dnr": "dinner",
    "dnrs": "dinners",
    "dogfd": "dog food",
    "doz": "dozen",
    "drnk": "drink",
    "drnking": "drinking",
    "drnkng": "drinking",
    "drnks": "drinks",
    "drsng": "dressing",
    "dsh": "dishes",
    "dvd": "DVD",
    "dz": "dozen",
    "elstc": "elastic",
    "excp": "except",
    "fd": "food",
    "fem": "feminine",
    "flvrd": "flavored",
    "frd": "fried",
    "frz": "frozen",
    "frzn": "frozen",
    "ga": "gal",
    "galon": "gal",
    "gds": "goods",
    "gm": "general merchandise",
    "gngr": "ginger",
    "grnd": "ground",
    "hbc": "health and beauty care",
    "hygn": "hygiene",
    "incl": "including",
    "iqf": "individually quick frozen",
    "iws": "individually wrapped slices",
    "jce": "juice",
    "l": "L",
    "liqs": "liquids",
    "lozng": "lozenges",
    "mach": "machine",
    "mfg": "manufacturer",
    "misc": "miscellaneous",
    "mixs": "mixes",
    "mlk": "milk",
    "mlt": "multi",
    "mneral": "mineral",
    "mnrl": "mineral",
    "mult": "multi",
    "mw": "microwave",
    "mx": "mix",
    "mxs": "mixes",
    "natrl": "natural",
    "nz": "New Zealand",
    "ozs": "oz",
    "pckgd": "packaged",
    "pkg": "package",
    "pkgd": "packaged",
    "pkld": "pickled",
    "plstc": "plastic",
    "pnch": "punch",
    "pnt": "peanut",
    "prem": "premium",
    "prep": "prepared",
    "preportnd": "preportioned",
    "prpck": "prepack",
    "pwdr": "powder",
    "pwdrs": "powders",
    "qsr": "quick service restaurant",
    "refrgratd": "refrigerated",
    "refrig": "refrigerated",
    "retl": "retail",
    "rtd": "ready to drink",
    "rts": "ready to serve",
    "sald": "salad",
    "saus": "sausage",
    "sft": "soft",
    "sgl": "single",
    "sherbts": "sherbets",
    "shlfsh": "shellfish",
    "sndwch": "sandwich",
    "sngl": "single",
    "snks": "snacks",
    "spec": "specialty",
    "specilaty": "specialty",
    "spf": "SPF",
    "sply": "supply",
    "sprd": "spread",
    "srv": "serve",
    "ss": "single serve",
    "suppplies": "supplies",
    "suprt": "support",
    "sv": "serve",
    "sw": "sweet",
    "sweetners": "sweeteners",
    "swt": "sweet",
    "syrp": "syrup",
    "tiss": "tissue",
    "tort": "tortilla",
    "trsh": "trash",
    "tv": "TV",
    "vend": "vending",
    "whl": "whole",
    "whlsm": "wholesome",
    "wtr": "water",
    "xmas": "Christmas",
}
_BRANDS = {"Private": "Private label", "National": "National brand"}

_WORD = re.compile(r"[a-z]+")
_WHOLE_NUMBER = re.compile(r"(?<![\d.])(\d+)\.0+(?!\d)")
_SPACED = re.compile(r"\s*([&:,])\s*")


@lru_cache(maxsize=1 << 16)
def readable(name: str) -> str:
    """Lower-case a till's name, expand its abbreviations and tidy its spaces.

    `5.0 OZ` and `5 OZ` are one size. Empty stays empty.
    """
    text = _WHOLE_NUMBER.sub(r"\1", name.lower())
    text = _WORD.sub(lambda word: _EXPANSIONS.get(word[0], word[0]), text)
    text = _SPACED.sub(_space, text)
    return " ".join(text.split())


def sentence(text: str) -> str:
    """Capitalise the first letter and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def brand_name(brand: str | None) -> str | None:
    """Spell out the kind of brand; an unknown kind stays as the source writes it."""
    return None if brand is None else _BRANDS.get(brand, brand)


def item_title(brand: str | None, product_type: str, package_size: str | None) -> str:
    """Join brand kind, product type and size: `Private label yogurt not multi-packs 6 oz`."""
    parts = (brand_name(brand), readable(product_type), readable(package_size or ""))
    return sentence(" ".join(part for part in parts if part))


def item_key(title: str, path: Sequence[str]) -> str:
    """Return the item id: 64 bits of BLAKE2b over the title and its full category path.

    The same title under two category paths is two items; two products whose title and path
    read alike are one, because no text could tell them apart.
    """
    text = "\x1f".join((title, *path))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _space(match: re.Match[str]) -> str:
    """Set `a&b` as `a & b` and `a :b` as `a: b`."""
    return " & " if match[1] == "&" else f"{match[1]} "
