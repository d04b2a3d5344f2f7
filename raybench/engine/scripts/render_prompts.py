"""Render conversations with the chat template of a model folder, and say which token ids come of it.

Runs inside the engine's interpreter (transformers), never in raybench's own process:

    python render_prompts.py FOLDER CONVERSATIONS.json RESULT.json

CONVERSATIONS.json: {"conversations": [[{"role", "content"}, ...], ...], "kwargs": {...}, "trust_remote_code": bool}.
RESULT.json: {"prompts": [{"full": ids, "no_generation_prompt": ids, "bare": ids}, ...]}; the first two are null where
the folder has no template.
"""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer


def ids_of(tokenizer, messages, kwargs, generation_prompt):
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt, **kwargs)
    return tokenizer.encode(text, add_special_tokens=False)


def main():
    asked = json.loads(Path(sys.argv[2]).read_text())
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=asked["trust_remote_code"])
    prompts = []
    for messages in asked["conversations"]:
        prompt = {"full": None, "no_generation_prompt": None}
        if tokenizer.chat_template:
            prompt["full"] = ids_of(tokenizer, messages, asked["kwargs"], True)
            prompt["no_generation_prompt"] = ids_of(tokenizer, messages, asked["kwargs"], False)
        prompt["bare"] = tokenizer.encode("\n\n".join(message["content"] for message in messages))
        prompts.append(prompt)
    Path(sys.argv[3]).write_text(json.dumps({"prompts": prompts}))


if __name__ == "__main__":
    main()
