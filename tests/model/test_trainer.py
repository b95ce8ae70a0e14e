"""transformers' Trainer trains our models, step by step with the losses of its own."""

import pytest
import torch
import transformers
from safetensors.torch import load_file

import mixtral_probe as mp
from mixtral_probe import MixtralConfig, MixtralForCausalLM, Tokenizer
from mixtral_probe.checkpoint import model_folder
from tests.support.models import TOY, ours_like, reference_model, toy_model

STEPS = 20


def examples(count=12, size=10, vocabulary=50):
    ids = torch.randint(3, vocabulary, (count, size), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in ids]


def trainer(model, folder, data=None, **arguments):
    chosen = {
        "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "logging_steps": 1,
        "save_strategy": "no", "seed": 1, "dataloader_pin_memory": False,
    } | arguments  # fmt: skip
    settings = transformers.TrainingArguments(
        str(folder), use_cpu=True, report_to=[], disable_tqdm=True, log_level="error", **chosen
    )
    data = examples() if data is None else data
    return transformers.Trainer(model=model, args=settings, train_dataset=data, eval_dataset=data[:4])


def losses(of):
    of.train()
    return [entry["loss"] for entry in of.state.log_history if "loss" in entry]


def test_twenty_steps(tmp_path):
    theirs = reference_model(output_router_logits=True, router_aux_loss_coef=0.1)
    ours = ours_like(theirs)
    expected, found = (trainer(model, tmp_path) for model in (theirs, ours))
    wanted = losses(expected)
    assert losses(found) == pytest.approx(wanted, abs=1e-4)
    assert len(wanted) == STEPS
    assert sum(wanted[-5:]) < sum(wanted[:5])
    assert found.evaluate()["eval_loss"] == pytest.approx(expected.evaluate()["eval_loss"], abs=1e-4)
    assert found.state.total_flos == expected.state.total_flos > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"gradient_accumulation_steps": 3},
        {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_n_layers": 2}},
        {"label_smoothing_factor": 0.1},
        {"bf16": True},
    ],
    ids=str,
)
def test_twenty_steps_in_other_ways(tmp_path, arguments):
    theirs = reference_model()
    expected = losses(trainer(theirs, tmp_path, **arguments))
    found = losses(trainer(ours_like(reference_model()), tmp_path, **arguments))
    assert found == pytest.approx(expected, abs=1e-2 if "bf16" in arguments else 1e-4)


def test_predictions(tmp_path):
    theirs = reference_model()
    unlabelled = [{"input_ids": row["input_ids"]} for row in examples()[:4]]
    for data in (examples()[:4], unlabelled):
        expected, found = (trainer(model, tmp_path).predict(data).predictions for model in (theirs, ours_like(theirs)))
        assert found == pytest.approx(expected, abs=1e-5)


def test_special_tokens_of_a_tokenizer_are_those_of_the_model(tmp_path):
    """Trainer writes those of its tokenizer into the config and the defaults of generation."""
    definition = str(model_folder("mini") / "tokenizer.json")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=definition, eos_token="</s>", pad_token="<s>")
    model = toy_model(vocab_size=8192, eos_token_id=7, pad_token_id=None)
    settings = transformers.TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to=[], disable_tqdm=True,
                                              save_strategy="no", dataloader_pin_memory=False)  # fmt: skip
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
    of = transformers.Trainer(
        model=model, args=settings, train_dataset=examples(), processing_class=tokenizer, data_collator=collate
    )
    of.train()
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert (model.config.eos_token_id, model.config.pad_token_id) == (eos, pad)
    assert (eos in model.generation_options().ends, model.generation_config.pad_token_id) == (True, pad)


@pytest.mark.parametrize("tied", [False, True])
def test_saved_steps_continue_and_are_read(tmp_path, tied):
    model = toy_model(tie_word_embeddings=tied)
    first = trainer(model, tmp_path, save_strategy="steps", save_steps=2, max_steps=4)
    whole = losses(first)
    (tmp_path / "checkpoint-4" / "model.safetensors").unlink()
    again = trainer(toy_model(seed=9, tie_word_embeddings=tied), tmp_path, max_steps=4)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    found = [entry["loss"] for entry in again.state.log_history if "loss" in entry]
    assert found[2:] == pytest.approx(whole[2:], abs=1e-5)
    saved = MixtralForCausalLM(model.config).eval()
    saved.load_state_dict(load_file(tmp_path / "checkpoint-2" / "model.safetensors"))
    assert (saved.lm_head.weight is saved.model.embed_tokens.weight) is tied


@pytest.mark.parametrize("kind", ["SequenceClassification", "TokenClassification", "QuestionAnswering"])
def test_heads(tmp_path, kind):
    labels = {
        "SequenceClassification": lambda row: {"labels": int(row[0]) % 2},
        "TokenClassification": lambda row: {"labels": row % 2},
        "QuestionAnswering": lambda row: {"start_positions": int(row[0]) % 5, "end_positions": 7},
    }[kind]
    data = [{"input_ids": row["input_ids"], **labels(row["input_ids"])} for row in examples()]
    fields = TOY | {"pad_token_id": 0, "classifier_dropout": 0.0}
    theta = fields.pop("rope_theta")
    config = transformers.MixtralConfig(**fields, rope_parameters={"rope_type": "default", "rope_theta": theta})
    theirs = getattr(transformers, f"MixtralFor{kind}")._from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    )
    ours = getattr(mp, f"MixtralFor{kind}")(MixtralConfig.from_dict(config.to_dict()), "reference")
    ours.load_state_dict(theirs.state_dict())
    expected, found = (trainer(model, tmp_path, data, max_steps=5) for model in (theirs, ours))
    assert losses(found) == pytest.approx(losses(expected), abs=1e-4)
    assert found.evaluate()["eval_loss"] == pytest.approx(expected.evaluate()["eval_loss"], abs=1e-4)


@pytest.mark.slow
def test_the_embedded_model_learns_a_text(tmp_path):
    model = MixtralForCausalLM.from_pretrained("mini")
    ids = Tokenizer.from_folder(model_folder("mini")).encode("The cat sat on the mat, and the dog ran. " * 40).ids
    rows = torch.as_tensor(ids).long()[: len(ids) // 16 * 16].view(-1, 16)
    data = [{"input_ids": row, "labels": row} for row in rows]
    found = losses(trainer(model, tmp_path, data, learning_rate=1e-3))
    assert found[-1] < found[0] / 2
