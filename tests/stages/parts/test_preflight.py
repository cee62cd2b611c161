"""Whatever a recipe names is looked at before the first stage works."""

import json

import pytest

from taiji.config import Recipe
from taiji.errors import ConfigError, DataError, EngineError, TaijiError
from taiji.pipeline import find_stage
from taiji.stages.parts.preflight import check_before_work


def check(*stages, **sections):
    recipe = Recipe.model_validate({"name": "t", **sections})
    check_before_work(recipe, [find_stage(name) for name in stages])


@pytest.fixture
def student(tmp_path, tiny_model, smollm2_tokenizer):
    folder = tmp_path / "student"
    tiny_model.save_pretrained(folder)
    smollm2_tokenizer.save_pretrained(folder)
    return folder


def test_a_student_that_can_be_prompted_passes(student):
    check("distill", "score", "sft", "infer", student={"model": str(student)})


def test_more_codes_than_texts_are_refused_before_any_text_is_paid_for():
    few = {"data": {"num_rank_users": 31}, "features": {"bits": 5}}
    with pytest.raises(ConfigError, match=r"2\^5 codes need as many users with text, .* draws 31"):
        check("features", **few)
    check("sft", "evaluate", **few)
    check("features", data={"num_rank_users": 31, "refresh": "week"}, features={"bits": 5})


def _cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda folder: (folder / "config.json").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": 3}'), "cannot be"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no"),
        (lambda folder: _cut(folder / "model.safetensors"), "cannot be loaded"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
    ],
)
def test_a_student_that_could_not_be_loaded_is_refused_by_name(student, harm, named):
    harm(student)
    with pytest.raises(EngineError, match=named) as caught:
        check("sft", student={"model": str(student)})
    assert "student" in str(caught.value)


ODD_FOLDERS = {
    "nothing": {},
    "a word for a list": {"modules.json": '"x"'},
    "a number for a list": {"modules.json": "3"},
    "modules of nobody": {"modules.json": '[{"idx": 0, "name": "0", "path": "", "type": "os.x"}]'},
    "modules without types": {"modules.json": '[{"idx": 0}]'},
    "no json": {"config.json": "{"},
    "a list for a config": {"config.json": "[]"},
    "a model of no kind": {"config.json": '{"model_type": "nothing"}'},
    "bytes": {"config.json": b"\xff\xfe\x00"},
    "weights of text": {"config.json": '{"model_type": "bert"}', "model.safetensors": "weights"},
}


@pytest.mark.parametrize("what", ODD_FOLDERS)
def test_an_encoder_folder_of_odd_content_is_refused_by_name(tmp_path, what):
    folder = tmp_path / "odd-encoder"
    folder.mkdir()
    for name, content in ODD_FOLDERS[what].items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    with pytest.raises(EngineError, match="odd-encoder"):
        check("features", encoder={"model": str(folder)})


@pytest.mark.parametrize("stage", ["align", "features", "evaluate"])
def test_a_mistyped_encoder_is_refused_wherever_it_will_be_needed(tmp_path, stage, student):
    wrong = {"encoder": {"model": str(tmp_path / "no-such")}, "student": {"model": str(student)}}
    with pytest.raises(EngineError, match="no-such"):
        check("construct", stage, **wrong)
    check("construct", "sft", **wrong)  # which need none


def test_sub_vectors_must_divide_the_encoders_dimension():
    with pytest.raises(ConfigError, match=r"features\.sub_vectors: 7 .* 384"):
        check("features", features={"sub_vectors": 7})
    check("features", features={"sub_vectors": 7, "quantiser": "rq"})


def test_lists_and_tables_are_read(tmp_path):
    absent = {"features": {"erased_users": str(tmp_path / "gone.txt")}}
    with pytest.raises(ConfigError, match=r"features\.erased_users: .*gone\.txt: no such file"):
        check("features", **absent)
    (tmp_path / "bad.txt").write_bytes(b"u1\n\xff\xff\n")
    with pytest.raises(DataError, match=r"bad\.txt"):
        check("features", features={"erased_users": str(tmp_path / "bad.txt")})
    (tmp_path / "excel.txt").write_bytes("u1\nu2\n".encode("utf-16"))
    check("features", features={"erased_users": str(tmp_path / "excel.txt")})
    (tmp_path / "scores.csv").write_text("user_id,item_id\nu,i\n")
    with pytest.raises(DataError, match="no column score"):
        check("align", align={"rewards": {"scores": str(tmp_path / "scores.csv")}})


@pytest.mark.parametrize(
    "sections",
    [
        {"align": {"rewards": {"custom": [{"name": "m", "path": "no_such_module:f"}]}}},
        {"rank": {"backbones": ["no_such_module:Model"]}},
        {"sft": {"trainer": {"warmup_step": 3}}},
        {"data": {"text": {"language": "zh"}}},  # the evidence teacher knows English alone
        {
            "distill": {
                "teacher": {"kind": "openai", "model": "m", "base_url": "http://169.254.169.254"}
            }
        },
    ],
    ids=lambda sections: json.dumps(sections)[:40],
)
def test_what_cannot_be_used_is_refused_before_any_work(sections, student):
    with pytest.raises(TaijiError):
        check("construct", "distill", "rank", student={"model": str(student)}, **sections)
