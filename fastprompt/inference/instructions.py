"""Instructions, answered by writing."""

from collections.abc import Sequence
from typing import Any

from fastprompt.data.encoding import Encodable
from fastprompt.data.examples import Instructions as InstructionData
from fastprompt.data.readers.files import Record
from fastprompt.data.readers.instruction import read_instruction
from fastprompt.inference.model_task import ModelTask, encoded, grouped
from fastprompt.inference.reading import Reading
from fastprompt.models.causal_lm import PromptForCausalLM
from fastprompt.models.seq2seq_lm import PromptForSeq2SeqLM


class Instructions(ModelTask):
    """Answers: "output", greedily written after the instruction."""

    model = PromptForCausalLM
    kind = InstructionData
    line = ("instruction", str)

    def read(self, records: Sequence[Record], reading: Reading) -> InstructionData:
        asked = [read_instruction(record) for record in records]
        instructions, contexts = [given for given, _ in asked], [context for _, context in asked]
        return InstructionData(instructions, contexts, [""] * len(records), reading.data.chat_template)

    def answer(self, data: InstructionData, reading: Reading) -> list[dict[str, Any]]:
        prompts = self._prompt_ids(data, reading)
        outputs = [""] * len(prompts)
        size, stop = reading.evaluation.per_device_eval_batch_size, reading.tokenizer.eos_token_id
        for indices in grouped([len(ids) for ids in prompts], size):
            for index, row in zip(indices, self._written([prompts[index] for index in indices], reading), strict=True):
                end = row.index(stop) if stop in row else len(row)
                outputs[index] = reading.tokenizer.decode(row[:end])
        columns = zip(data.instructions, data.contexts, outputs, strict=True)
        return [{"instruction": given, "input": context, "output": output} for given, context, output in columns]

    def _prompt_ids(self, data: InstructionData, reading: Reading) -> list[list[int]]:
        """The token ids that stand before each answer."""
        start, _ = reading.tokenizer.special_tokens_around()
        return [start + ids for ids in reading.tokenizer.plain(data.written())]

    def _after(self, width: int) -> int:
        """Where in its output what the model has written begins."""
        return width

    def _written(self, prompts: list[list[int]], reading: Reading) -> list[list[int]]:
        width = max(map(len, prompts))
        written = reading.model.generate(
            prompts,
            max_new_tokens=reading.evaluation.max_new_tokens,
            eos_token_id=reading.tokenizer.eos_token_id,
            pad_token_id=reading.tokenizer.pad_token_id,
        )
        return written[:, self._after(width) :].tolist()


class TextToText(Instructions):
    """The same by an encoder-decoder, which writes apart from what it reads."""

    model = PromptForSeq2SeqLM

    def prepare(self, data: InstructionData, reading: Reading) -> Encodable:
        return data.as_text_to_text()

    def _prompt_ids(self, data: InstructionData, reading: Reading) -> list[list[int]]:
        return [row["input_ids"] for row in encoded(self.prepare(data, reading), reading)]

    def _after(self, width: int) -> int:
        return 1  # the token that the decoder starts with
