"""Generation gives the tokens of transformers: greedy, drawn, in beams; with padding, stops, prefixes and watchers."""

import itertools

import pytest
import torch
from transformers import generation as reference

from mixtral_probe import InputError, MixtralForCausalLM
from mixtral_probe.model import KVCache, Site
from mixtral_probe.model.generation import logits
from mixtral_probe.resources import data_path
from tests.support.instruments import Edit, Everything
from tests.support.models import ours_like, reference_model, toy_model

IDS = torch.randint(3, 50, (3, 6), generator=torch.Generator().manual_seed(0))
PADDED = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]])
WHOLE = torch.ones_like(IDS)


@pytest.fixture(scope="module")
def models():
    theirs = reference_model(0, std=0.3, pad_token_id=0, eos_token_id=[2, 5])
    return theirs, ours_like(theirs), ours_like(theirs, "fast")


def same_tokens(models, mask, new=12, seed=None, **options):
    """Both implementations, and both of our numerics, give the same sequences; returns them."""
    theirs, *ours = models
    if seed is not None:
        torch.manual_seed(seed)
    # a padding id of 0 makes the reference pad beams with a stop id
    common = {"max_new_tokens": new, "pad_token_id": 1, "do_sample": seed is not None, **options}
    expected = theirs.generate(IDS, attention_mask=mask, **common)
    for model in ours:
        made = model.generate(IDS, attention_mask=mask, seed=seed, **common)
        assert made.tolist() == expected.tolist()
    return expected


@pytest.mark.parametrize("mask", [WHOLE, PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.5},
        {"num_beams": 3},
        {"num_beams": 3, "repetition_penalty": 0.7},
        {"num_beams": 4, "early_stopping": True},
        {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0},
        {"num_beams": 2, "length_penalty": 0.0},
        {"num_beams": 2, "length_penalty": -1.0, "eos_token_id": 7},
    ],
    ids=str,
)
def test_the_best_tokens_are_those_of_transformers(models, mask, options):
    same_tokens(models, mask, **options)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"temperature": 0.7, "top_k": 10},
        {"top_k": 0, "top_p": 0.8},
        {"top_k": 0, "min_p": 0.1, "temperature": 1.5},
        {"top_k": 5, "num_beams": 3, "top_p": 0.9},
    ],
    ids=str,
)
def test_drawn_tokens_are_those_of_transformers(models, seed, options):
    same_tokens(models, PADDED, seed=seed, **options)


def test_rows_that_end_are_padded_and_counted(models):
    stop = [int(token) for token in models[2].generate(IDS, max_new_tokens=12, eos_token_id=None)[0, 7:9]]
    made = models[2].generate(IDS, max_new_tokens=12, eos_token_id=stop, pad_token_id=1, return_dict_in_generate=True)
    assert made.new_tokens[0] == 2
    assert made.sequences[0, 7] == stop[0]
    assert (made.sequences[0, 8:] == 1).all()
    assert same_tokens(models, WHOLE, eos_token_id=stop).tolist() == made.sequences.tolist()


def test_an_explicit_none_never_stops(models):
    free = models[2].generate(IDS, max_new_tokens=12, eos_token_id=None)
    assert free.shape == (3, 18)
    first = int(free[0, 6])
    assert models[2].generate(IDS[:1], max_new_tokens=12, eos_token_id=first).shape == (1, 7)
    model = toy_model(std=0.3, eos_token_id=first)
    assert model.generate(IDS[:1], max_new_tokens=12, eos_token_id=None).shape == (1, 18)


@pytest.mark.skipif(not (data_path("mixtral-mini") / "model.safetensors").is_file(), reason="no embedded weights")
def test_the_embedded_model_says_what_transformers_says():
    import transformers

    theirs = transformers.MixtralForCausalLM.from_pretrained(
        data_path("mixtral-mini"), dtype="float32", attn_implementation="eager"
    )
    ours = MixtralForCausalLM.from_pretrained("mini")
    ids = torch.randint(3, 8192, (2, 5), generator=torch.Generator().manual_seed(1))
    for options in ({}, {"num_beams": 2}, {"do_sample": True, "top_k": 50, "top_p": 0.9}):
        common = {"max_new_tokens": 6, "pad_token_id": 0, "do_sample": False, "eos_token_id": None, **options}
        torch.manual_seed(3)
        expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **common)
        assert ours.generate(ids, seed=3, **common).tolist() == expected.tolist()


def test_wide_beams_find_the_most_probable_of_all_sequences():
    model = toy_model(std=0.4, vocab_size=5)
    prompt = torch.tensor([[1, 3]])
    asked = {"num_beams": 25, "eos_token_id": None, "length_penalty": 0.0, "return_dict_in_generate": True}
    made = model.generate(prompt, max_new_tokens=3, **asked)
    every = torch.tensor([[1, 3, *rest] for rest in itertools.product(range(5), repeat=3)])
    with torch.no_grad():
        steps = model(every).logits.log_softmax(-1)[:, 1:-1]
    totals = steps.gather(2, every[:, 2:, None]).sum((1, 2))
    assert made.sequences[0].tolist() == every[totals.argmax()].tolist()
    assert made.sequences_scores[0].item() == pytest.approx(totals.max().item(), abs=1e-4)


def test_scores_and_beam_rows_are_those_of_transformers(models):
    common = {"max_new_tokens": 5, "pad_token_id": 1, "num_beams": 3, "do_sample": False, "output_scores": True}
    expected = models[0].generate(
        IDS, attention_mask=PADDED, return_dict_in_generate=True, output_logits=True, **common
    )
    made = models[1].generate(IDS, attention_mask=PADDED, return_dict_in_generate=True, **common)
    torch.testing.assert_close(made.sequences_scores, expected.sequences_scores, rtol=0, atol=1e-5)
    assert made.beam_indices.tolist() == expected.beam_indices.tolist()
    for ours, theirs in zip(made.scores, expected.scores, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_what_is_kept_of_every_call(models):
    made = models[2].generate(
        IDS, max_new_tokens=4, eos_token_id=None, return_dict_in_generate=True,
        output_router_logits=True, output_attentions=True, output_hidden_states=True, output_scores=True,
    )  # fmt: skip
    assert [scores.shape for scores in made.scores] == [(3, 50)] * 4
    assert [logits[1].shape for logits in made.router_logits] == [(18, 12)] + [(3, 12)] * 3
    assert [weights[0].shape for weights in made.attentions] == [(3, 4, 6, 6)] + [(3, 4, 1, 6 + i) for i in (1, 2, 3)]
    assert [len(hidden) for hidden in made.hidden_states] == [3] * 4
    assert len(made.past_key_values) == 9  # the last token is never fed
    with torch.no_grad():
        whole = models[2](made.sequences[:, :-1], output_router_logits=True)
    by_steps = torch.cat([call[1].view(3, -1, 12) for call in made.router_logits], dim=1)
    torch.testing.assert_close(by_steps, whole.router_logits[1].view(3, 9, 12), rtol=0, atol=1e-4)


@pytest.mark.parametrize("past", [1, 3, 5])
@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"attention_mask": PADDED}], ids=str)
def test_a_cached_prefix_is_not_run_again_and_changes_nothing(models, past, options):
    model, cache = models[2], KVCache()
    mask = options.get("attention_mask")
    with torch.no_grad():
        positions = None if mask is None else (mask.cumsum(1) - 1).clamp(min=0)[:, :past]
        before = None if mask is None else mask[:, :past]
        model(IDS[:, :past], attention_mask=before, position_ids=positions, past_key_values=cache)
    seen = Everything(Site.EMBEDDING)
    again = model.generate(IDS, max_new_tokens=6, past_key_values=cache, instruments=[seen], **options)
    assert seen.seen[0][2].shape[1] == 6 - past
    assert again.tolist() == model.generate(IDS, max_new_tokens=6, **options).tolist()


def test_instruments_see_and_change_every_step():
    class Steps(Everything):
        def visit(self, site, layer, value, context):
            self.seen.append((context.phase, context.step, context.positions.tolist()))
            return value

    model, steps, routing = toy_model(std=0.3), Steps(Site.EMBEDDING), Everything(Site.ROUTING)
    banned = torch.zeros(12).index_fill(0, torch.tensor([4]), -torch.inf)
    ban = Edit(Site.ROUTER_LOGITS, lambda logits: logits + banned)
    made = model.generate(IDS, max_new_tokens=4, eos_token_id=None, instruments=[ban, steps, routing])
    assert steps.seen == [("prefill", 0, [[0, 1, 2, 3, 4, 5]])] + [("decode", i, [[5 + i]]) for i in (1, 2, 3)]
    assert not any((value.expert_ids == 4).any() for _, _, value in routing.seen)
    assert made.tolist() != model.generate(IDS, max_new_tokens=4, eos_token_id=None).tolist()


def test_rows_that_ended_are_padding_for_whoever_watches(models):
    class Valid(Everything):
        def visit(self, site, layer, value, context):
            self.seen.append(None if context.valid is None else context.valid[:, 0].tolist())
            return value

    first = int(models[2].generate(IDS, max_new_tokens=1, eos_token_id=None)[0, 6])
    valid = Valid(Site.EMBEDDING)
    models[2].generate(IDS, max_new_tokens=4, eos_token_id=first, pad_token_id=1, instruments=[valid])
    assert valid.seen[0] is None
    assert valid.seen[1][0] is False
    assert any(valid.seen[1])


def test_tokens_are_streamed_as_they_are_chosen(models):
    streamed = []
    made = models[2].generate(IDS, max_new_tokens=5, attention_mask=PADDED, streamer=streamed.append)
    assert torch.stack(streamed, dim=1).tolist() == made[:, 6:].tolist()


def test_leading_padding_ids_are_padding_without_a_mask(models):
    ids = IDS.masked_fill(PADDED == 0, 0)
    made = models[2].generate(ids, max_new_tokens=5)
    masked = models[2].generate(IDS, max_new_tokens=5, attention_mask=PADDED, pad_token_id=0)
    assert made[:, 6:].tolist() == masked[:, 6:].tolist()
    alone = models[2].generate(IDS[1:2, 2:], max_new_tokens=5)
    assert made[1, 6 : 6 + alone.shape[1] - 4].tolist() == alone[0, 4:].tolist()


class Letters:
    """Token 10 is spelt "a", 11 "b" and so on."""

    def spelling(self, token_id):
        return chr(ord("a") + token_id - 10).encode() if token_id >= 10 else b""


def spelt(ids):
    return b"".join(Letters().spelling(int(token)) for token in ids).decode()


def test_a_row_ends_when_its_last_token_completes_a_stop_string(models):
    free = models[2].generate(IDS[:1], max_new_tokens=12, eos_token_id=None)[0]
    text = spelt(free)
    stop = text[-5:-3]  # two tokens, the second being the tenth new one
    end = next(i for i in range(7, 19) if stop in spelt(free[max(0, i - 2) : i]))
    asked = {"max_new_tokens": 12, "eos_token_id": None, "tokenizer": Letters()}
    made = models[2].generate(IDS[:1], stop_strings=[stop, "~never~"], **asked)
    assert made[0].tolist() == free[:end].tolist()
    beams = models[2].generate(IDS, num_beams=2, stop_strings=stop, pad_token_id=1, **asked)
    assert beams.shape[1] <= 18


def test_stop_strings_by_hand():
    from mixtral_probe.model.generation.options import GenerationOptions
    from mixtral_probe.model.generation.stopping import Stops

    options = GenerationOptions(stop_strings=["abc", "d"])
    stops = Stops(options, 99, torch.device("cpu"), Letters())
    a, b, c, d, x = 10, 11, 12, 13, 33
    rows = [[a, b, c, 0], [x, a, b, c], [a, b, 0, c], [a, b, x, c], [a, b, c, x], [x, x, x, d], [d, x, x, x]]
    # the empty token 0 completes nothing, and does not come between either
    assert stops(torch.tensor(rows)).tolist() == [False, True, True, False, False, True, False]
    assert stops(torch.tensor([[c]])).tolist() == [False]


def test_generated_ids_can_be_trained_on():
    model = toy_model()
    ids = model.generate(IDS, max_new_tokens=3)
    model(ids, labels=ids).loss.backward()
    assert model.model.embed_tokens.weight.grad is not None


def test_a_seed_gives_the_same_and_a_generator_goes_on():
    model, drawn = toy_model(std=0.3), {"do_sample": True, "eos_token_id": None}
    a, b = (model.generate(IDS, max_new_tokens=8, seed=3, **drawn).tolist() for _ in range(2))
    assert a == b
    source = torch.Generator().manual_seed(3)
    c, d = (model.generate(IDS, max_new_tokens=8, generator=source, **drawn).tolist() for _ in range(2))
    assert c == a
    assert d != a


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1, got 0"),
        ({"temperature": 0, "do_sample": True}, "temperature must be above 0 .do_sample=False"),
        ({"top_k": -1, "do_sample": True}, "top_k must be a whole number, 0 or None"),
        ({"top_p": 1.5, "do_sample": True}, "top_p must be above 0 and at most 1, got 1.5"),
        ({"min_p": 2, "do_sample": True}, "min_p must be between 0 and 1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0"),
        ({"num_beams": 0}, "num_beams must be a whole number of at least 1"),
        ({"early_stopping": "soon"}, "early_stopping must be True, False or 'never', got 'soon'"),
        ({"temprature": 2}, "among its own, got 'temprature'; did you mean 'temperature'"),
        ({"zzz": 2}, "among its own, got 'zzz'; use max_new_tokens, "),
        ({"stop_strings": ["x"]}, "stop_strings need a tokenizer, got None; pass tokenizer="),
        ({"stop_strings": [""], "tokenizer": Letters()}, "stop_strings must be texts, none empty"),
        ({"eos_token_id": 50}, r"eos_token_id must be below vocab_size \(50\), got 50"),
        ({"pad_token_id": 99}, "pad_token_id must be below vocab_size"),
        (
            {"eos_token_id": None, "stop_strings": "x", "tokenizer": Letters()},
            "need a pad_token_id, got None",
        ),
        ({"num_beams": 2, "streamer": print}, "which beam search does not have"),
        ({"seed": 1, "generator": torch.Generator()}, "only one of seed and generator may be given, got both"),
        ({"attention_mask": WHOLE[:, 1:]}, r"attention_mask must have the shape of input_ids, \[3, 6\]"),
        ({"attention_mask": PADDED.flip(1)}, "padded on the left, .* got padding after a token in row 1"),
        ({"attention_mask": WHOLE * 0}, "got padding after a token in row 0"),
        ({"input_ids": IDS[0]}, r"got int64 \[6\]"),
        ({"input_ids": IDS[:, :0]}, r"got int64 \[3, 0\]"),
        ({"input_ids": IDS + 50}, "token ids must be in 0–49"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        toy_model().generate(**{"input_ids": IDS} | arguments)


def test_a_cache_beyond_the_prompt_is_refused():
    model, cache = toy_model(), KVCache()
    with torch.no_grad():
        model(IDS, past_key_values=cache)
    with pytest.raises(InputError, match="hold the 6 positions of past_key_values and at least one more, got 6"):
        model.generate(IDS, past_key_values=cache)
    with pytest.raises(InputError, match="input_ids must have the 3 rows of past_key_values, got 1"):
        model.generate(torch.cat((IDS, IDS), 1)[:1], past_key_values=cache)


def test_processed_scores_are_those_of_transformers():
    generator = torch.Generator().manual_seed(0)
    for spread in (0.1, 1.0, 10.0):
        scores = torch.randn(4, 30, generator=generator) * spread
        scores[:, 3] = scores[:, 4]  # a tie
        scores[1, 5:20] = -torch.inf
        ids = torch.randint(0, 3, (4, 9), generator=generator)
        biases = {(2,): 1.5, (1, 2): -torch.inf, (0, 1, 2): 3.0, (1,) * 12: 4.0}
        pairs = [
            (logits.keep_top_k(scores, 5), reference.TopKLogitsWarper(5)),
            (logits.keep_top_k(scores, 99), reference.TopKLogitsWarper(99)),
            (logits.keep_top_p(scores, 0.7, 2), reference.TopPLogitsWarper(0.7, min_tokens_to_keep=2)),
            (logits.keep_min_p(scores, 0.3, 3), reference.MinPLogitsWarper(0.3, min_tokens_to_keep=3)),
            (logits.keep_typical(scores, 0.6, 2), reference.TypicalLogitsWarper(0.6, min_tokens_to_keep=2)),
            (logits.keep_above(scores, 0.05, 3), reference.EpsilonLogitsWarper(0.05, min_tokens_to_keep=3)),
            (logits.keep_above(scores, logits.eta_threshold(scores, 0.1)), reference.EtaLogitsWarper(0.1)),
            (logits.penalise(scores, ids, 1.3), reference.RepetitionPenaltyLogitsProcessor(1.3)),
            (logits.exclude(scores, [7, 9]), reference.SuppressTokensLogitsProcessor([7, 9])),
            (logits.force(scores, [7]), reference.ForcedEOSTokenLogitsProcessor(10, 7)),
            (logits.add_biases(scores, ids, biases), reference.SequenceBiasLogitsProcessor(biases)),
            (logits.raise_ends(scores, [4, 6], 1.5, 3), reference.ExponentialDecayLengthPenalty((2, 1.5), [4, 6], 4)),
            (logits.finite(scores), reference.InfNanRemoveLogitsProcessor()),
            *((logits.exclude_repeated_ngrams(scores, ids, n), reference.NoRepeatNGramLogitsProcessor(n))
              for n in (1, 2, 3, 9, 10, 12)),
        ]  # fmt: skip
        for ours, processor in pairs:
            assert torch.equal(ours, processor(ids, scores.clone())), processor
