"""``generate`` takes what that of transformers takes, and gives the same tokens, scores and logits."""

import warnings

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from mixtral_probe import InputError, Probe
from mixtral_probe.checkpoint import model_folder
from mixtral_probe.model.generation import GenerationOptions, stopping
from tests.support.models import mask_of, ours_like, reference_model, toy_model

IDS = torch.randint(3, 50, (3, 6), generator=torch.Generator().manual_seed(0))
PADDED = mask_of([6, 3, 5], 6, "left")
WHOLE = torch.ones_like(IDS)
DRAWN = {"do_sample": True, "top_k": 0}
BEAMS = {"num_beams": 4}
MANY = list(range(3, 40))
DEFAULT_LENGTH = pytest.mark.filterwarnings("ignore:Using the model-agnostic default:UserWarning")


@pytest.fixture(scope="module")
def models():
    theirs = reference_model(std=0.3, pad_token_id=0, eos_token_id=2)
    return theirs, ours_like(theirs)


def generated(model, ids=IDS, mask=WHOLE, seed=5, **options):
    torch.manual_seed(seed)
    return model.generate(ids, attention_mask=mask, **options)


CASES = [
    {"num_return_sequences": 3, "max_new_tokens": 6, **DRAWN},
    {"num_return_sequences": 4, "max_new_tokens": 6, **BEAMS},
    {"num_return_sequences": 2, "max_new_tokens": 5, **BEAMS, **DRAWN},
    {"num_return_sequences": 2, "max_new_tokens": 6, "repetition_penalty": 1.5, **DRAWN},
    {"min_new_tokens": 5, "max_new_tokens": 8, "eos_token_id": MANY},
    {"min_length": 9, "max_length": 12, "eos_token_id": MANY},
    {"min_length": 9, "max_length": 12, "eos_token_id": MANY, **BEAMS},
    {"min_length": 30, "min_new_tokens": 2, "max_new_tokens": 6, "eos_token_id": MANY},
    {"max_length": 30, "max_new_tokens": 3},
    {"max_length": 7},
    {"no_repeat_ngram_size": 1, "max_new_tokens": 12},
    {"no_repeat_ngram_size": 2, "max_new_tokens": 20, "temperature": 0.3, **DRAWN},
    {"no_repeat_ngram_size": 3, "max_new_tokens": 20, **BEAMS},
    {"bad_words_ids": [[7], [9, 12], [2]], "max_new_tokens": 12, **DRAWN},
    {"bad_words_ids": [[IDS[0, -1].item(), token] for token in range(25)], "max_new_tokens": 4},
    {"bad_words_ids": [[1] * 9 + [3]], "max_new_tokens": 4, **BEAMS},
    {"sequence_bias": [[[7], 4.0], [[9, 12], -3.0], [[7, 7], 9.0]], "max_new_tokens": 10},
    {"sequence_bias": {(7,): 4.0, (7, 8): 100.0}, "max_new_tokens": 10, **DRAWN},
    {"suppress_tokens": list(range(3, 45)), "max_new_tokens": 6},
    {"begin_suppress_tokens": list(range(3, 45)), "max_new_tokens": 6, **BEAMS},
    {"forced_eos_token_id": 7, "max_new_tokens": 5},
    {"forced_eos_token_id": [7, 8], "max_new_tokens": 5, **BEAMS},
    {"exponential_decay_length_penalty": (3, 1.5), "max_new_tokens": 20, **DRAWN},
    {"exponential_decay_length_penalty": (1, 3.0), "max_new_tokens": 12, "eos_token_id": [2, 5], **BEAMS},
    {"typical_p": 0.5, "max_new_tokens": 8, **DRAWN},
    {"epsilon_cutoff": 0.03, "max_new_tokens": 8, **DRAWN},
    {"eta_cutoff": 0.1, "max_new_tokens": 8, **DRAWN},
    {"typical_p": 0.7, "epsilon_cutoff": 0.01, "max_new_tokens": 6, **DRAWN, "num_beams": 2},
    {"renormalize_logits": True, "temperature": 0.5, "max_new_tokens": 6, **DRAWN},
    {"remove_invalid_values": True, "bad_words_ids": [[7]], "max_new_tokens": 6},
    {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "suppress_tokens": [5], "min_new_tokens": 4,
     "max_new_tokens": 12, "temperature": 0.8, "top_p": 0.9, "do_sample": True},
    {"use_cache": False, "max_new_tokens": 5},
]  # fmt: skip


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("mask", [WHOLE, PADDED], ids=["whole", "padded"])
def test_tokens_are_those_of_transformers(models, options, mask):
    theirs, ours = (generated(model, mask=mask, **options) for model in models)
    assert ours.tolist() == theirs.tolist()


def test_the_forced_first_token(models):
    ids, mask = IDS[:, :1], WHOLE[:, :1]
    options = {"forced_bos_token_id": 9, "begin_suppress_tokens": [9, 11], "max_new_tokens": 4}
    theirs, ours = (generated(model, ids, mask, **options) for model in models)
    assert ours.tolist() == theirs.tolist()
    assert set(ours[:, 1].tolist()) == {9}


@DEFAULT_LENGTH
def test_lengths_end_at_the_models_positions():
    theirs = reference_model(std=0.3, max_position_embeddings=16, eos_token_id=None)
    ours = ours_like(theirs)
    assert generated(ours).shape == generated(theirs).shape == (3, 16)


def test_without_a_prompt_a_text_begins(models):
    theirs, ours = (model.generate(max_new_tokens=4, do_sample=False) for model in models)
    assert ours.tolist() == theirs.tolist()
    assert ours[0, 0] == 1


@pytest.mark.parametrize(
    "options", [{}, DRAWN | {"num_return_sequences": 2}, BEAMS | {"num_return_sequences": 2}], ids=str
)
def test_the_whole_output(models, options):
    asked = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "max_new_tokens": 5}
    theirs, ours = (generated(model, mask=PADDED, **asked, **options) for model in models)
    assert list(ours) == list(theirs)
    assert ours.sequences.tolist() == theirs.sequences.tolist() == ours[0].tolist()
    for name in ("scores", "logits"):
        assert len(ours[name]) == len(theirs[name])
        for a, b in zip(ours[name], theirs[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    if "num_beams" in options:
        torch.testing.assert_close(ours.sequences_scores, theirs.sequences_scores)
        assert ours.beam_indices.tolist() == theirs.beam_indices.tolist()


@pytest.mark.parametrize("options", [{}, BEAMS, {"num_return_sequences": 2, **DRAWN}], ids=str)
def test_attentions_and_hidden_states_of_every_step(models, options):
    asked = {"return_dict_in_generate": True, "output_attentions": True, "output_hidden_states": True, **options}
    theirs, ours = (generated(model, max_new_tokens=4, **asked) for model in models)
    assert options or list(ours) == list(theirs)
    for name in ("attentions", "hidden_states"):
        for a, b in zip(ours[name], theirs[name], strict=True):
            for one, other in zip(a, b, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-5 if options else 0)
    assert isinstance(generated(models[1], max_new_tokens=4, output_attentions=True), torch.Tensor)


@pytest.mark.parametrize("options", [BEAMS, {"num_return_sequences": 2, **DRAWN}], ids=str)
def test_router_logits_of_every_step_have_the_rows_of_the_sequences(models, options):
    asked = {"return_dict_in_generate": True, "output_router_logits": True, "output_hidden_states": True, **options}
    found = generated(models[1], max_new_tokens=3, mask=PADDED, **asked)
    rows = 3 * options.get("num_return_sequences", 4)
    for step, hidden in zip(found.router_logits, found.hidden_states, strict=True):
        assert hidden[0].shape[0] == rows
        assert all(logits.shape == (rows * hidden[0].shape[1], 12) for logits in step)
    first = found.router_logits[0][1].view(rows, 6, 12)
    plain = models[1](IDS, attention_mask=PADDED, output_router_logits=True).router_logits[1].view(3, 6, 12)
    kept = PADDED.bool().repeat_interleave(rows // 3, 0)
    torch.testing.assert_close(first[kept], plain.repeat_interleave(rows // 3, 0)[kept])


# Functions of the caller


class ShiftScores(transformers.LogitsProcessor):
    def __call__(self, input_ids, scores):
        return scores.roll(input_ids.shape[1] % 7, -1)


@pytest.mark.parametrize(
    "options", [{}, DRAWN, BEAMS, {"repetition_penalty": 1.3, "temperature": 0.7, **DRAWN}], ids=str
)
def test_processors(models, options):
    chain = transformers.LogitsProcessorList([ShiftScores(), transformers.SuppressTokensLogitsProcessor([7, 9])])
    theirs, ours = (generated(m, logits_processor=chain, max_new_tokens=6, **options) for m in models)
    assert ours.tolist() == theirs.tolist()
    functions = [lambda ids, scores: ShiftScores()(ids, scores), chain[1]]
    assert generated(models[1], logits_processor=functions, max_new_tokens=6, **options).tolist() == ours.tolist()


class EndsAfter(transformers.StoppingCriteria):
    def __init__(self, token):
        self.token = token

    def __call__(self, input_ids, scores, **kwargs):
        return input_ids[:, -1] >= self.token


@pytest.mark.parametrize("options", [{}, DRAWN, BEAMS], ids=str)
@pytest.mark.parametrize("token", [0, 25, 45])
def test_criteria(models, options, token):
    criteria = transformers.StoppingCriteriaList([EndsAfter(token)])
    theirs, ours = (generated(m, stopping_criteria=criteria, max_new_tokens=9, **options) for m in models)
    assert ours.tolist() == theirs.tolist()


def test_criteria_of_one_answer_and_their_scores(models):
    seen = []

    def criterion(ids, scores):
        seen.append(None if scores is None else len(scores))
        return ids.shape[1] >= 8

    assert generated(models[1], stopping_criteria=[criterion], max_new_tokens=9).shape == (3, 8)
    assert seen == [None, None]
    generated(models[1], stopping_criteria=[criterion], return_dict_in_generate=True, output_scores=True)
    assert seen[2:] == [1, 2]


@pytest.mark.parametrize("options", [{}, DRAWN, BEAMS], ids=str)
def test_allowed_tokens(models, options):
    def allowed(prompt, ids):
        return [token for token in range(50) if (token + prompt + len(ids)) % 5 == 0]

    theirs, ours = (generated(m, prefix_allowed_tokens_fn=allowed, max_new_tokens=6, **options) for m in models)
    assert ours.tolist() == theirs.tolist()


class Noted(transformers.generation.BaseStreamer):
    def __init__(self):
        self.values = []

    def put(self, value):
        self.values.append(value.tolist())

    def end(self):
        self.values.append("end")


def test_streamers_of_transformers(models):
    noted = [Noted(), Noted()]
    for model, streamer in zip(models, noted, strict=True):
        generated(model, mask=PADDED, streamer=streamer, max_new_tokens=5)
    assert noted[0].values == noted[1].values
    assert noted[1].values[0] == IDS.tolist()
    assert noted[1].values[-1] == "end"


# Configs


@DEFAULT_LENGTH
@pytest.mark.parametrize("kind", [transformers.GenerationConfig, dict])
@pytest.mark.parametrize(
    "fields",
    [
        {"max_new_tokens": 7, "eos_token_id": [2, 5, 17]},
        {"do_sample": True, "temperature": 0.5, "top_k": 9, "max_new_tokens": 7},
        {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5, "max_length": 12},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.2, "min_new_tokens": 4},
        {"max_new_tokens": 3, "return_dict_in_generate": True, "output_scores": True},
    ],
    ids=str,
)
def test_a_config_of_the_call(models, kind, fields):
    expected = generated(models[0], generation_config=transformers.GenerationConfig(**fields))
    by_name = generated(models[1], generation_config=kind(**fields))
    torch.manual_seed(5)
    in_its_place = models[1].generate(IDS, kind(**fields), attention_mask=WHOLE)
    for found in (by_name, in_its_place, generated(models[1], **fields)):
        if fields.get("return_dict_in_generate"):
            assert list(found) == list(expected)
            assert found.sequences.tolist() == expected.sequences.tolist()
        else:
            assert found.tolist() == expected.tolist()


def test_a_config_of_the_model():
    theirs = reference_model(std=0.3, eos_token_id=2)
    ours = ours_like(theirs)
    for model in (theirs, ours):
        model.generation_config.pad_token_id = 0
        model.generation_config.eos_token_id = [2, 5, 17]
        model.generation_config.max_new_tokens = 9
        model.generation_config.update(repetition_penalty=1.4)
    assert generated(ours).tolist() == generated(theirs).tolist()
    for model in (theirs, ours):
        model.generation_config.repetition_penalty = None
        assert model.generation_config.min_p is None
    assert generated(ours).tolist() == generated(theirs).tolist()
    config = transformers.GenerationConfig(max_new_tokens=4, num_beams=2, eos_token_id=7, pad_token_id=0)
    for model in (theirs, ours):
        model.generation_config = config
    assert generated(ours).tolist() == generated(theirs).tolist()


def test_a_config_of_the_model_is_written(tmp_path):
    ours = toy_model()
    ours.generation_config.max_new_tokens = 9
    ours.generation_config.save_pretrained(tmp_path)
    assert transformers.GenerationConfig.from_pretrained(tmp_path).max_new_tokens == 9


def test_the_call_comes_before_its_config_and_that_before_the_model():
    ours = toy_model(std=0.3)
    ours.generation_config = {"max_new_tokens": 3, "num_beams": 2, "eos_token_id": None}
    options = ours.generation_options({"num_beams": 3, "length_penalty": 2.0, "eos_token_id": 4}, num_beams=1)
    assert (options.max_new_tokens, options.num_beams, options.length_penalty) == (3, 1, 2.0)
    assert options.ends == (4,)


# Embeddings


@pytest.mark.parametrize("mask", [WHOLE, PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 5},
        {"max_length": 12, "min_length": 10, "eos_token_id": MANY},
        {"max_new_tokens": 5, "num_return_sequences": 2, **DRAWN},
        {"max_new_tokens": 5, "no_repeat_ngram_size": 1, **BEAMS},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Passing `no_repeat_ngram_size`:UserWarning")
def test_embeddings(models, mask, options):
    for given in ({}, {"input_ids": IDS}):
        found = []
        for model in models:
            torch.manual_seed(5)
            embedded = model.get_input_embeddings()(IDS)
            found.append(model.generate(inputs_embeds=embedded, attention_mask=mask, **given, **options).tolist())
        assert found[1] == found[0]


@pytest.mark.parametrize("options", [{}, BEAMS], ids=str)
def test_embeddings_with_a_cache_of_their_beginning(models, options):
    ours = models[1]
    first = ours.generate(
        inputs_embeds=ours.get_input_embeddings()(IDS), max_new_tokens=3, return_dict_in_generate=True
    )
    longer = ours.get_input_embeddings()(torch.cat((IDS, first.sequences), 1))
    cache = first.past_key_values
    assert len(cache) == 8
    expected = ours.generate(inputs_embeds=longer, max_new_tokens=4, **options)
    assert ours.generate(inputs_embeds=longer, past_key_values=cache, max_new_tokens=4, **options).tolist() == (
        expected.tolist()
    )
    with pytest.raises(InputError, match=r"inputs_embeds must hold the .* positions of past_key_values and at least"):
        ours.generate(inputs_embeds=longer[:, :5], past_key_values=cache)


def test_embeddings_without_a_mask(models):
    theirs, ours = (m.generate(inputs_embeds=m.get_input_embeddings()(IDS), max_new_tokens=4) for m in models)
    assert ours.tolist() == theirs.tolist()
    assert ours.shape == (3, 4)


def test_both_names_of_a_prompt(models):
    expected = generated(models[1], max_new_tokens=4).tolist()
    assert models[1].generate(inputs=IDS, max_new_tokens=4).tolist() == expected
    encoded = {"input_ids": IDS, "attention_mask": WHOLE, "token_type_ids": WHOLE}
    assert models[1].generate(**encoded, max_new_tokens=4).tolist() == expected


@pytest.mark.parametrize(
    "options", [{"temperature": 0.6}, {"top_p": 0.5, "num_beams": 2}, {"eta_cutoff": 0.1}], ids=str
)
def test_settings_of_drawing_have_no_effect_where_nothing_is_drawn(models, options):
    """Code that sets them runs, as with transformers; that they change nothing is said once."""
    plain = {name: value for name, value in options.items() if name == "num_beams"}
    expected = generated(models[0], max_new_tokens=6, **options)
    name = next(iter(options))
    with pytest.warns(UserWarning, match=f"^{name}=.* has no effect without do_sample=True$"):
        found = generated(models[1], max_new_tokens=6, **options)
    assert found.tolist() == expected.tolist() == generated(models[1], max_new_tokens=6, **plain).tolist()
    with pytest.raises(InputError, match=f"{name} needs do_sample=True, got do_sample=False"):
        GenerationOptions(**options)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 1.0, "top_k": 50}], ids=str)
def test_settings_that_ask_for_the_best_token_are_no_news(models, options):
    expected = generated(models[1], max_new_tokens=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert generated(models[1], max_new_tokens=6, do_sample=False, **options).tolist() == expected.tolist()


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_ids_as_arrays(models, kind):
    options = {"eos_token_id": [9, 12, 30], "suppress_tokens": [4, 5, 6, 17]}
    expected = generated(models[0], max_new_tokens=9, **options)
    arrays = {name: kind(value) for name, value in options.items()}
    found = generated(models[1], max_new_tokens=kind(9), logits_to_keep=1, prefill_chunk_size=2, **arrays)
    assert found.tolist() == expected.tolist()


def byte_level_tokenizer():
    """One of 300 tokens that spells bytes as GPT-2 does."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    trained.train_from_iterator(["façade, naïve café ünter der Brücke, the cat sat on the mat " * 20], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=trained)


def sentence_piece_tokenizer():
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(model_folder("mini") / "tokenizer.json"))


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentence_piece_tokenizer])
def test_stop_strings_with_a_tokenizer_of_transformers(make):
    tokenizer = make()
    theirs = reference_model(std=0.3, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=2)
    ours, options = ours_like(theirs), {"max_new_tokens": 40, "tokenizer": tokenizer}
    ended = 0
    for stop in ("t", "ca", "e", ["ü", "zz"], "<end>", "é", " s"):
        expected, found = (generated(model, stop_strings=stop, **options) for model in (theirs, ours))
        assert found.tolist() == expected.tolist()
        ended += (found == 0).any() or found.shape[1] < 46
    assert ended


def test_the_pipeline_of_transformers():
    probe, tokenizer = Probe.from_pretrained("mini"), sentence_piece_tokenizer()
    pipeline = transformers.pipeline("text-generation", model=probe.model, tokenizer=tokenizer)
    (found,) = pipeline("once upon", max_new_tokens=6, do_sample=False, return_full_text=False)
    assert found["generated_text"].strip() == probe.generate("once upon", 6).strip()


def test_time_ends_rows(models, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(stopping.time, "monotonic", lambda: next(now))
    assert generated(models[1], max_time=3, max_new_tokens=20, eos_token_id=None).shape == (3, 10)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_return_sequences": 2}, "num_return_sequences needs do_sample=True or num_beams=2, got 2 of a greedy"),
        ({"num_return_sequences": 5, **BEAMS}, r"num_return_sequences must be at most num_beams \(4\), got 5"),
        ({"max_length": 6}, "max_length must be a whole number above the prompt's 6 tokens, got 6"),
        ({"min_length": -1}, "min_length must be a whole number above"),
        ({"min_new_tokens": -1}, "min_new_tokens must be a whole number of at least 0, got -1"),
        ({"bad_words_ids": [7]}, r"bad_words_ids must be lists of token ids, got \[7\]"),
        ({"bad_words_ids": [[50]]}, r"bad_words_ids must be below vocab_size \(50\), got 50"),
        ({"sequence_bias": {(7,): "much"}}, "sequence_bias must be biases by sequences of token ids"),
        ({"suppress_tokens": 7}, "suppress_tokens must be token ids, got 7"),
        ({"typical_p": 1.5, **DRAWN}, "typical_p must be above 0 and at most 1"),
        ({"exponential_decay_length_penalty": 3}, "must be a number of tokens and a factor, got 3"),
        ({"guidance_scale": 1.5}, "guidance_scale exists only in transformers, got 1.5; leave it out"),
        ({"generation_config": {"top_h": 0.4}}, "top_h exists only in transformers, got 0.4; .* pass top_h="),
        ({"generation_config": 3}, "a generation_config must have options by name, got a int"),
        ({"logits_processor": [lambda ids, scores: scores[:, :3]]}, r"must return scores \[3, 50\], got float32 .*3\]"),
        ({"logits_processor": [lambda ids, scores: None]}, "must return scores .*, got a NoneType"),
        ({"inputs": IDS, "input_ids": IDS}, "inputs and input_ids are two names of the prompt, got both"),
        ({"inputs_embeds": torch.zeros(3, 6)}, r"inputs_embeds must be floats .*, got float32 \[3, 6\]"),
        ({"inputs_embeds": torch.zeros(2, 6, 24), "input_ids": IDS}, "must have the 2 rows of inputs_embeds"),
    ],
)
def test_what_cannot_be(models, options, sentence):
    prompt = {} if {"inputs", "inputs_embeds"} & options.keys() else {"inputs": IDS}
    with pytest.raises(InputError, match=sentence):
        models[1].generate(**prompt, **options)


def test_a_text_is_continued_once():
    probe = Probe.from_pretrained("mini")
    for call in (lambda **o: probe.generate("a", 4, **o), lambda **o: probe.trace("a", generate=4, **o)):
        with pytest.raises(InputError, match="a text is continued once, got num_return_sequences=2"):
            call(num_return_sequences=2, do_sample=True)
    with pytest.raises(InputError, match="max_length counts the prompt, got 9 for prompts of several lengths"):
        probe.model.generation_options(max_length=9)


def test_positions_are_not_an_option():
    with pytest.raises(InputError, match="follow from the attention_mask, got position_ids; leave them out"):
        toy_model().generate(torch.tensor([[1, 2]]), max_new_tokens=1, position_ids=torch.tensor([[0, 1]]))
