"""Write a model folder without weights, for `--load-format dummy`: config, byte-level tokenizer, ChatML template.

Runs inside the engine's interpreter (needs only `tokenizers`), never in raybench's own process:

    python shape_folder.py FOLDER CONFIG.json
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 8000
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def corpus():
    draw = random.Random(1)
    syllables = [
        first + vowel + last for first in "bdfgklmnprstvw" for vowel in "aeiou" for last in ("", "n", "r", "st")
    ]
    words = ["".join(draw.choice(syllables) for _ in range(1 + int(draw.random() * 3))) for _ in range(12000)]
    for _ in range(8000):
        yield " ".join(words[int(len(words) * draw.random() ** 3)] for _ in range(12)) + "."


def make_tokenizer(num_tokens):
    """A trained vocabulary, filled up so that every id of the model is text.

    Random weights choose any id. One without text is an empty chunk, and a client that goes by text then counts the
    first token late: `sglang.bench_serving` reported a median TTFT of 0 on such a server.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary.update({f"\u0120id{number}": number for number in range(len(vocabulary), num_tokens)})
    return Tokenizer.from_str(json.dumps(content))


def main():
    folder = Path(sys.argv[1])
    config = json.loads(Path(sys.argv[2]).read_text())
    files = {
        "config.json": config,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": SPECIAL[config["eos_token_id"]],
            "pad_token": "<|endoftext|>",
            "chat_template": CHAT_TEMPLATE,
            "model_max_length": config["max_position_embeddings"],
        },
        "generation_config.json": {
            "eos_token_id": config["eos_token_id"], "do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20,
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1))
    make_tokenizer(config["vocab_size"]).save(str(folder / "tokenizer.json"))


if __name__ == "__main__":
    main()
