"""Architecture figures of published models, for folders with true shapes and random weights. Pure.

Figures: the models' published config.json (Qwen3-235B-A22B, Qwen3-30B-A3B, FP8 checkpoints with 128 x 128 blocks).
"""

from pydantic import JsonValue

_QWEN3_MOE: dict[str, JsonValue] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 5_000_000,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": ["lm_head"],
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
}
_235B: dict[str, JsonValue] = _QWEN3_MOE | {
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "num_attention_heads": 64,
    "num_hidden_layers": 94,
    "max_window_layers": 94,
}
_30B: dict[str, JsonValue] = _QWEN3_MOE | {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_hidden_layers": 48,
    "max_window_layers": 48,
}
SHAPES: dict[str, dict[str, JsonValue]] = {
    "qwen3-30b-a3b-fp8": _30B,
    "qwen3-235b-a22b-fp8": _235B,
    # 11 of 94 layers put on one GPU the weight bytes that each of 8 GPUs holds of the whole model (28 GB).
    "qwen3-235b-a22b-fp8-11-layers": _235B | {"num_hidden_layers": 11},
    # What one GPU computes of --tp-size 8 --ep-size 2, without communication: an eighth of the heads and of the
    # vocabulary, half of the experts at a quarter of their width, half of the chosen ones on average.
    "qwen3-235b-a22b-fp8-tp8-ep2-rank": _235B
    | {
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "num_experts": 64,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 384,
        "vocab_size": 18992,
    },
}
"""config.json by shape name; served with `load-format: dummy`."""
