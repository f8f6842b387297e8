"""How texts became tokens when a prompt was tuned is stored with it, and is the default of what reads on with it."""

import json

import fastprompt as fp
from fastprompt.cli import make_parser
from fastprompt.data.examples import Instructions, SquadData, SquadQuestion
from fastprompt.options.parsing import gather

import pytest
from fastNLP import Trainer


def config_of(folder):
    return json.loads((folder / "prompt_config.json").read_text())


def options_of(*arguments):
    given = vars(make_parser().parse_args([str(word) for word in arguments]))
    given.pop("command")
    return gather(given)


@pytest.fixture
def trained(tiny, train_here, tmp_path):
    """The folder of a prompt whose texts were cut to 40 tokens."""
    train_here(
        *("--model_name_or_path", tiny["bert"], "--task_name", "reviews", "--max_train_samples", 32, "--do_train"),
        *("--max_seq_length", 40, "--output_dir", tmp_path / "run"),
    )
    return tmp_path / "run"


def test_a_run_stores_its_length_and_the_next_one_takes_it(trained):
    assert config_of(trained)["max_seq_length"] == 40
    assert options_of("train", "--model_name_or_path", trained, "--task_name", "reviews").data.max_seq_length == 40
    asked = options_of("train", "--model_name_or_path", trained, "--task_name", "reviews", "--max_seq_length", 50)
    assert asked.data.max_seq_length == 50


def test_two_texts_that_differ_within_the_trained_length_get_answers_of_their_own(tiny, train_here, tmp_path, command):
    train_here(
        *("--model_name_or_path", tiny["bert"], "--task_name", "reviews", "--max_train_samples", 32, "--do_train"),
        *("--max_seq_length", 60, "--pre_seq_len", 2, "--pooling", "mean", "--output_dir", tmp_path / "run"),
    )
    start = "a b c d " * 12  # 48 tokens, one a letter; they differ after these
    lines = f"{start} x y\n{start} q z\n".encode()
    arguments = ("predict", "--model_name_or_path", tmp_path / "run", "--format", "jsonl")
    first, second = map(json.loads, command(*arguments, stdin=lines).stdout.splitlines())
    assert first["probabilities"] != pytest.approx(second["probabilities"], abs=1e-5)
    cut = command(*arguments, "--max_seq_length", 20, stdin=lines)
    first, second = map(json.loads, cut.stdout.splitlines())
    assert first["probabilities"] == pytest.approx(second["probabilities"], abs=1e-6)  # but for rounding


def test_a_prompt_that_says_nothing_is_read_with_todays_defaults(trained):
    content = config_of(trained)
    del content["max_seq_length"]
    (trained / "prompt_config.json").write_text(json.dumps(content))
    assert options_of("train", "--model_name_or_path", trained, "--task_name", "reviews").data.max_seq_length == 128


def test_a_script_stores_what_its_dataloader_says(tiny, tmp_path):
    data = fp.load_reviews("train").head(8)
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], label_names=data.label_names)
    model.save_pretrained(tmp_path / "untrained")
    assert "max_seq_length" not in config_of(tmp_path / "untrained")
    loader = fp.make_dataloader(data, fp.load_tokenizer(tiny["bert"]), batch_size=4, max_length=24)
    Trainer(
        model=model,
        driver=fp.backend(),
        device="cpu",
        n_epochs=1,
        optimizers=fp.AdamW(model.trainable_parameters(), lr=1e-3),
        train_dataloader=loader,
        progress_bar=None,
    )
    model.save_pretrained(tmp_path / "trained")
    assert config_of(tmp_path / "trained")["max_seq_length"] == 24
    again = fp.load_prompt_model(tmp_path / "trained")
    again.save_pretrained(tmp_path / "again")
    assert config_of(tmp_path / "again")["max_seq_length"] == 24


def test_windows_and_instructions_say_how_they_were_made(tiny):
    tokenizer = fp.load_tokenizer(tiny["bert"])
    questions = SquadData([SquadQuestion("1", "who", "a fine film", [("fine", 2)])], False)
    windows = fp.make_windows(questions, tokenizer, 30, 5, 8)
    made = {"max_seq_length": 30, "doc_stride": 5, "max_query_length": 8}
    assert fp.make_dataloader(windows, tokenizer).text_settings == made
    instructions = Instructions(["say"], [""], ["yes"], "alpaca")
    assert instructions.text_settings == instructions.as_text_to_text().text_settings == {"chat_template": "alpaca"}
