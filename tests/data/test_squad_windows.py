"""Questions and passages in windows of tokens."""

import itertools
import json

import fastprompt as fp
from fastprompt.data.examples import SquadData, SquadQuestion
from fastprompt.data.readers.squad import load_squad
from fastprompt.data.squad_answers import best_spans, choose_answers
from fastprompt.data.squad_windows import make_windows
from fastprompt.errors import ConfigError
from fastprompt.metrics.squad import (
    score_answers,
)

import numpy
import pytest


def data_of(*entries):
    return SquadData([SquadQuestion(f"q{i}", *entry) for i, entry in enumerate(entries)], version_2=True)


def test_every_answer_lies_at_its_tokens(tiny):
    """The tiny tokenizer has one token a letter, so a span of tokens is a span of characters."""
    context = "ab cd ef gh ij kl mn op qr st"
    data = data_of(*(("a b", context, [(text, context.index(text))]) for text in ("ab", "ef gh", "st", "d e")))
    made = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=18, doc_stride=4, max_query_length=4)
    held = [0] * len(data)
    for window in made.windows:
        assert len(window.input_ids) <= 18
        text, start = data.questions[window.question].answers[0]
        first, last = window.offsets[window.offsets[:, 0] >= 0][[0, -1], [0, 1]]
        if first <= start and start + len(text) <= last:
            held[window.question] += 1
            assert (window.offsets[window.start, 0], window.offsets[window.end, 1]) == (start, start + len(text))
        else:
            assert (window.start, window.end) == (0, 0)
    assert all(held)
    assert len(made.windows) > len(data)
    assert made.notes == []


def test_neighbours_share_the_stride_and_miss_nothing(tiny):
    data = data_of(("a", "abcdefghijklmnopqrstuvwxyz", [("c", 2)]))
    made = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=14, doc_stride=3, max_query_length=1)
    covered = [{tuple(x) for x in window.offsets[window.offsets[:, 0] >= 0].tolist()} for window in made.windows]
    assert set.union(*covered) == {(i, i + 1) for i in range(26)}
    assert [len(a & b) for a, b in itertools.pairwise(covered)] == [3] * (len(covered) - 1)


def test_rows_are_what_the_model_reads(tiny):
    data = data_of(("a", "bc", [("c", 1)]), ("a", "bc", []))
    tokenizer = fp.load_tokenizer(tiny["bert"])
    rows = make_windows(data, tokenizer, max_seq_length=20, max_query_length=4).rows()
    assert rows[0]["input_ids"].tolist() == tokenizer(["a"], ["bc"])[0]["input_ids"]
    assert rows[0]["token_type_ids"].tolist() == [0, 0, 0, 1, 1, 1]
    assert [(row["start_positions"], row["end_positions"], row["window_ids"]) for row in rows] == [(4, 4, 0), (0, 0, 1)]


def test_long_questions_are_cut_and_counted(tiny):
    data = data_of(("abcdefgh", "xyz", [("y", 1)]), ("ab", "xyz", [("y", 1)]))
    made = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=30, doc_stride=2, max_query_length=3)
    assert [int((window.token_type_ids == 0).sum()) for window in made.windows] == [5, 4]
    assert made.notes == ["1 of 2 questions were cut to 3 tokens (max_query_length)."]


def test_answers_that_no_window_holds_are_counted(tiny):
    data = data_of(("a", "b" * 40, [("b" * 30, 5)]), ("a", "b" * 40, [("b", 0)]), ("a", "b" * 40, []))
    made = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=20, doc_stride=4, max_query_length=3)
    assert made.notes == ["1 of 3 questions have no window that holds their answer; they teach no answer."]
    assert all((w.start, w.end) == (0, 0) for w in made.windows if w.question != 1)


@pytest.mark.parametrize(
    "options",
    [
        {"max_seq_length": 64},
        {"max_seq_length": 128, "doc_stride": 61},
        {"doc_stride": -1},
        {"max_query_length": 0},
        {"max_query_length": 400},
    ],
)
def test_windows_without_room_are_refused(tiny, options):
    with pytest.raises(ConfigError, match="tokens for the context beside a question of max_query_length"):
        make_windows(data_of(("a", "b", [])), fp.load_tokenizer(tiny["bert"]), **options)


def test_a_question_with_spaces_before_it_and_an_answer_with_spaces_around_it(tiny):
    data = data_of(("   a", "b cd e", [(" cd ", 1)]))
    (window,) = make_windows(data, fp.load_tokenizer(tiny["bert"]), max_seq_length=30, max_query_length=4).windows
    assert (window.offsets[window.start, 0], window.offsets[window.end, 1]) == (2, 4)


BPE = """
import sys
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizerFast
made = ByteLevelBPETokenizer()
made.train_from_iterator(["a question about the answers in a context of words"] * 9, vocab_size=300,
    special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
made.save_model(sys.argv[1])
RobertaTokenizerFast(vocab=sys.argv[1] + "/vocab.json", merges=sys.argv[1] + "/merges.txt").save_pretrained(sys.argv[1])
"""


STOCK = """
import json, sys
from transformers import AutoTokenizer
texts = json.loads(sys.argv[1])
for folder in sys.argv[2:]:
    found = AutoTokenizer.from_pretrained(folder)(*texts, truncation="only_second", max_length=40, stride=10,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True)
    rows = [[found["overflow_to_sample_mapping"][i], found["input_ids"][i], found["token_type_ids"][i],
        [pair if sequence == 1 else [-1, -1] for pair, sequence in zip(found["offset_mapping"][i],
        found.sequence_ids(i))]] for i in range(len(found["input_ids"]))]
    print(json.dumps(rows))
"""


@pytest.mark.once
def test_windows_equal_transformers(run_python, minilm, tiny, tmp_path):
    run_python("torch", "-c", BPE, tmp_path)
    questions = ["Who wrote it?", "Où — “là”?", "什么时候?"]
    contexts = ["The poet’s answers, a context of words 🙂 and naïve ones. " * 6, "一些文字。" * 30, "short"]
    folders = [minilm, tiny["roberta"], tmp_path]
    done = run_python("torch", "-c", STOCK, json.dumps([questions, contexts]), *folders)
    for folder, line in zip(folders, done.stdout.splitlines()[-3:], strict=True):
        answers = [[("🙂", context.index("🙂"))] if "🙂" in context else [] for context in contexts]
        data = data_of(*zip(questions, contexts, answers, strict=True))
        made = make_windows(data, fp.load_tokenizer(folder), max_seq_length=40, doc_stride=10, max_query_length=20)
        rows = [[w.question, w.input_ids.tolist(), w.token_type_ids.tolist(), w.offsets.tolist()] for w in made.windows]
        assert rows == json.loads(line)
    # In bytes the emoji is several tokens of one character: the first starts the answer, the last ends it.
    (window, *_) = [window for window in made.windows if window.end]
    assert window.end - window.start == 3
    assert window.offsets[window.start].tolist() == window.offsets[window.end].tolist()


def test_the_official_dev_file_scores_1_with_its_own_answers(squad):
    data = load_squad("squad", "validation", squad)
    assert (len(data), data.notes) == (10570, [])
    first = {question.id: question.answers[0][0] for question in data.questions}
    assert score_answers(data.questions, first, version_2=False) == {"exact_match": 1.0, "f1": 1.0}
    last = {question.id: question.answers[-1][0] for question in data.questions}
    assert score_answers(data.questions, last, version_2=False)["exact_match"] == 1.0
    assert score_answers(data.questions, {}, version_2=False) == {"exact_match": 0.0, "f1": 0.0}


@pytest.mark.once
def test_the_official_dev_file_has_as_many_windows_as_published(squad, minilm):
    """10,784 of 384 tokens with BERT's uncased vocabulary; logits at the gold spans give the gold answers back."""
    data = load_squad("squad", "validation", squad)
    made = make_windows(data, fp.load_tokenizer(minilm), max_seq_length=384, doc_stride=128)
    assert len(made) == 10784
    assert made.notes == []
    spans = {}
    for number, window in enumerate(made.windows[:2000]):
        starts, ends = numpy.zeros((2, len(window.input_ids)))
        if window.end:
            starts[window.start] = ends[window.end] = 5.0
        spans[number] = best_spans(window, starts, ends)
    found = choose_answers(made, spans)
    questions = [question for question in data.questions if question.id in found.answers]
    scores = score_answers(questions, found.answers, version_2=False)
    assert scores["exact_match"] > 0.99
    assert scores["f1"] > 0.995
