"""Tokens of all files of a tokenizer have the ids that transformers gives them; contradictions are refused."""

import json
import random

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, processors

from mixtral_probe import InputError, Tokenizer
from mixtral_probe.resources import data_path

CHAT = "<|im_start|>user\nWhat is a b?<|im_end|>\n<|im_start|>assistant\n[X] new Z  q<pad></s>"
TEXTS = (CHAT, "a b new Z q <pad>[X]", "</s> x<s><unk> <|im_start|> a", "", "news a  b q[X ]")
BYTE_LEVEL = (data_path("mixtral-mini") / "tokenizer.json").read_text()


def sentencepiece():
    """A tokenizer whose normalizer changes the texts in which added tokens are looked for."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a"]
    model = models.BPE({word: i for i, word in enumerate(words)}, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    own = tokenizers.Tokenizer(model)
    own.add_special_tokens(["<unk>", "<s>", "</s>"])
    own.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    own.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return own.to_str()


BASES = {"byte level": (BYTE_LEVEL, 8192), "sentencepiece": (sentencepiece(), 263)}


def write(folder, base, **files):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(base)
    (folder / "config.json").write_text('{"model_type": "mixtral"}')
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def token(content, special=False, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False} | {
        "special": special, **flags
    }  # fmt: skip


def assert_same(folder):
    """The same ids and texts, and the same tokens under the same ids."""
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), Tokenizer.from_folder(folder)
    for text in TEXTS:
        ids = theirs(text)["input_ids"]
        assert ours.encode(text).ids.tolist() == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    for number, added in theirs.added_tokens_decoder.items():
        assert ours.id_of(added.content) == number
        assert (number in ours.special_ids) == added.special
    assert ours.vocab_size == 1 + max(theirs.get_vocab().values())
    return ours


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"added_tokens_decoder": {"+1": token("<|im_end|>", True), "+0": token("<|im_start|>")}}},
        {
            "tokenizer_config": {
                "added_tokens_decoder": {"+0": token("<|im_start|>", True, lstrip=True, rstrip=True)},
                "eos_token": "<|im_end|>", "pad_token": "<pad>", "image_token": "[X]",
                "additional_special_tokens": ["<|im_start|>", "new"],
            }
        },
        {"added_tokens": {"<|im_start|>": "+0", "<|im_end|>": "+1", "a b": "+2"}},
        {
            "added_tokens": {"<|im_end|>": "+1", "<|im_start|>": "+0"},
            "special_tokens_map": {
                "eos_token": token("<|im_end|>"), "pad_token": "<pad>", "additional_special_tokens": ["<|im_start|>"]
            },
        },
        {"tokenizer_config": {"eos_token": "</s>", "unk_token": None}, "special_tokens_map": {"eos_token": "[X]"}},
        {
            "tokenizer_config": {"added_tokens_decoder": {"2": token("</s>", True)}, "eos_token": "</s>"},
            "added_tokens": {"<|im_start|>": "+7"}, "special_tokens_map": {"eos_token": "<|im_end|>"},
        },
        {"tokenizer_config": {"split_special_tokens": True, "eos_token": "<|im_end|>"}},
        {"tokenizer_config": {"extra_special_tokens": {"audio_token": "[X]"}, "tokenizer_class": "LlamaTokenizerFast"}},
    ],
    ids=lambda files: " ".join(files),
)  # fmt: skip
def test_ids_are_those_of_transformers(tmp_path, base, files):
    """`+1` stands for the second id after the vocabulary."""
    definition, size = BASES[base]

    def placed(value):
        if isinstance(value, str) and value.startswith("+"):
            return size + int(value)
        if isinstance(value, dict):
            return {str(placed(key)) if key.startswith("+") else key: placed(one) for key, one in value.items()}
        return value

    assert_same(write(tmp_path, definition, **{name: placed(content) for name, content in files.items()}))


NAMES = ["<|im_start|>", "<|im_end|>", "<pad>", "[X]", "new", "</s>", "<s>", "<unk>", "a b", " q", "Z"]


def random_token(draw, name, mark):
    flags = {
        flag: draw.random() < 0.3 for flag in ("lstrip", "rstrip", "normalized", "single_word") if draw.random() < 0.7
    }
    special = {"special": draw.random() < 0.6} if draw.random() < 0.8 else {}
    return {"content": name, **flags, **special, **mark}


def random_files(draw, definition):
    """Files of a folder that do not contradict each other."""
    known, size = (
        tokenizers.Tokenizer.from_str(definition),
        BASES["byte level" if "Ġ" in definition else "sentencepiece"][1],
    )
    names = draw.sample(NAMES, draw.randint(0, 5))
    ids = {name: known.token_to_id(name) for name in names}
    new = [name for name in names if ids[name] is None]
    ids |= {name: size + place for place, name in enumerate(new)}
    listed = [(number, name) for name, number in ids.items()]
    draw.shuffle(listed)
    mark, config, special = {"__type": "AddedToken"}, {}, {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token", "image_token", "own_token"):
        if draw.random() < 0.3:
            config[name] = draw.choice([None, draw.choice(NAMES), random_token(draw, draw.choice(NAMES), mark)])
        if draw.random() < 0.3:
            special[name] = draw.choice([draw.choice(NAMES), random_token(draw, draw.choice(NAMES), {})])
    if draw.random() < 0.4:
        config[draw.choice(["additional_special_tokens", "extra_special_tokens"])] = draw.sample(NAMES, 2)
    older = draw.random() < 0.5
    if older:
        files = {"added_tokens": {name: number for number, name in listed}, "special_tokens_map": special}
    else:
        config["added_tokens_decoder"] = {str(number): random_token(draw, name, {}) for number, name in listed}
        files = {"special_tokens_map": special}
    return files | {"tokenizer_config": config}


@pytest.mark.parametrize("base", BASES)
def test_random_files_are_read_as_transformers_reads_them(tmp_path, base):
    for seed in range(40):
        files = random_files(random.Random(f"{seed} {base}"), BASES[base][0])
        assert_same(write(tmp_path / str(seed), BASES[base][0], **files))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"added_tokens": {"<|im_start|>": 8195}},
            r"got 8195 for '<\|im_start\|>' in added_tokens\.json, and 8192 in the tokenizer, .*; correct added_tokens",
        ),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"5": token("<|im_end|>")}}},
            r"must have one id, got 5 for '<\|im_end\|>' in tokenizer_config\.json, and 8192 in the tokenizer",
        ),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"8192": token("[X]")}}, "added_tokens": {"Q R": 8192}},
            r"must be of one token, got 8192 for 'Q R' in added_tokens\.json and for '\[X\]' in another file",
        ),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"8192": token("[X]")}}, "added_tokens": {"[X]": 8193}},
            r"got 8193 for '\[X\]' in added_tokens\.json, and 8192 in the tokenizer",
        ),
        ({"added_tokens": {"[X]": 8192, "[Y]": 8192}}, r"of one token, got 8192 for '\[X\]' and '\[Y\]' in added"),
        ({"added_tokens": {"[X]": "many"}}, r"token ids in added_tokens\.json must be whole numbers .*, got 'many'"),
        ({"added_tokens": {"[X]": 2**64}}, "must be whole numbers from 0 on"),
        ({"tokenizer_config": {"added_tokens_decoder": [1]}}, "added_tokens_decoder of .* must be an object, got"),
        ({"tokenizer_config": {"added_tokens_decoder": {"1": "<s>"}}}, "token 1 of added_tokens_decoder must be"),
        ({"tokenizer_config": {"eos_token": 3}}, "eos_token must be a token, .* with content, got 3"),
        ({"tokenizer_config": {"extra_special_tokens": [3]}}, "extra_special_tokens must be a token"),
        ({"special_tokens_map": []}, r"special_tokens_map\.json must hold one JSON object, got .* with a list"),
    ],
)  # fmt: skip
def test_contradictions_and_broken_files(tmp_path, files, sentence):
    with pytest.raises(InputError, match=sentence):
        Tokenizer.from_folder(write(tmp_path, BYTE_LEVEL, **files))


def test_the_fingerprint_is_another_where_other_files_change_ids(tmp_path):
    plain = Tokenizer.from_folder(write(tmp_path / "a", BYTE_LEVEL))
    same = Tokenizer.from_folder(write(tmp_path / "b", BYTE_LEVEL, added_tokens={"</s>": 2}))
    more = Tokenizer.from_folder(write(tmp_path / "c", BYTE_LEVEL, added_tokens={"[X]": 8192}))
    split = Tokenizer.from_folder(write(tmp_path / "d", BYTE_LEVEL, tokenizer_config={"split_special_tokens": True}))
    assert plain.fingerprint == same.fingerprint
    assert len({plain.fingerprint, more.fingerprint, split.fingerprint}) == 3


def test_a_template_may_write_the_tokens_of_all_files(tmp_path):
    template = {"chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ own_token }}"}
    special = {"eos_token": {"content": "<|im_end|>"}, "bos_token": "<s>", "own_token": "[X]"}
    folder = write(tmp_path, BYTE_LEVEL, tokenizer_config=template, special_tokens_map=special)
    messages = [{"role": "user", "content": "hi"}]
    expected = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False)
    assert Tokenizer.from_folder(folder).apply_chat_template(messages) == expected == "<s>hi<|im_end|>[X]"
