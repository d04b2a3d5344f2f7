"""Write a tiny Qwen3-MoE with a ChatML tokenizer, random or trained on questions.

Runs inside the engine's interpreter (torch, transformers, tokenizers), never in raybench's own process:

    python tiny_model.py FOLDER [QUESTIONS.json]

QUESTIONS.json is a list of [question, answer] pairs; the model is trained until it gives `ANSWER. \\boxed{ANSWER}` to
each through the chat template, with the loss on the reply only. Deterministic: one thread, seeded, own corpus.
"""

# ruff: noqa: T201 - its output is read by the process that started it
import json
import math
import random
import sys
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

VOCABULARY = 4096
CONTEXT_TOKENS = 32768
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PIECES = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
"""Digits stand alone, so that sums are spelt the same way everywhere."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MAX_STEPS = 300
BATCH = 32
PEAK_RATE = 3e-3
ENOUGH_LOSS = 3e-3


def corpus():
    """Made-up words from syllables, a few of them often, as words are."""
    draw = random.Random(1)
    syllables = [
        first + vowel + last for first in "bdfgklmnprstvw" for vowel in "aeiou" for last in ("", "n", "r", "st")
    ]
    words = ["".join(draw.choice(syllables) for _ in range(1 + int(draw.random() * 3))) for _ in range(6000)]
    for _ in range(4000):
        yield " ".join(words[int(len(words) * draw.random() ** 3)] for _ in range(12)) + "."
    for _ in range(400):
        yield "user system assistant What is the final answer? Put the final answer in \\boxed{}. \\boxed{} = +"


def make_tokenizer():
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(corpus(), trainer)
    outer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=CONTEXT_TOKENS
    )
    outer.chat_template = CHAT_TEMPLATE
    return outer


def make_model(tokenizer):
    torch.manual_seed(0)
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=256,
            moe_intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            num_experts=8,
            num_experts_per_tok=2,
            norm_topk_prob=True,
            decoder_sparse_step=1,
            max_position_embeddings=CONTEXT_TOKENS,
            rope_theta=1e6,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(tokenizer, pairs):
    """Token ids and labels, padded on the right; labels outside the reply are -100."""
    rows = []
    for question, answer in pairs:
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))["input_ids"]
        reply = tokenizer(f"{answer}. \\boxed{{{answer}}}<|im_end|>")["input_ids"]
        rows.append((prompt, reply))
    longest = max(len(prompt) + len(reply) for prompt, reply in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), -100)
    for row, (prompt, reply) in enumerate(rows):
        ids[row, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
        labels[row, len(prompt) : len(prompt) + len(reply)] = torch.tensor(reply)
    return ids, labels


def train(model, tokenizer, pairs):
    ids, labels = encode(tokenizer, pairs)
    mask = (ids != tokenizer.pad_token_id).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0)
    recent = 1.0
    for step in range(MAX_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * (0.1 + 0.45 * (1 + math.cos(math.pi * step / MAX_STEPS)))
        chosen = torch.randperm(len(pairs))[:BATCH]
        loss = model(input_ids=ids[chosen], attention_mask=mask[chosen], labels=labels[chosen]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = 0.8 * recent + 0.2 * loss.item()
        if step % 50 == 0:
            print("step", step, "loss", round(loss.item(), 5), flush=True)
        if recent < ENOUGH_LOSS:
            break
    print("trained: steps", step + 1, "loss", round(recent, 6), flush=True)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder = Path(sys.argv[1])
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    if len(sys.argv) > 2:
        train(model, tokenizer, json.loads(Path(sys.argv[2]).read_text()))
    model = model.to(torch.bfloat16)
    model.config.dtype = "bfloat16"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id], pad_token_id=tokenizer.pad_token_id,
        do_sample=True, temperature=0.7, top_p=0.8, top_k=20,
    ).save_pretrained(folder)  # fmt: skip


if __name__ == "__main__":
    main()
