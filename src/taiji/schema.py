"""The columns of every table that one stage writes and another reads.

Ids are strings, times are UTC microseconds, null is null. Money is in the currency of the
source; a price is the paid price of one unit.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

Goal = Literal["conversion", "click"]
"""What ranking models predict in the end: a click that converts, or the click itself where no
conversion can be known."""

TIME = pa.timestamp("us", tz="UTC")

USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("holdout", pa.bool_(), nullable=False),  # never seen by SFT, RL or a reward
        # The profile: every user has every declared field, in declared order, null if unknown.
        pa.field("fields", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("category_l1", pa.string()),
        pa.field("category_l2", pa.string()),
        pa.field("category_l3", pa.string()),
        pa.field("brand", pa.string()),
    ]
)

INTERACTIONS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("ts", TIME, nullable=False),
        pa.field("order_id", pa.string(), nullable=False),  # one order = one simultaneous set
        pa.field("kind", pa.string(), nullable=False),
        pa.field("quantity", pa.int32(), nullable=False),
        pa.field("price", pa.float64()),
        pa.field("line", pa.int64()),  # place in its order; null if nobody knows
        pa.field("note", pa.string()),  # what else a history line tells, such as "rated 4"
    ]
)

# What users do beside interactions: searches, apps, live rooms. The modality is data, not code.
EVENTS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("ts", TIME, nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
        pa.field("weight", pa.float64()),  # seconds or counts, null if the source has none
    ]
)

EXPOSURES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("ts", TIME, nullable=False),  # when it was shown; its window follows from this
        pa.field("placement", pa.string(), nullable=False),  # "" if unknown
        pa.field("click", pa.int8(), nullable=False),
        pa.field("conversion", pa.int8()),  # null if nobody knows what came of the click
    ]
)

OUTCOMES = pa.schema(
    [
        # The first four are those of EXPOSURES, row by row; only of a log that maps more of them.
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("ts", TIME, nullable=False),
        pa.field("placement", pa.string(), nullable=False),
        pa.field("advertiser", pa.string(), nullable=False),
        pa.field("goal", pa.string()),  # the kind of conversion that is paid for; null for one kind
        pa.field("reported", pa.string(), nullable=False),  # kinds that were reported, by commas
        pa.field("value", pa.float64()),  # of the conversion; null if unknown
    ]
)

PLACES = pa.schema(
    [
        # Where items are, in degrees; only of a log that maps it, and only items with a place.
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("latitude", pa.float64(), nullable=False),
        pa.field("longitude", pa.float64(), nullable=False),
    ]
)

PURCHASE = pa.struct(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("ts", TIME, nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("quantity", pa.int32(), nullable=False),
        pa.field("price", pa.float64()),
        pa.field("note", pa.string()),
    ]
)

EVENT = pa.struct(
    [
        pa.field("modality", pa.string(), nullable=False),
        pa.field("ts", TIME, nullable=False),
        pa.field("value", pa.string(), nullable=False),
        pa.field("weight", pa.float64()),
    ]
)

HISTORY_ITEM = pa.struct(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("ts", TIME, nullable=False),
        pa.field("price", pa.float64()),
        pa.field("text", pa.string(), nullable=False),  # the line that a prompt shows
    ]
)

# What is known at the cut-off of one example, as figures: the input of the renderer, which turns
# it into a row of EXAMPLES. Items are looked up by id, so a line costs no text here. A null list is
# an empty one.
FIGURES = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("cutoff", TIME, nullable=False),
        pa.field("holdout", pa.bool_(), nullable=False),
        pa.field("fields", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("history", pa.list_(PURCHASE)),  # newest first, at most N
        pa.field("events", pa.list_(EVENT)),  # newest first, at most N a modality
        pa.field("history_length", pa.int32(), nullable=False),
        pa.field("top_categories", pa.list_(pa.string())),  # at most 3, level 2
        pa.field("low_price", pa.float64()),  # quartiles of the unit prices paid
        pa.field("high_price", pa.float64()),
        pa.field("brands", pa.list_(pa.string())),  # at most 3, favourite first
        pa.field("private_label_share", pa.float64()),  # where brands are of two kinds only
        pa.field("shopping_time", pa.string()),  # such as "weekday evenings"
        pa.field("target_item_id", pa.string()),
        pa.field("novel_target_item_id", pa.string()),
        pa.field("target_item_ids", pa.list_(pa.string())),
        pa.field("basket_item_ids", pa.list_(pa.string())),
    ]
)

EXAMPLES = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        # sft | rl | test have targets; rank_train | rank_test only ask for features.
        pa.field("split", pa.string(), nullable=False),
        pa.field("cutoff", TIME, nullable=False),  # everything below lies strictly before it
        pa.field("profile", pa.string(), nullable=False),
        pa.field("history", pa.list_(HISTORY_ITEM), nullable=False),  # newest first
        pa.field("history_length", pa.int32(), nullable=False),  # all interactions before cutoff
        pa.field("long_tail", pa.bool_(), nullable=False),
        pa.field("holdout", pa.bool_(), nullable=False),
        pa.field("target_item_id", pa.string()),  # the one that SFT and RL train towards
        pa.field("novel_target_item_id", pa.string()),  # a title new to the user, if there is one
        # What counts as foreseen: the target alone, or with data.target_items "basket" every line
        # of the basket that could have been the target.
        pa.field("target_item_ids", pa.list_(pa.string())),
        pa.field("basket_item_ids", pa.list_(pa.string())),
        pa.field("offer", pa.list_(pa.string())),  # categories shown before the cut-off, or null
    ]
)

CANDIDATES = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("candidate", pa.int8(), nullable=False),  # 0 .. k-1
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("cot", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),  # the true item's text
        pa.field("own_answer", pa.string()),  # the teacher's, in direct mode
        pa.field("leak", pa.string()),  # phrase | title | boilerplate, null if none
        pa.field("leak_phrase", pa.string()),  # which kind of tell-tale phrase
        pa.field("copied_title", pa.float64()),  # share of a true item's title, without support
        pa.field("boilerplate", pa.float64()),  # share of the chain that other users are told
    ]
)

SCORES = pa.schema(
    [
        *CANDIDATES,
        pa.field("perplexity", pa.float64()),  # null where the status is not ok, as all scores
        pa.field("gain", pa.float64()),  # nats a token that the chain saves against no chain
        pa.field("clipped", pa.float64()),  # perplexity with each token's loss cut
        pa.field("num_answer_tokens", pa.int32()),
        pa.field("lines_dropped", pa.int32(), nullable=False),  # of the prompt's history
    ]
)

SCORED = pa.schema(
    [
        *(field for field in SCORES if field.name != "lines_dropped"),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # why kept or not
    ]
)

POOL = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),  # pCTCVR, or pCTR if that is the goal
    ]
)

ROLLOUTS = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("grounded_item_id", pa.string()),
        pa.field("rung", pa.string(), nullable=False),  # which rung of the ladder served
        pa.field("cosine", pa.float64(), nullable=False),  # of answer and item; 1 by words alone
        pa.field("semantic", pa.float64(), nullable=False),
        pa.field("preference", pa.float64()),  # null: the run has no opinion of people's choices
        pa.field("format", pa.float64(), nullable=False),
        pa.field("custom", pa.map_(pa.string(), pa.float64())),  # the user's own, by name
    ]
)

TEXTS = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),  # untuned | sft | policy | prompt
        pa.field("status", pa.string(), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("cot", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("lines_dropped", pa.int32()),  # oldest history lines that did not fit the prompt
    ]
)

USER_FEATURES = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # rank_train | rank_test
        pa.field("codes", pa.list_(pa.int32()), nullable=False),  # intra-user: M sparse ids
        pa.field("neighbour_user_id", pa.string(), nullable=False),  # cross-user: top-1
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("neighbour_item_ids", pa.list_(pa.string()), nullable=False),  # newest first
    ]
)

PREDICTIONS = pa.schema(
    [
        pa.field("backbone", pa.string(), nullable=False),  # network | lightgbm | module:Class
        pa.field("arm", pa.string(), nullable=False),  # base, ..., or a control as both:shuffled
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("ts", TIME, nullable=False),
        pa.field("long_tail", pa.bool_(), nullable=False),  # the half with the shorter history
        pa.field("covered", pa.bool_(), nullable=False),  # the user has language features
        pa.field("click", pa.int8(), nullable=False),
        pa.field("conversion", pa.int8()),  # null where the click is the goal, as ctcvr
        pa.field("ctr", pa.float32(), nullable=False),
        pa.field("ctcvr", pa.float32()),
    ]
)

TRACKS = {"any": "target_item_id", "novel": "novel_target_item_id"}
OUTSIDE = np.iinfo(np.int32).max
"""Rank of a true title that the catalogue does not hold: a miss at any K."""

JUDGEMENTS = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),  # any | novel
        pa.field("writer", pa.string(), nullable=False),  # a model or a baseline
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("target_item_id", pa.string(), nullable=False),
        pa.field("true_l1", pa.string()),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("think_tag_presence", pa.float64()),  # null: no model wrote this
        pa.field("think_non_empty", pa.float64()),
        pa.field("answer_non_empty", pa.float64()),
        pa.field("category_l1", pa.float64()),  # null: the truth has no such level
        pa.field("category_l2", pa.float64()),
        pa.field("category_l3", pa.float64()),
        pa.field("title_exact", pa.float64(), nullable=False),
        pa.field("title_rank", pa.int32(), nullable=False),
        pa.field("semantic", pa.float64(), nullable=False),  # Eq. 3
        pa.field("grounded_item_id", pa.string()),
        pa.field("rung", pa.string(), nullable=False),
        # By the reward ranker, of the goal; 0 if ungrounded, null where there is no such model.
        pa.field("ctcvr", pa.float64()),
        pa.field("gold_ctcvr", pa.float64()),  # by the judge that nothing optimises
    ]
)

LISTINGS = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),  # any | novel
        pa.field("list", pa.string(), nullable=False),  # priors.LISTS, <model>/<MODEL_LISTS>
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("target_item_id", pa.string(), nullable=False),
        pa.field("true_l1", pa.string()),
        pa.field("top_item_id", pa.string()),  # null: the list is empty
        pa.field("category_l1", pa.float64()),  # null: the truth has no such level
        pa.field("category_l2", pa.float64()),
        pa.field("category_l3", pa.float64()),
        pa.field("title_exact", pa.float64(), nullable=False),
        pa.field("title_rank", pa.int32(), nullable=False),
    ]
)
