"""A refresh whose text comes from a server that speaks OpenAI's protocol."""

import time

import numpy as np
import pytest
from chat_server import Answer, ChatServer, completion
from parts_at_hand import Kept

from taiji.language.encode import SentenceEncoder
from taiji.ranking.features import feature_text
from taiji.ranking.quantise import load_codebook
from taiji.serving.admission import Admission, Sent
from taiji.serving.blobs import unpack_blob
from taiji.serving.log import EventLog
from taiji.serving.refresher import Refresher
from taiji.serving.run import open_run
from taiji.stages.parts.erased import Tombstones, load_names

pytestmark = pytest.mark.service

TEXT = "<think>They buy bread each week.</think>\n<answer>Bakery</answer>"


@pytest.fixture
def asked(served, tmp_path):
    """A refresher whose engine is an endpoint, and a log with one user's events."""
    answers = {}
    server = ChatServer(lambda request, number: answers.get(number, completion(TEXT)))
    settings = [
        "serve.engine.kind=openai",
        "serve.engine.model=any",
        f"serve.engine.base_url={server.url}",
        "serve.engine.retry.max_retries=0",
        "serve.engine.timeout_seconds=5",
    ]
    run = open_run(served.root, settings)
    log = EventLog(tmp_path / "log.sqlite", {})
    admission = Admission(run.recipe.data, run.construct / "items.parquet", tmp_path / "scratch")
    user = served.events[-1]["customer"]
    rows = [row for row in served.events if row["customer"] == user]
    events, refused = admission.judge([Sent("interactions", row) for row in rows])
    assert not refused
    admission.close()
    log.append(events)
    names = load_names(run.recipe.report.pseudonym_key_env)
    store = Kept()
    refresher = Refresher(run, log, store, names, Tombstones(tmp_path / "erased.sqlite"))
    yield run, refresher, user, names.of(user), store, server, answers
    refresher.close()
    log.close()
    server.close()


def test_an_endpoint_writes_and_its_text_becomes_the_features(asked):
    run, refresher, user, name, store, server, _ = asked
    outcome = refresher.refresh([user], 1)
    assert outcome.positions.keys() == {user}
    assert outcome.figures["generations"] == outcome.figures["replies_ok"] == 1
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    prompt = request.body["messages"][-1]["content"]
    assert f"note {user}" in prompt  # the profile that construct tells
    blob = unpack_blob(store.blobs[name])
    encoder = SentenceEncoder(run.recipe.encoder.model, run.recipe.encoder.batch_size)
    vectors = encoder.encode([feature_text("They buy bread each week.", "Bakery")])
    codes = load_codebook(run.features).compute_codes(vectors)
    assert np.array_equal(blob.codes, codes[0])
    assert blob.items
    assert time.time() - blob.made_at < 60


def test_an_endpoint_that_fails_leaves_the_features_and_the_user_waits(asked):
    _, refresher, user, name, store, _, answers = asked
    answers[1] = Answer(code=500, body={"error": {"message": "overloaded"}})
    outcome = refresher.refresh([user], 1)
    assert outcome.failed == [user]
    assert not outcome.positions
    assert name not in store.blobs
    assert refresher.refresh([user], 1).positions.keys() == {user}
