import numpy as np
import pytest
from chat_server import Answer, ChatServer
from endpoint_parts import Echo, teacher
from shop import ITEMS, example

from taiji.config import EndpointSection
from taiji.errors import DivergenceError, EngineError
from taiji.language.endpoint.scorer import EndpointScorer
from taiji.language.prompt import ChatScaffold
from taiji.language.scoring import ModelScorer, Question
from taiji.reasoning.prompts import rupr_prompt
from taiji.templates import ENGLISH


@pytest.fixture(scope="module")
def questions(smollm2_tokenizer):
    scaffold = ChatScaffold(smollm2_tokenizer)
    prompts = [rupr_prompt(example((3, 2)), "", ENGLISH), rupr_prompt(example(), "", ENGLISH)]
    chains = [["Bread is due.", "<|im_end|> all of it"], ["Why not."]]
    return [
        Question(
            scaffold.prompt_ids(prompt),
            [scaffold.completion_ids(chain, ITEMS[0]["title"]) for chain in written],
        )
        for prompt, written in zip(prompts, chains, strict=True)
    ]


@pytest.fixture
def scorer_on(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    servers = []

    def start(script, **options):
        servers.append(ChatServer(script))
        fields = teacher(servers[-1].url, **options).model_dump()
        section = {name: fields[name] for name in EndpointSection.model_fields}
        return servers[-1], EndpointScorer(EndpointSection(**section))

    yield start
    for server in servers:
        server.close()


def test_a_server_scores_as_the_model_itself(scorer_on, tiny_model, questions):
    server, scorer = scorer_on(Echo(tiny_model), concurrency=2)
    seen = []
    remote = scorer.score(questions, lambda *done: seen.append(done))
    local = ModelScorer(tiny_model).score(questions)
    assert [len(row) for row in remote] == [2, 1]
    for row, expected in zip(remote, local, strict=True):
        for one, other in zip(row, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    assert len(server.requests) == 3
    assert seen == [(1, 2), (2, 2)]


def test_a_server_may_leave_out_the_token_that_it_wrote(scorer_on, tiny_model, questions):
    _, whole = scorer_on(Echo(tiny_model))
    _, short = scorer_on(Echo(tiny_model, alter=lambda values: values[:-1]))
    one, other = whole.score(questions[1:]), short.score(questions[1:])
    np.testing.assert_array_equal(one[0][0], other[0][0])


@pytest.mark.parametrize(
    ("alter", "error", "message"),
    [
        (lambda values: values[-3:], EngineError, "3 log-probabilities for"),
        (lambda values: ["x"], EngineError, "no numbers"),
        (lambda values: [None] * len(values), DivergenceError, "not finite"),
    ],
)
def test_scores_that_cannot_be_used(scorer_on, tiny_model, questions, alter, error, message):
    _, scorer = scorer_on(Echo(tiny_model, alter=alter), max_retries=0)
    with pytest.raises(error, match=message):
        scorer.score(questions)


def test_a_server_that_takes_text_only_ends_the_run(scorer_on, questions):
    _, scorer = scorer_on(lambda *_: Answer(422, {"error": "prompt must be a string"}))
    with pytest.raises(EngineError, match="scorer m-1: 422: prompt must be a string"):
        scorer.score(questions)


def test_no_questions_no_calls(scorer_on):
    server, scorer = scorer_on(lambda *_: Answer(500))
    assert scorer.score([]) == []
    assert server.requests == []
