#!/usr/bin/env python3
"""Makes small models of types that the oracle has by class defaults only, and pairs of an encoder and a decoder.

    tools/make-small.py --oracle DIR --out DIR --variants DIR [TYPE ...]

OUT gets the form of the oracle (INDEX.json, tiny/TYPE), so that `tools/make-variants.py --oracle OUT --out VARIANTS`
mutates what is written there. Each small list itself goes to VARIANTS/TYPE/4, pairs from there on. The sizes below are
laid over the class defaults of DIR/full/configs. Run it with transformers and torch installed; it needs no network.
"""
import argparse
import importlib.machinery
import importlib.util
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

GONE = object()


class Whole(dict):
    """Replaces what stands there instead of being laid over it."""


TEXT = dict(vocab_size=320, hidden_size=48, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, layer_types=GONE, max_position_embeddings=256)
HYBRID = dict(vocab_size=320, hidden_size=48, intermediate_size=112,
              layers_block_type=["linear_attention", "moe", "full_attention", "mlp"], mamba_num_heads=4,
              mamba_head_dim=24, ssm_state_size=8, n_groups=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
              n_routed_experts=4, moe_intermediate_size=40, moe_shared_expert_intermediate_size=56, time_step_limit=GONE)
SOUND = dict(depths=[2, 1, 2], downsampling_ratios=[2, 3], num_filters=6, hidden_size=10, kernel_size=5)
MUSE = dict(hidden_size=32, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4, patch_size=4,
            pos_emb_height=3, pos_emb_width=5, max_position_embeddings=15,
            layer_types=["window_attention", "full_attention"])
EAR = dict(hidden_size=32, intermediate_size=60, num_attention_heads=4, num_key_value_heads=4, num_hidden_layers=2,
           num_mel_bins=16)
OWN = dict(kv_lora_rank=30, num_attention_heads=2, num_key_value_heads=2, qk_nope_head_dim=16)
SMALL = {
    "deepseek_vl_hybrid__vlm": dict(
        text_config=TEXT,
        vision_config=dict(hidden_size=32, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
                           image_size=28, patch_size=14),
        high_res_vision_config=dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
                                    global_attn_indexes=[1], mlp_dim=60, output_channels=20, image_size=64,
                                    patch_size=16, window_size=3)),
    "dots3_note__vlm": dict(
        text_config=dict(pad_token_id=0, eos_token_id=[1], vocab_size=320, hidden_size=48, intermediate_size=112,
                         num_hidden_layers=4,
                         layer_types=["indexed_attention", "sliding_attention", "sliding_attention",
                                      "indexed_attention"],
                         mlp_layer_types=["dense", "sparse", "sparse", "sparse"], num_attention_heads=4,
                         num_key_value_heads=4, head_dim=24, kv_lora_rank=20, q_lora_rank=28, qk_nope_head_dim=16,
                         qk_rope_head_dim=8, v_head_dim=12, index_head_dim=16, index_n_heads=2,
                         moe_intermediate_size=40, n_routed_experts=4, num_experts_per_tok=2,
                         shared_experts_intermediate_size=40, per_layer_config=Whole({"1": OWN, "2": OWN})),
        audio_config=dict(adapter_input_size=32, adapter_out_dim=48, conv_output_size=40, downsample_hidden_size=10,
                          feature_size=32, hidden_size=32, head_dim=8, intermediate_size=60, num_attention_heads=4,
                          num_key_value_heads=4, num_hidden_layers=2, max_position_embeddings=50),
        vision_config=dict(adapter_in_dim=32, adapter_out_dim=48, hidden_size=32, intermediate_size=72,
                           moe_intermediate_size=36, num_attention_heads=4, num_hidden_layers=3,
                           mlp_layer_types=["dense", "sparse", "sparse"], num_local_experts=4, patch_size=14,
                           per_layer_config=Whole({"1": {"num_local_experts": 2}}))),
    "ernie4_5_vl_moe__vlm": dict(
        text_config={**TEXT, "head_dim": GONE, "moe_intermediate_size": [40, 24], "moe_num_experts": 6, "moe_k": 2,
                     "num_hidden_layers": 3, "mlp_layer_types": ["dense", "sparse", "sparse"],
                     "rope_parameters": dict(rope_theta=500000.0, rope_type="default", mrope_section=[2, 2, 2])},
        vision_config=dict(depth=2, hidden_size=32, num_heads=4, intermediate_size=72, patch_size=14)),
    "florence2__vlm": dict(
        vision_config=dict(depths=[1, 2], patch_size=[7, 3], patch_stride=[4, 2], patch_padding=[3, 1],
                           patch_prenorm=[False, True], embed_dim=[16, 32], num_heads=[2, 4], num_groups=[2, 4],
                           projection_dim=48),
        text_config=dict(vocab_size=320, d_model=48, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=96,
                         decoder_ffn_dim=80, encoder_attention_heads=4, decoder_attention_heads=4,
                         max_position_embeddings=64)),
    "glm5_next__vlm": dict(
        text_config=dict(vocab_size=320, pad_token_id=0, eos_token_id=[1], hidden_size=48, intermediate_size=112,
                         num_hidden_layers=4, layer_types=["linear_attention"] * 3 + ["indexed_attention"],
                         mlp_layer_types=["dense", "dense", "sparse", "sparse"], indexer_types=["full"] * 4,
                         num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=20, q_lora_rank=28,
                         qk_nope_head_dim=16, qk_head_dim=16, v_head_dim=12, linear_head_dim=8, linear_num_heads=4,
                         index_head_dim=16, index_n_heads=2, index_topk=8, index_kpool=4, moe_intermediate_size=40,
                         n_routed_experts=4, num_experts_per_tok=2, hc_mult=2),
        vision_config=dict(depth=2, hidden_size=32, intermediate_size=72, num_heads=4, image_size=28, patch_size=14,
                           out_hidden_size=48, projection_intermediate_size=90)),
    "inkling2__vlm": dict(
        text_config=dict(vocab_size=320, unpadded_vocab_size=300, hidden_size=48, num_hidden_layers=4,
                         layer_types=["hybrid_sliding", "hybrid"] * 2, num_attention_heads=4, num_key_value_heads=2,
                         head_dim=16, swa_head_dim=12, swa_num_attention_heads=4, swa_num_key_value_heads=2,
                         moe_intermediate_size=40, n_routed_experts=4, num_experts_per_tok=2, rel_extent=20, d_rel=6,
                         sliding_window_size=16, n_layers_per_attn_res_block=2),
        vision_config=dict(hidden_size=32, intermediate_size=128, num_attention_heads=4, num_hidden_layers=2,
                           patch_size=4, posemb_grid_size=5, projection_hidden_dim=40, text_hidden_size=48)),
    "molmo2__vlm": dict(
        text_config={**TEXT, "additional_vocab_size": 12, "rope_scaling_layers": GONE},
        vision_config=dict(hidden_size=36, intermediate_size=70, num_hidden_layers=4, num_attention_heads=3,
                           num_key_value_heads=3, head_dim=12, image_size=[28, 42], patch_size=14,
                           num_position_embeddings=6),
        adapter_config=dict(vision_feature_layer=[3, 1], hidden_size=36, num_attention_heads=3, num_key_value_heads=3,
                            head_dim=12, intermediate_size=90, text_hidden_size=48)),
    "muse_glimmer__vlm": dict(
        text_config={**TEXT, "layer_types": ["sliding_attention", "full_attention"]}, vision_config=MUSE,
        projector_hidden_size=40, out_hidden_size=128),
    "muse_spark__vlm": dict(
        text_config={**TEXT, "layer_types": ["sliding_attention", "full_attention"],
                     "mlp_layer_types": ["sparse", "dense"], "moe_hidden_size": 24, "moe_intermediate_size": 28,
                     "num_local_experts": 4, "num_experts_per_tok": 2},
        vision_config=MUSE, projector_hidden_size=40, out_hidden_size=128,
        audio_config=dict(depths=[1, 2], hidden_sizes=[8, 16], patch_sizes=[16, 6], num_hidden_layers=2,
                          out_hidden_size=48)),
    "nemo_speechlm__seq2seq": dict(
        text_config=HYBRID,
        audio_config=dict(asr_config=EAR, diarization_config=dict(
            audio_config={**EAR, "hidden_size": 24, "num_hidden_layers": 3},
            head_config=dict(audio_hidden_size=24, hidden_size=20))),
        word_timestamp_config=dict(hidden_size=32, intermediate_size=20, num_attention_heads=4, num_key_value_heads=4,
                                   num_hidden_layers=2, vocab_size=50, blank_token_id=49)),
    "nemotron_h_omni__vlm": dict(
        text_config=HYBRID, projector_hidden_size=40, vision_hidden_size=32,
        vision_config=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, patch_size=8, max_img_size=32,
                           patch_dim=GONE, video_patch_dim=GONE),
        audio_config=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=70,
                          subsampling_conv_channels=10, num_mel_bins=32, projection_hidden_size=36,
                          projection_bias=False, attention_bias=False, scale_input=False,
                          model_type="parakeet_encoder")),
    "perceiver__mlm": dict(d_latents=48, d_model=32, num_latents=12, num_self_attends_per_block=2,
                           num_self_attention_heads=4, num_cross_attention_heads=4, vocab_size=300,
                           max_position_embeddings=40),
    "pp_formulanet__vlm": dict(
        text_config=dict(vocab_size=320, d_model=48, decoder_attention_heads=4, decoder_ffn_dim=96, decoder_layers=2,
                         encoder_attention_heads=4, encoder_layers=2, max_position_embeddings=64),
        vision_config=dict(decoder_hidden_size=48, global_attn_indexes=[1], hidden_size=32, image_size=64, mlp_dim=70,
                           num_attention_heads=4, num_hidden_layers=2, output_channels=20, patch_size=16,
                           post_conv_in_channels=20, post_conv_mid_channels=24, post_conv_out_channels=28,
                           window_size=3)),
    "vibevoice_asr__seq2seq": dict(
        text_config={**TEXT, "head_dim": GONE, "num_attention_heads": 3, "num_key_value_heads": 1},
        acoustic_tokenizer_encoder_config=SOUND,
        semantic_tokenizer_encoder_config={**SOUND, "hidden_size": 14, "depths": [1, 2, 1, 1],
                                           "downsampling_ratios": [2, 3, 2], "num_filters": 4},
        acoustic_tokenizer_chunk_size=1440),
}

VIT = dict(model_type="vit", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=50,
           image_size=[48, 32], patch_size=[16, 8], qkv_bias=False, pooler_output_size=20)
DEIT = dict(model_type="deit", hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=50,
            image_size=48, patch_size=16)
DONUT = dict(model_type="donut-swin", embed_dim=12, depths=[1, 2, 2], num_heads=[2, 3, 6], window_size=5,
             image_size=[40, 60], patch_size=2, mlp_ratio=3.0)
SWIN = dict(model_type="swin", embed_dim=12, depths=[1, 2, 2], num_heads=[2, 3, 6], window_size=7, image_size=32,
            patch_size=4, mlp_ratio=2.5, use_absolute_embeddings=True, qkv_bias=False)
READER = dict(vocab_size=100, hidden_size=40, num_hidden_layers=2, num_attention_heads=4, intermediate_size=44,
              max_position_embeddings=50, type_vocab_size=1)
WRITER = dict(READER, add_cross_attention=True, is_decoder=True)
TROCR = dict(model_type="trocr", vocab_size=100, d_model=40, decoder_layers=2, decoder_attention_heads=4,
             decoder_ffn_dim=66, max_position_embeddings=60, cross_attention_hidden_size=32, is_decoder=True,
             add_cross_attention=True)
MBART = dict(model_type="mbart", vocab_size=100, d_model=48, decoder_layers=2, decoder_attention_heads=4,
             decoder_ffn_dim=66, encoder_layers=1, encoder_ffn_dim=5, encoder_attention_heads=3,
             max_position_embeddings=60, is_decoder=True, add_cross_attention=True)
GPT2 = dict(model_type="gpt2", vocab_size=100, n_embd=40, n_layer=2, n_head=4, n_positions=50,
            add_cross_attention=True, is_decoder=True)
SAME = ["roberta", "bert-generation", "camembert", "electra", "roformer", "rembert", "big_bird", "ernie",
        "megatron-bert", "data2vec-text", "roberta-prelayernorm", "xlm-roberta-xl"]


def pairs():
    read = lambda name, **more: {**READER, "model_type": name, **more}
    write = lambda name, **more: {**WRITER, "model_type": name, **more}
    see = [(VIT, TROCR), (DEIT, {**TROCR, "cross_attention_hidden_size": 48, "layernorm_embedding": False}),
           (DONUT, MBART), (SWIN, MBART), (VIT, GPT2), (DEIT, write("roberta")),
           (DEIT, write("xlm-roberta", tie_word_embeddings=False)), (VIT, write("electra")),
           (VIT, {**MBART, "model_type": "bart"}), (VIT, {**TROCR, "tie_word_embeddings": False, "d_model": 32})]
    hear = [(read(name), write(name)) for name in SAME]
    hear += [(read("bert", hidden_size=20), write("roberta")), (read("xlm-roberta"), GPT2),
             (read("distilbert", dim=40, n_layers=2, n_heads=4, hidden_dim=30), write("roberta")),
             (read("albert"), write("roberta")), (read("deberta-v2"), write("roberta")),
             (read("longformer", attention_window=16), write("roberta")), (read("mpnet"), write("roberta")),
             (read("modernbert", pad_token_id=0), write("xmod"))]
    for name, cls, list_ in [("vision-encoder-decoder__vlm", "VisionEncoderDecoderModel", see),
                             ("encoder-decoder__seq2seq", "EncoderDecoderModel", hear)]:
        kind = name.split("__")[0]
        for number, (encoder, decoder) in enumerate(list_):
            config = dict(model_type=kind, architectures=[cls], is_encoder_decoder=True, encoder=encoder,
                          decoder=decoder)
            yield name, number + 4, cls, config


def tool(name):
    """Another tool of this folder as a module."""
    path = Path(__file__).resolve().parent / name
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_").split(".")[0], str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def lay(config, sizes):
    for key, value in sizes.items():
        if value is GONE:
            config.pop(key, None)
        elif isinstance(value, Whole):
            config[key] = dict(value)
        elif isinstance(value, dict) and isinstance(config.get(key), dict):
            lay(config[key], value)
        else:
            config[key] = value


def save(folder, config, expected):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "expected.json").write_text(json.dumps(expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", type=Path, required=True)
    parser.add_argument("types", nargs="*")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    subject = tool("make-variants.py").Subject

    def stored(cls, config):
        torch.manual_seed(0)
        maker = subject.__new__(subject)
        maker.make = getattr(transformers, cls)
        return maker.stored(config)

    index = {}
    for name, sizes in SMALL.items():
        if args.types and name not in args.types:
            continue
        config = json.loads((args.oracle / "full" / "configs" / f"{name}.json").read_text())
        cls, kind, task = config["architectures"][0], config["model_type"], name.split("__")[1]
        lay(config, sizes)
        config, expected = stored(cls, config)
        expected = {"model_type": kind, "architecture": cls, "task": task, **expected}
        save(args.out / "tiny" / name, config, expected)
        save(args.variants / name / "4", config, expected)
        index[name] = {"cls": cls, "dir": name, "task": task, "config_model_type": kind}
        print(name, len(expected["tensors"]), flush=True)
    (args.out / "INDEX.json").write_text(json.dumps(index))
    for name, number, cls, config in pairs():
        if args.types and name not in args.types:
            continue
        _, expected = stored(cls, config)
        save(args.variants / name / str(number), config, expected)
        print(name, number, len(expected["tensors"]), flush=True)


if __name__ == "__main__":
    main()
