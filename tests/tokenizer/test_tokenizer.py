import hashlib
import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, processors

from mixtral_probe import InputError, MixtralConfig
from mixtral_probe.resources import data_path
from mixtral_probe.tokenizer import Tokenizer

MINI = Tokenizer.from_folder(data_path("mixtral-mini"))


@pytest.fixture
def like_mixtral(tmp_path):
    """A SentencePiece-style tokenizer as Mixtral's: ▁ for a space, bytes for what is not in the vocabulary."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a"]
    model = models.BPE({word: i for i, word in enumerate(words)}, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    own = tokenizers.Tokenizer(model)
    own.add_special_tokens(["<unk>", "<s>", "</s>"])
    own.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    own.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    own.enable_truncation(2)
    own.save(str(tmp_path / "tokenizer.json"))
    return Tokenizer.from_folder(tmp_path)


def test_every_token_spans_its_own_characters():
    text = "def add(a, b):\n    return a"
    found = MINI.encode(text)
    assert found.ids.dtype == found.start.dtype == found.end.dtype == np.int32
    assert found.special.tolist() == [True] + [False] * (len(found) - 1)
    assert MINI.pieces(found.ids[:1]) == ["<s>"]
    spans = [text[a:b] for a, b in zip(found.start, found.end, strict=True)]
    assert spans[1:] == MINI.pieces(found.ids)[1:]
    assert "".join(spans) == text


def test_bytes_of_a_split_character_are_shown_and_span_it():
    text = "x🦄"
    found = MINI.encode(text)
    assert MINI.pieces(found.ids)[2:] == ["⟨F0⟩", "⟨9F⟩", "⟨A6⟩", "⟨84⟩"]
    assert [text[a:b] for a, b in zip(found.start, found.end, strict=True)][2:] == ["🦄"] * 4


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_back_what_was_encoded(text):
    found = MINI.encode(text)
    if not found.special[1:].any():
        assert MINI.decode(found.ids) == text


def test_sentencepiece_bytes_and_spaces(like_mixtral):
    found = like_mixtral.encode("a a\né")
    assert like_mixtral.pieces(found.ids) == ["<s>", " a", " a", "\n", "⟨C3⟩", "⟨A9⟩"]
    assert like_mixtral.decode(found.ids) == "a a\né"
    assert like_mixtral.special_ids == {0, 1, 2}


def test_truncation_in_the_file_is_not_applied(like_mixtral):
    assert len(like_mixtral.encode("aaaaaaaa")) > 2


def test_control_token_spelt_out_in_a_text_is_special():
    found = MINI.encode("a</s>b")
    assert found.special.tolist() == [True, False, True, False]
    assert MINI.id_of("</s>") == found.ids[2]
    assert MINI.decode(found.ids, skip_special=False) == "<s>a</s>b"


def test_empty_text_has_only_the_opening_token():
    assert MINI.encode("").ids.tolist() == [1]


def test_fingerprint_is_that_of_the_file():
    content = (data_path("mixtral-mini") / "tokenizer.json").read_bytes()
    assert MINI.fingerprint == hashlib.sha256(content).hexdigest()
    assert MINI.vocab_size == 8192


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(InputError, match=r"got half of a surrogate pair at character 1 \(U\+D83E\)"):
        MINI.encode("a\ud83eb")


def test_unknown_ids_are_refused():
    with pytest.raises(InputError, match=r"0–8191, got 8192"):
        MINI.decode([8192])
    with pytest.raises(InputError, match="got -1"):
        MINI.pieces([-1])


def test_only_texts_with_tokens_that_the_model_lacks_are_refused():
    ids = MINI.encode("once").ids
    MINI.check_fits(ids, MixtralConfig(vocab_size=8191))
    last = np.append(ids, np.int32(8191))
    MINI.check_fits(last, MixtralConfig(vocab_size=8192))
    with pytest.raises(
        InputError, match=r"with ids in 0–8190, got '.+' with the id 8191 in the document 'b'; remove it"
    ):
        MINI.check_fits(last, MixtralConfig(vocab_size=8191), "the document 'b'")


@pytest.mark.parametrize("gap", [[8192], [8192, 8255], [9000]])
def test_ids_that_a_model_with_a_larger_vocabulary_chose_are_shown(gap):
    ids = MINI.encode("def add(a, b):").ids.tolist()
    shown = "".join(f"⟨id {token_id}⟩" for token_id in gap)
    assert MINI.decode([*ids, *gap, *ids], chosen=True) == f"def add(a, b):{shown}def add(a, b):"
    assert MINI.decode([*ids[:1], *gap], skip_special=False, chosen=True) == f"<s>{shown}"
    assert MINI.pieces([*gap, 1], chosen=True) == [*(f"⟨id {token_id}⟩" for token_id in gap), "<s>"]
    assert MINI.spelling(gap[0], chosen=True).decode() == f"⟨id {gap[0]}⟩"


def test_chosen_ids_beyond_a_sentencepiece_vocabulary(like_mixtral):
    ids = like_mixtral.encode("a b").ids.tolist()
    size = like_mixtral.vocab_size
    both = like_mixtral.decode([*ids, size + 5, *ids[1:]], chosen=True)
    assert both == f"a b⟨id {size + 5}⟩ a b"
    assert like_mixtral.decode(ids, chosen=True) == like_mixtral.decode(ids)
    with pytest.raises(InputError, match="got -1"):
        like_mixtral.pieces([-1], chosen=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "tokenizer.model",
            r"that of SentencePiece: convert it once with transformers \(with the package sentencepiece\)",
        ),
        (
            "tekken.json",
            r"that of Mistral, tekken: convert it once with transformers \(with the package mistral-common\)",
        ),
        ("vocab.json", r"a vocabulary and merges: convert it once with transformers: AutoTokenizer\.from_pretrained\("),
    ],
)
def test_tokenizers_in_other_formats(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=rf"got none at .*; it has {name}, {words}"):
        Tokenizer.from_folder(tmp_path)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputError, match=r"got none at .*tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(InputError, match="must define a tokenizer"):
        Tokenizer.from_folder(tmp_path)


def with_prefix(prefix):
    """Give the model a prefix that the parts of its merges lack; of some, the library would end the process."""
    return lambda definition: definition["model"].update(continuing_subword_prefix=prefix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_prefix("#" * 30), r"with an error: the second part of a merge must begin with '#+', got "),
        (with_prefix("0"), r"with an error: the second part of a merge must begin with '0', got \['Ġ', 'Ġ'\]"),
        (with_prefix("a"), r"with an error: the second part of a merge must begin with 'a', got "),
        (
            lambda definition: definition.update(decoder=[]),
            r"must define a tokenizer, got .*tokenizer\.json with an error",
        ),
        (
            lambda definition: definition.update(model=None),
            r"must define a tokenizer, got .*tokenizer\.json with an error",
        ),
    ],
)
def test_a_definition_that_stops_the_library_is_refused(tmp_path, change, message):
    definition = json.loads((data_path("mixtral-mini") / "tokenizer.json").read_bytes())
    change(definition)
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(InputError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_a_panic_of_the_library_while_cutting_a_text_is_refused(monkeypatch, tokenizer):
    class PanicException(BaseException):
        pass

    def panic(*_, **__):
        raise PanicException("index out of range")

    monkeypatch.setattr(tokenizer, "_encoding", panic)
    with pytest.raises(
        InputError, match="must cut any text into tokens, got one with an error: its library stopped: index"
    ):
        tokenizer.encode("a")
