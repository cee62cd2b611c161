"""Small tokenizers with the traps of big ones."""

import copy

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no system turn') }}{% endif %}{% endfor %}"
)
CHATML_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ANGLE_TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}: {{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: <think>\n{% endif %}"
)


def with_thinking_tags(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Tags as added tokens that are not special, as reasoning models have them."""
    tokenizer = copy.deepcopy(tokenizer)
    tags = ["<think>", "</think>", "<answer>", "</answer>", "  "]
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    return tokenizer


def llama_like() -> PreTrainedTokenizerBase:
    """BPE without bytes whose own merges build `[INST]` and `</s>`, and no system turn."""
    alphabet = [chr(c) for c in range(33, 127)] + ["\u2581"]
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])}
    vocab |= {c: len(vocab) + i for i, c in enumerate(alphabet)}
    merges = []
    for word in ("[INST]", "[/INST]", "<s>", "</s>", "milk"):
        for stop in range(1, len(word)):
            merges.append((word[:stop], word[stop]))
            vocab.setdefault(word[: stop + 1], len(vocab))
    backend = Tokenizer(
        models.BPE(vocab=vocab, merges=list(dict.fromkeys(merges)), unk_token="<unk>")
    )
    backend.normalizer = normalizers.Replace(Regex(r"\s"), "\u2581")
    return _finish(backend, LLAMA_TEMPLATE, ["[INST]", "[/INST]"])


def unigram_like() -> PreTrainedTokenizerBase:
    """Unigram with the control pieces in its vocabulary, NFKC, and an unknown token."""
    alphabet = [chr(c) for c in range(33, 127)] + ["\u2581"]
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("</think>", 0.0), ("milk", -3.0)]
    pieces += [(c, -5.0) for c in alphabet]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return _finish(backend, ANGLE_TEMPLATE, ["</think>"])


def qwen_like() -> PreTrainedTokenizerBase:
    """Byte-level BPE with NFC; `<think>` is an added token that is not special."""
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in ("<think>", "<|im_end|>", "milk"):  # merges alone can build the very words
        for stop in range(1, len(word)):
            merges.append((word[:stop], word[stop]))
            vocab.setdefault(word[: stop + 1], len(vocab))
    backend = Tokenizer(models.BPE(vocab=vocab, merges=list(dict.fromkeys(merges))))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML_TEMPLATE,
    )
    for words, special in ((["<|im_start|>"], True), (["<think>", "</think>"], False)):
        added = [AddedToken(word, special=special, normalized=False) for word in words]
        tokenizer.add_tokens(added, special_tokens=special)
    return tokenizer


def llama_with_bytes() -> PreTrainedTokenizerBase:
    """SentencePiece's BPE with byte fallback: what is in no vocabulary becomes `<0xE7>` and so on.

    The control words of both families of Llama are added tokens.
    """
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>"])}
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    for char in [*map(chr, range(33, 127)), "\u2581"]:
        vocab.setdefault(char, len(vocab))
    merges = []
    for word in ("[INST]", "</s>", "<|eot_id|>", "\u2581milk"):
        for stop in range(1, len(word)):
            merges.append((word[:stop], word[stop]))
            vocab.setdefault(word[: stop + 1], len(vocab))
    unique = list(dict.fromkeys(merges))
    backend = Tokenizer(
        models.BPE(vocab=vocab, merges=unique, unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    control = ["[INST]", "[/INST]", "<<SYS>>", "<|begin_of_text|>", "<|eot_id|>"]
    return _finish(backend, LLAMA_TEMPLATE, control)


def _finish(backend: Tokenizer, template: str, added: list[str]) -> PreTrainedTokenizerBase:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        chat_template=template,
    )
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in added])
    return tokenizer
