#!/usr/bin/env python3
"""Writes GGUF headers with llama.cpp's own converter, for the tests of the atlas's GGUF families.

    tools/convert-gguf-headers.py --oracle DIR --llama-cpp DIR [--out crates/anatomy/tests/data/gguf-headers] [NAME ...]

Takes small configurations of the oracle (`tiny/`), changes what MODELS says, lets transformers save a model of each
with random weights, and converts that with the `conversion` package of a llama.cpp checkout. Of each file it keeps
what precedes the tensors' data, as OUT/converted-NAME.gz, and its length in OUT/bytes.json. There is no tokenizer:
the vocabulary is a list of made-up words. Blocks that predict further tokens, which transformers leaves out, are
copies of the last layer with what the converter expects beside it.

Run it with torch, transformers, safetensors and gguf installed; it needs no network.
"""
import argparse
import gzip
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_LOCAL_GGUF"] = "1"
import torch
import transformers
from safetensors.torch import load_file, save_file


def nextn(norm="shared_head.norm.weight", heads=False):
    """Adds one block that predicts a further token."""
    def add(tensors, config):
        layers, hidden, vocabulary = config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]
        last, block = f"model.layers.{layers - 1}.", f"model.layers.{layers}."
        for name in [name for name in tensors if name.startswith(last)]:
            tensors[block + name[len(last):]] = tensors[name].clone()
        tensors[block + "eh_proj.weight"] = torch.zeros(hidden, 2 * hidden)
        for name in ["enorm.weight", "hnorm.weight", norm]:
            tensors[block + name] = torch.zeros(hidden)
        if heads:
            tensors[block + "embed_tokens.weight"] = torch.zeros(vocabulary, hidden)
            tensors[block + "shared_head.head.weight"] = torch.zeros(vocabulary, hidden)
    return add


# What the class of the library leaves out of a configuration and the converter reads, is in `after`.
GEMMA4 = {"vocab_size_per_layer_input": 320}
MIMO = {
    "swa_head_dim": 16, "swa_num_attention_heads": 4, "swa_v_head_dim": 10, "swa_num_key_value_heads": 4,
    "hybrid_layer_pattern": [0, 1, 0, 1], "topk_method": "noaux_tc",
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.5},
}
STEP = {
    "num_attention_groups": 2, "attention_other_setting": {"num_attention_heads": 4, "num_attention_groups": 2},
    "partial_rotary_factors": [0.5, 1, 1], "moe_num_experts": 6, "moe_top_k": 2, "moe_layers_enum": "1,2",
    "moe_every_n_layer": 1, "sliding_window": 16, "share_expert_dim": 40,
}
STEP_TEXT = {
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention"], "sliding_window": 16,
    "share_expert_dim": 40,
    "rope_parameters": {
        "full_attention": {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.5},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
}
T5 = {"decoder_start_token_id": 0}
# name -> type of the oracle, class, what its configuration gets, what it gets once saved, further tensors
MODELS = {
    "apertus": ("apertus", "ApertusForCausalLM", {}, {}, None),
    "bert": ("bert__mlm", "BertModel", {}, {}, None),
    "bert-classifier": ("bert__mlm", "BertForSequenceClassification", {"num_labels": 3}, {}, None),
    "bert-xlmr": ("xlm-roberta__mlm", "XLMRobertaModel", {}, {}, None),
    "chameleon": ("chameleon__vlm", "ChameleonForConditionalGeneration", {"num_key_value_heads": 4}, {}, None),
    "cohere2moe": ("cohere2_moe", "Cohere2MoeForCausalLM", {}, {"num_nextn_predict_layers": 1}, nextn()),
    "deepseek32": ("deepseek_v32", "DeepseekV32ForCausalLM", {}, {"num_nextn_predict_layers": 1}, nextn(heads=True)),
    "eurobert": ("eurobert__mlm", "EuroBertModel", {"head_dim": 12, "classifier_pooling": "mean"}, {}, None),
    "gemma-embedding": ("gemma3_text", "Gemma3ForCausalLM", {}, {"architectures": ["Gemma3TextModel"]}, None),
    "gemma3n": ("gemma3n_text", "Gemma3nForCausalLM", GEMMA4 | {"laurel_rank": 64, "num_kv_shared_layers": 0}, {}, None),
    "gemma4": ("gemma4_text", "Gemma4ForCausalLM", GEMMA4 | {"num_kv_shared_layers": 2}, {}, None),
    "gemma4-moe": ("gemma4_text", "Gemma4ForCausalLM", GEMMA4 | {
        "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24,
        "hidden_size_per_layer_input": 0, "attention_k_eq_v": True, "num_global_key_value_heads": 1,
    }, {}, None),
    "glm-dsa": ("glm_moe_dsa", "GlmMoeDsaForCausalLM", {}, {"num_nextn_predict_layers": 1}, nextn(heads=True)),
    "hy_v3": ("hy_v3", "HYV3ForCausalLM", {}, {"num_nextn_predict_layers": 1}, nextn("final_layernorm.weight")),
    "laguna": ("laguna", "LagunaForCausalLM", {}, {}, None),
    "llama4": ("llama4_text", "Llama4ForCausalLM", {"interleave_moe_layer_step": 2, "moe_layers": [1, 3]}, {}, None),
    "mimo2": ("mimo_v2_flash", "MiMoV2FlashForCausalLM", {}, MIMO, None),
    "minicpm3": ("minicpm3", "MiniCPM3ForCausalLM", {"v_head_dim": 12}, {}, None),
    "modern-bert": ("modernbert__mlm", "ModernBertModel", {}, {}, None),
    "modern-bert-classifier": ("modernbert__mlm", "ModernBertForSequenceClassification", {"num_labels": 3}, {}, None),
    "mpt": ("mpt", "MptForCausalLM", {}, {"architectures": ["MPTForCausalLM"]}, None),
    "olmo": ("olmo", "OlmoForCausalLM", {}, {}, None),
    "step35": ("step3p7__vlm", "Step3p7ForConditionalGeneration", {"text_config": STEP_TEXT}, STEP, None),
    "t5": ("t5__seq2seq", "T5ForConditionalGeneration", T5, T5, None),
    "t5-gated": ("mt5__seq2seq", "MT5ForConditionalGeneration", T5, T5, None),
    "t5-umt5": ("umt5__seq2seq", "UMT5ForConditionalGeneration", T5, T5, None),
    "t5encoder": ("t5__seq2seq", "T5EncoderModel", T5, T5, None),
}


def merged(config, changes):
    for key, value in changes.items():
        inside = isinstance(value, dict) and isinstance(config.get(key), dict) and key.endswith("_config")
        config[key] = merged(config[key], value) if inside else value
    return config


def save(oracle, folder, source, class_name, before, after, more):
    config = merged(json.loads((oracle / "tiny" / source / "config.json").read_text()), before)
    config.pop("dtype", None)
    model = getattr(transformers, class_name)(transformers.AutoConfig.for_model(**config))
    model.save_pretrained(folder)
    saved = merged(json.loads((folder / "config.json").read_text()), after)
    (folder / "config.json").write_text(json.dumps(saved))
    words = {f"t{number}": number for number in range(saved.get("vocab_size") or 0)}
    tokenizer = {"model": {"type": "WordPiece", "vocab": words}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    if more:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        more(tensors, saved)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def convert(folder, out, no_mtp):
    import conversion
    import gguf
    from conversion.base import ModelBase, ModelType, get_model_architecture

    base = conversion.get_model_class(get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT))

    def set_vocab(self):
        words = self.hparams.get("vocab_size") or self.hparams["text_config"]["vocab_size"]
        self.gguf_writer.add_tokenizer_model("none")
        self.gguf_writer.add_token_list([f"t{number}".encode() for number in range(words)])
        self.gguf_writer.add_token_type_count(self.hparams.get("type_vocab_size") or 1)
        self.vocab_size = words

    inner = type(base.__name__, (base,), {"model_arch": base.model_arch, "set_vocab": set_vocab, "no_mtp": no_mtp})
    inner(folder, gguf.LlamaFileType.ALL_F32, out, eager=True).write()
    return min(tensor.data_offset for tensor in gguf.GGUFReader(out).tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", type=Path, required=True)
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("crates/anatomy/tests/data/gguf-headers"))
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    sys.path[:0] = [str(args.llama_cpp / "gguf-py"), str(args.llama_cpp)]
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    lengths = json.loads((args.out / "bytes.json").read_text())
    for name in args.names or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            # The name of the folder becomes that of the model.
            folder = Path(folder) / name
            save(args.oracle, folder, *MODELS[name])
            out = folder / "model.gguf"
            # The converter counts three such blocks in any MiMo-V2, whether there or not.
            start = convert(folder, out, no_mtp=name == "mimo2")
            with open(args.out / f"converted-{name}.gz", "wb") as file, gzip.GzipFile("", "wb", 9, file, 0) as packed:
                packed.write(out.read_bytes()[:start])
            lengths[f"converted-{name}"] = out.stat().st_size
    (args.out / "bytes.json").write_text(json.dumps(dict(sorted(lengths.items())), indent=1))


if __name__ == "__main__":
    main()
