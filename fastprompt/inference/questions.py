"""Questions whose answers stand in a passage."""

from collections.abc import Sequence
from typing import Any

from fastprompt.data.examples import SquadData, SquadQuestion
from fastprompt.data.readers.files import Record
from fastprompt.data.squad_answers import best_spans, choose_answers
from fastprompt.data.squad_windows import SquadWindows, make_windows
from fastprompt.inference.model_task import ModelTask, encoded, logits_of
from fastprompt.inference.reading import Reading
from fastprompt.models.question_answering import PromptForQuestionAnswering


class Questions(ModelTask):
    """Answers: "answer", "" for none, and its "probability" among the n best."""

    model = PromptForQuestionAnswering
    kind = SquadData
    line = None

    def read(self, records: Sequence[Record], reading: Reading) -> SquadData:
        questions: dict[str, SquadQuestion] = {}
        for record in records:
            key = record.get("id", str) if isinstance(record.value, dict) and "id" in record.value else record.source
            if key in questions:
                raise record.wrong(f"the id {key!r} is an earlier line's")
            context = record.get("context", str)
            if not context.strip():
                raise record.wrong("its context is empty")
            questions[key] = SquadQuestion(key, record.get("question", str), context, [])
        return SquadData(list(questions.values()), reading.version_2)

    def prepare(self, data: SquadData, reading: Reading) -> SquadWindows:
        options = reading.data
        return make_windows(data, reading.tokenizer, reading.max_length, options.doc_stride, options.max_query_length)

    def answer(self, data: SquadData, reading: Reading) -> list[dict[str, Any]]:
        options = reading.evaluation
        windows = self.prepare(data, reading)
        logits = logits_of(encoded(windows, reading), reading)
        spans = {
            number: best_spans(window, *logits[number].T, options.n_best_size, options.max_answer_length)
            for number, window in enumerate(windows.windows)
        }
        found = choose_answers(windows, spans, options.n_best_size, options.null_score_diff_threshold)
        answers = []
        for question in data.questions:
            text = found.answers[question.id]
            likely = [entry["probability"] for entry in found.nbest[question.id] if entry["text"] == text]
            given = {"id": question.id, "question": question.question}
            answers.append({**given, "answer": text, "probability": likely[0] if likely else 0.0})
        return answers
