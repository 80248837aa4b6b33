//! The vocabulary of tensor names, as tables.
//!
//! Words are the dot-separated segments of a name. A key is one word, or several joined by dots that must follow one
//! another; `#` stands for an index. The first row that holds a key and allows the place where it stands wins, and
//! longer keys go before shorter ones. Names come from transformers, the original releases of the models,
//! llama.cpp (`gguf-py/gguf/constants.py`), Megatron, PEFT, kohya's scripts and diffusers.

use super::Hint;
use super::Role::{self, *};

/// Where a word stands: the innermost known place to its left. Tables hold sets of places, so each is a bit.
pub(super) type Places = u16;

pub(super) const TOP: Places = 1;
/// Directly within a numbered layer.
pub(super) const LAYER: Places = 1 << 1;
pub(super) const EMBED: Places = 1 << 2;
pub(super) const SELF: Places = 1 << 3;
/// Attention to another stack's output; its parts are named `cross_…`.
pub(super) const CROSS: Places = 1 << 4;
pub(super) const DENSE: Places = 1 << 5;
pub(super) const MOE: Places = 1 << 6;
pub(super) const SHARED: Places = 1 << 7;
/// Recurrent mixers: Mamba, delta nets, RWKV, xLSTM, RG-LRU, short convolutions.
pub(super) const SSM: Places = 1 << 8;
/// The block that Mamba, Nemotron-H and phi-2 all call `mixer`, whatever is inside.
pub(super) const MIXER: Places = 1 << 9;
pub(super) const HEAD: Places = 1 << 10;
/// A small block whose parts need no names of their own: everything within is the block.
pub(super) const SEALED: Places = 1 << 11;

/// Anywhere but in a sealed place, where only norms and what its rows name are told apart.
pub(super) const ANY: Places = !SEALED;
pub(super) const ATTN: Places = SELF | CROSS;
pub(super) const FFN: Places = DENSE | MOE | SHARED;
const OUTSIDE: Places = TOP | LAYER | EMBED;

/// A row of [`PLACES`]: keys, where they count, the place that they open, what stands there without a further name.
pub(super) type PlaceRow = (&'static str, Places, Places, Role, &'static str);

/// Words that open a place.
#[rustfmt::skip]
pub(super) const PLACES: &[PlaceRow] = &[
    (LAYERS, OUTSIDE, LAYER, Other, ""),
    ("embeddings embedding embed", TOP, EMBED, Embedding, ""),
    ("lm_head cls predictions head generator_predictions generator_lm_head entity_predictions lm_heads \
      score classifier qa_outputs pooler contact_head projection_head v_head vocab_projector vocab_transform \
      unembed lm_loss pred_layer output_layer embed_out output_projection reward_head value_head",
        TOP, HEAD, Head, ""),

    ("indexer", ANY, SEALED, Attention, "indexer"),
    ("compressor", ATTN, SEALED, Attention, "compressor"),
    ("router gate_inp wg router_mlp", ANY, SEALED, Router, "router"),
    ("gate", DENSE | MOE | MIXER | LAYER, SEALED, Router, "router"),
    ("hc_head hc_pre hyper_connection_mixer attn_hyper_connection mlp_hyper_connection", ANY, SEALED, Other, "hyper_connection"),
    ("altup", ANY, SEALED, Other, "altup"),
    ("laurel", ANY, SEALED, Other, "laurel"),
    ("attn_res", ANY, SEALED, Other, "attention_residual"),
    ("post_attention_residual_scale post_mlp_residual_scale", ANY, SEALED, Other, "residual_scale"),
    ("ple per_layer_embedding", ANY, SEALED, Embedding, "per_layer"),
    ("bottleneck", LAYER, SEALED, Other, "bottleneck"),
    ("ada_rms_norm", LAYER, SEALED, Norm, ""),

    ("mamba mamba2 linear_attn mlstm_layer slstm_layer rg_lru time_mixing att time_mix delta_net \
      gated_delta_net kda lightning_attn short_conv shortconv recurrent_block ssm xlstm",
        OUTSIDE | MIXER, SSM, StateSpace, ""),
    // RecurrentGemma calls its recurrent blocks and its attention alike too.
    ("mixer temporal_block", OUTSIDE, MIXER, StateSpace, ""),
    ("cross_attn crossattention encoder_attn cross_attention EncDecAttention cross_attn_layers inter_attention \
      encoder_decoder_attention multihead_cross_attn", OUTSIDE, CROSS, Attention, ""),
    ("self_attn attn attention self_attention self_att SelfAttention LocalSelfAttention TransientGlobalSelfAttention \
      multi_head_attention rel_attn attentions attn1 mha self_attention_block attn_block",
        OUTSIDE, SELF, Attention, ""),

    ("experts local_experts moe_experts deepspeed_experts", ANY, MOE, Experts, ""),
    ("shared_expert shared_experts share_expert shared_mlp shared_moe", ANY, SHARED, SharedExperts, ""),
    ("mlp mlps feed_forward ffn ffns ff DenseReluDense mlp_block feedforward block_sparse_moe moe residual_mlp \
      channel_mix channel_mixing feed_forward_block ffn_block mlp_only",
        OUTSIDE | MIXER, DENSE, FeedForward, ""),
];

/// Words after which a number is that of a layer.
pub(super) const LAYERS: &str = "layers layer h blk blocks block resblocks encoders layer_groups albert_layer_groups \
                                 transformer_layers decoder_layers encoder_layers mtp_layers gated_cross_attn_layers";
/// More of these, which open another place than a layer.
pub(super) const LAYERS_ELSEWHERE: &str = "attentions ffns layer_norm1 layer_norm2 mtp cross_attn_layers";

/// Words after which a number is that of an expert.
pub(super) const EXPERTS: &str = "experts local_experts moe_experts deepspeed_experts ffn_gate ffn_up ffn_down";

/// A row of [`PARTS`]: keys, where they count, what they are.
pub(super) type PartRow = (&'static str, Places, Role, &'static str);

/// Words that name a part. In [`MOE`] feed-forward parts belong to the experts, in [`SHARED`] to the shared ones, in
/// [`SSM`] attention parts to the recurrent mixer.
#[rustfmt::skip]
pub(super) const PARTS: &[PartRow] = &[
    // Embeddings
    ("embed_tokens wte tok_embeddings token_embd word_embeddings word_embedding embed_in tokens_embed token_embedding \
      input_embedding embed_token tok_embd emb", ANY, Embedding, "tokens"),
    ("shared", TOP, Embedding, "tokens"),
    ("transformer.embeddings backbone.embeddings rwkv.embeddings model.embeddings llm.embed transformer.w \
      decoder.embed", ANY, Embedding, "tokens"),
    ("wpe position_embeddings position_embedding embed_positions positions_embed position_embd pos_embed pos_emb \
      positional_embedding positional_embeddings position_embed learned_pos_embedding x_position_embeddings \
      y_position_embeddings h_position_embeddings w_position_embeddings pos_encoder",
        OUTSIDE, Embedding, "positions"),
    ("token_type_embeddings token_types segment_embedding token_type_embedding tokentype_embeddings \
      token_type_embeddings_0", OUTSIDE, Embedding, "token_types"),
    ("embed_tokens_per_layer per_layer_token_embd", ANY, Embedding, "per_layer"),
    ("per_layer_model_projection per_layer_model_proj", ANY, Embedding, "per_layer_projection"),
    ("per_layer_projection per_layer_proj", LAYER, Embedding, "per_layer_projection"),
    ("per_layer_input_gate per_layer_inp_gate inp_gate", LAYER, Embedding, "per_layer_gate"),
    ("blk.#.proj", ANY, Embedding, "per_layer_projection"),
    ("ple_conv1d ple_key ple_value", ANY, Embedding, "per_layer"),
    ("encoder_hash_tok_embedding", ANY, Embedding, "hashes"),
    ("embeddings_project embedding_hidden_mapping_in project_in embedding_projection patch_embedding_projection",
        OUTSIDE, Embedding, "projection"),
    ("ngram_embeddings mask_emb eoi_embedding value_embeddings entity_embeddings embed_global", ANY, Embedding, ""),

    // Head
    ("output cls.output decoder.weight decoder.bias", TOP | HEAD, Head, ""),
    ("final_logits_bias project_out", TOP, Head, ""),
    ("head shared_head_head nextn.shared_head_head", LAYER, Head, ""),
    ("lm_head output_projection", ANY, Head, ""),
    // Zamba, and the first release of phi-2, whose last layer is its head.
    ("model.layers.#.linear", ANY, Other, "shared_block_output"),
    ("layers.#.linear", ANY, Head, ""),

    // Next-token prediction
    ("eh_proj input_proj", LAYER, Other, "next_token_projection"),

    // Router. The gate of the shared expert scales that expert, so it counts with it.
    ("shared_expert_gate ffn_gate_inp_shexp", ANY, SharedExperts, "shared_gate"),
    ("ffn_gate_inp moe_gate", ANY, Router, "router"),
    ("e_score_correction_bias exp_probs_b exp_probs_b_vl expert_bias moe_statics balancing_biases correction_bias router_bias \
      ffn.gate.bias", FFN | LAYER | MIXER | SEALED, Router, "correction_bias"),
    ("tid2eid ffn_gate_tid2eid", ANY | SEALED, Router, "token_to_expert"),

    // Experts, where the word says so by itself
    ("ffn_gate_exps ffn_gate.#", ANY, Experts, "gate"),
    ("ffn_up_exps ffn_up.#", ANY, Experts, "up"),
    ("ffn_down_exps ffn_down.#", ANY, Experts, "down"),
    ("ffn_gate_up_exps", ANY, Experts, "fused_gate_up"),
    ("ffn_gate_chexps", ANY, Experts, "chunk_gate"),
    ("ffn_up_chexps", ANY, Experts, "chunk_up"),
    ("ffn_down_chexps", ANY, Experts, "chunk_down"),
    ("ffn_routed_down ffn_latent_down", ANY, Experts, "latent_down"),
    ("ffn_routed_up ffn_latent_up", ANY, Experts, "latent_up"),
    ("ffn_gate_shexp", ANY, SharedExperts, "gate"),
    ("ffn_up_shexp", ANY, SharedExperts, "up"),
    ("ffn_down_shexp", ANY, SharedExperts, "down"),
    // GraniteMoE and JetMoE stack their experts under the name of the block.
    ("experts.fc1 w13", MOE, FeedForward, "fused_gate_up"),
    ("block_sparse_moe.input_linear mlp.input_linear", FFN, Experts, "fused_gate_up"),
    ("block_sparse_moe.output_linear mlp.output_linear moe.down_proj", FFN, Experts, "down"),
    ("moe.gate_proj", FFN, Experts, "gate"),
    ("moe.up_proj", FFN, Experts, "up"),

    // Feed-forward
    // The first Qwen gates with w2 and goes down with c_proj.
    ("h.#.mlp.w1", FFN, FeedForward, "up"),
    ("h.#.mlp.w2", FFN, FeedForward, "gate"),
    ("gate_up_proj up_gate_proj gate_up proj_up_gate Wi input_linear w12 gate_and_up_proj wi_fused linear_fc1_gated \
      gate_up_proj_blocks", FFN | LAYER | MIXER, FeedForward, "fused_gate_up"),
    ("gate_proj ffn_gate w1 wi_0 linear_gate gate_projection gated_layer", FFN, FeedForward, "gate"),
    ("gate_proj ffn_gate w1", LAYER | MIXER, FeedForward, "gate"),
    ("up_proj proj_up c_fc fc1 fc_in lin1 linear1 dense_h_to_4h w3 v1 wi wi_1 fc11 linear_fc1 \
      up_projection intermediate_dense dense_1", FFN | LAYER | MIXER, FeedForward, "up"),
    ("ffn_up", ANY, FeedForward, "up"),
    ("fc12", FFN, FeedForward, "gate"),
    // LitGPT.
    ("fc_1", FFN, FeedForward, "gate"),
    ("fc_2 fc", FFN, FeedForward, "up"),
    ("down_proj proj_down fc2 fc_out lin2 linear2 dense_4h_to_h w2 linear_fc2 output_linear \
      down_projection output_dense dense_2", FFN | LAYER | MIXER, FeedForward, "down"),
    ("ffn_down ffn_output", ANY, FeedForward, "down"),
    ("c_proj wo Wo w_out proj out_proj o_proj", FFN, FeedForward, "down"),
    ("linear_2 linear_out", FFN, FeedForward, "down"),
    ("linear_1 linear_in w_in w_0 w_1 w_in_0", FFN, FeedForward, "up"),
    ("key", FFN, FeedForward, "up"),
    ("value", FFN, FeedForward, "down"),
    ("receptance", FFN, FeedForward, "gate"),
    ("time_mix_key time_mix_receptance time_maa_k time_maa_r x_k x_r mu_k", FFN, FeedForward, "token_shift"),
    ("albert_layers.#.ffn", ANY, FeedForward, "up"),
    ("layer_1", FFN, FeedForward, "up"),
    ("layer_2", FFN, FeedForward, "down"),
    ("channel_mix_key", ANY, FeedForward, "up"),
    ("channel_mix_value", ANY, FeedForward, "down"),
    ("channel_mix_receptance", ANY, FeedForward, "gate"),
    ("channel_mix_lerp_k channel_mix_lerp_r", ANY, FeedForward, "token_shift"),
    ("act act_fn", FFN, FeedForward, "activation"),
    ("intermediate", LAYER | DENSE, FeedForward, "up"),
    // BERT keeps the second half of its feed-forward outside any block: `layer.N.output.dense`.
    ("output", LAYER | DENSE, FeedForward, "down"),
    ("vis_gate", ANY, FeedForward, "vision_expert_gate"),
    ("vis_up", ANY, FeedForward, "vision_expert_up"),
    ("vis_down", ANY, FeedForward, "vision_expert_down"),
    ("vision_mlp", ANY, FeedForward, "vision_expert"),

    // Recurrent mixers
    ("conv.in_proj", LAYER, StateSpace, "input"),
    ("conv.conv", LAYER, StateSpace, "convolution"),
    ("conv.out_proj", LAYER, StateSpace, "output"),
    ("conv", SSM, StateSpace, "convolution"),
    ("in_proj in_proj_qkvz in_proj_qkv", SSM | MIXER, StateSpace, "input"),
    ("in_proj_z", SSM | MIXER, StateSpace, "gate"),
    ("linear_x linear_y", SSM | MIXER, StateSpace, "input"),
    ("out_proj linear_out output", SSM | MIXER, StateSpace, "output"),
    ("conv1d conv_1d", SSM | MIXER, StateSpace, "convolution"),
    ("q_conv1d k_conv1d v_conv1d ssm_conv1d_q ssm_conv1d_k ssm_conv1d_v", ANY, StateSpace, "convolution"),
    ("x_proj bcdt_proj", SSM | MIXER, StateSpace, "x"),
    ("dt_proj dt_bias", SSM | MIXER, StateSpace, "dt"),
    ("A_log ssm_a", ANY, StateSpace, "decay"),
    ("dt_bias", ATTN, StateSpace, "dt"),
    ("D", SSM | MIXER, StateSpace, "skip"),
    ("in_proj_a in_proj_b in_proj_ba a_proj b_proj", SSM | MIXER, StateSpace, "beta_alpha"),
    ("ssm_ba ssm_beta ssm_alpha", ANY, StateSpace, "beta_alpha"),
    ("ssm_in", ANY, StateSpace, "input"),
    ("ssm_out", ANY, StateSpace, "output"),
    ("ssm_conv1d", ANY, StateSpace, "convolution"),
    ("ssm_x", ANY, StateSpace, "x"),
    ("ssm_dt", ANY, StateSpace, "dt"),
    ("ssm_d", ANY, StateSpace, "skip"),
    ("b_proj", ATTN, StateSpace, "beta_alpha"),
    ("f_a_proj f_b_proj f_proj ssm_f_a ssm_f_b ssm_f", ANY, StateSpace, "forget"),
    ("g_proj g_a_proj g_b_proj", SSM | MIXER, StateSpace, "gate"),
    ("ssm_g ssm_g_a ssm_g_b", ANY, StateSpace, "gate"),
    ("igate_preact fgate_preact ogate_preact igate fgate ogate", SSM, StateSpace, "gate"),
    ("input_gate_weight input_gate_bias recurrent_gate_weight recurrent_gate_bias input_gate recurrent_gate",
        SSM, StateSpace, "gate"),
    ("recurrent_param", SSM, StateSpace, "decay"),
    ("slope_rate query_decay key_decay diagonal_decay g_gamma", ANY, StateSpace, "decay"),
    ("time_decay time_first time_faaaa time_decay_w1 time_decay_w2 w_lora w0", ATTN | SSM, StateSpace, "decay"),
    ("time_mix_key time_mix_value time_mix_receptance time_mix_gate time_maa_x time_maa_w time_maa_k time_maa_v \
      time_maa_r time_maa_g time_maa_w1 time_maa_w2 x_r x_w x_k x_v x_a x_g", ATTN | SSM, StateSpace, "token_shift"),
    ("time_mix_first time_mix_decay time_mix_decay_w1 time_mix_decay_w2 time_mix_w0 time_mix_w1 time_mix_w2",
        ANY, StateSpace, "decay"),
    ("time_mix_lerp_x time_mix_lerp_w time_mix_lerp_k time_mix_lerp_v time_mix_lerp_r time_mix_lerp_g \
      time_mix_lerp_fused", ANY, StateSpace, "token_shift"),
    ("time_mix_receptance", LAYER, StateSpace, "receptance"),
    ("time_mix_key", LAYER, StateSpace, "key"),
    ("time_mix_value", LAYER, StateSpace, "value"),
    ("time_mix_gate time_mix_g1 time_mix_g2", LAYER, StateSpace, "gate"),
    ("time_mix_output", LAYER, StateSpace, "output"),
    ("time_mix_a0 time_mix_a1 time_mix_a2 time_mix_v0 time_mix_v1 time_mix_v2 time_mix_k_k time_mix_k_a time_mix_r_k",
        LAYER, StateSpace, ""),
    ("time_mix_ln", LAYER, Norm, "recurrent_norm"),
    ("receptance", ATTN | SSM, StateSpace, "receptance"),
    ("a_lora g_lora v_lora k_k k_a r_k", ATTN, StateSpace, ""),

    // Attention
    ("q_a_proj wq_a attn_q_a q_down_proj linear_q_down_proj", ANY, Attention, "query_latent_down"),
    ("q_b_proj wq_b attn_q_b q_up_proj linear_q_up_proj", ANY, Attention, "query_latent_up"),
    ("kv_a_proj_with_mqa wkv_a attn_kv_a_mqa wkv_a_with_mqa kv_a_proj linear_kv_down_proj",
        ANY, Attention, "kv_latent_down"),
    ("kv_b_proj wkv_b attn_kv_b linear_kv_up_proj", ANY, Attention, "kv_latent_up"),
    ("attn_k_b", ANY, Attention, "key_latent_up"),
    ("attn_v_b", ANY, Attention, "value_latent_up"),
    ("attn_output_a", ANY, Attention, "output_down"),
    ("attn_output_b", ANY, Attention, "output_up"),
    ("wo_a", ATTN, Attention, "output_down"),
    ("wo_b", ATTN, Attention, "output_up"),
    ("qkv_proj Wqkv query_key_value c_attn attn_qkv linear_qkv qkv wqkv W_pack att_proj to_qkv qkv_projection gqkv_proj \
      fused_qkv", ANY, Attention, "fused_qkv"),
    ("in_proj", ATTN, Attention, "fused_qkv"),
    ("kv_proj attn_kv wkv to_kv linear_kv", ANY, Attention, "fused_kv"),
    ("q_proj query_proj q_lin wq Wq to_q q_head project_q attn_q linear_q query_global q_attn wq_du linear_proj_q \
      query_key", ANY, Attention, "query"),
    ("k_proj key_proj k_lin wk Wk to_k k_head project_k attn_k linear_k key_global wk_dv linear_proj_k",
        ANY, Attention, "key"),
    ("v_proj value_proj v_lin wv Wv to_v v_head project_v attn_v linear_v value_global wv_dv linear_proj_v \
      v_proj_current v_proj_delayed", ANY, Attention, "value"),
    ("cross_attn_q", ANY, Attention, "cross_query"),
    ("cross_attn_k", ANY, Attention, "cross_key"),
    ("cross_attn_v", ANY, Attention, "cross_value"),
    ("cross_attn_o", ANY, Attention, "cross_output"),
    ("cross_attn_rel_b", ANY, Attention, "cross_relative_position"),
    ("query q e2e_query e2w_query w2e_query q_bias", ATTN | SSM, Attention, "query"),
    ("key k", ATTN | SSM, Attention, "key"),
    ("value v v_bias", ATTN | SSM, Attention, "value"),
    ("o_proj out_lin attn_output attn_o to_out attention_out post_proj attn_out linear_proj wo_ud", ANY, Attention, "output"),
    ("out_proj wo Wo dense proj c_proj o output output_proj out output_projection", ATTN, Attention, "output"),
    ("post_attention", LAYER, Attention, "output"),
    ("o output", SSM, StateSpace, "output"),
    ("gate_proj g_proj g_a_proj g_b_proj output_gate linear_gate gate gate_attn gate_bias", ATTN, Attention, "gate"),
    ("attn_gate cross_attn_attn_gate alpha_cross_attn", ANY, Attention, "gate"),
    ("cross_attn_mlp_gate alpha_dense", ANY, FeedForward, "gate_scale"),
    ("sinks attn_sinks attn_sink attention_sink_bias learnable_sink_param attn_sink_proj softmax_offset",
        ANY, Attention, "sinks"),
    ("relative_attention_bias attn_rel_b rel_pos_h rel_pos_w relative_pos_embeddings rel_logits_proj r_proj wr_du r \
      r_kernel rel_pos_emb relative_position_bias_table pos_bias_u pos_bias_v linear_pos r_r_bias r_s_bias r_w_bias",
        ANY, Attention, "relative_position"),
    ("lambda_q1 lambda_q2 lambda_k1 lambda_k2", ATTN, Attention, "differential"),
    ("k_sconv v_sconv conv_qk_depthwise conv_qk_grouped", ATTN, Attention, "convolution"),
    ("attn_compressor_ape attn_compressor_gate attn_compressor_kv", ANY, Attention, "compressor"),
    ("indexer_compressor_ape indexer_compressor_gate indexer_compressor_kv", ANY, Attention, "indexer"),
    ("vis_attn_qkv vision_expert_query_key_value", ANY, Attention, "vision_expert_fused_qkv"),
    ("vis_attn_output vision_expert_dense", ANY, Attention, "vision_expert_output"),

    // Small things between the blocks
    ("attn_sconv", LAYER, Attention, "convolution"),
    ("mlp_sconv", LAYER, FeedForward, "convolution"),
    ("hc_attn_base hc_attn_fn hc_attn_scale hc_attn_down hc_attn_up hc_attn_inject hc_ffn_base hc_ffn_fn hc_ffn_scale \
      hc_ffn_down hc_ffn_up hc_ffn_inject output_hc_base output_hc_fn output_hc_scale output_hc_down output_hc_up",
        ANY, Other, "hyper_connection"),
    ("attn_res_score ffn_res_score output_res_score", ANY, Other, "attention_residual"),
    ("layer_scalar layer_output_scale input_hidden_states_scale input_hidden_states_bias input_residual \
      post_attention_residual lambdas", ANY, Other, "residual_scale"),
    ("z_L_init z_l_init", ANY, Other, "initial_state"),
    ("altup_projections altup_unembed_projections altup_proj altup_unembd_proj altup_correct_coef altup_correct_scale \
      altup_predict_coef altup_router", ANY, Other, "altup"),
    ("laurel_l laurel_r", ANY, Other, "laurel"),
    ("encoder.conv1 encoder.conv2", TOP, Audio, "convolution"),

    // Norms that have a place of their own in the layer; any other word that says `norm` or `ln` is one without.
    ("input_layernorm attention_norm attn_norm ln_1 ln1 norm_1 norm1 ln_attn attention_layernorm attention_layer_norm \
      operator_norm temporal_pre_norm pre_self_attn_layernorm layer_norm1 norm_mlstm attn_norm_1", LAYER, Norm, "input_norm"),
    ("self_attn_layer_norm sa_layer_norm post_self_attn_layernorm", LAYER, Norm, "attention_norm"),
    ("post_attention_layernorm post_attention_norm post_attn_norm", LAYER, Norm, "post_attention_norm"),
    ("ffn_norm ln_2 ln2 norm_2 norm2 ln_mlp final_layer_norm feedforward_layernorm feedforward_layer_norm \
      pre_feedforward_layernorm pre_ff_layernorm pre_mlp_layernorm channel_pre_norm layer_norm2 mlp_norm norm_ffn \
      feed_forward_layer_norm ffn_layer_norm ff_layer_norm", LAYER, Norm, "ffn_norm"),
    ("post_feedforward_layernorm post_ffw_norm post_mlp_layernorm post_ffn_norm", LAYER, Norm, "post_ffn_norm"),
    ("encoder_attn_layer_norm cross_attn_layer_norm cross_attention_layer_norm cross_attn_norm", LAYER, Norm, "cross_attention_norm"),
    ("q_norm q_layernorm query_layernorm attn_q_norm norm_q q_layer_norm q_ln", ANY, Norm, "query_norm"),
    ("k_norm k_layernorm key_layernorm attn_k_norm norm_k k_layer_norm k_ln", ANY, Norm, "key_norm"),
    ("q_a_layernorm q_a_norm attn_q_a_norm", ANY, Norm, "query_latent_norm"),
    ("kv_a_layernorm kv_a_norm attn_kv_a_norm kv_norm", ANY, Norm, "kv_latent_norm"),
    ("ssm_norm ssm_b_norm ssm_c_norm ssm_dt_norm b_layernorm c_layernorm dt_layernorm multihead_norm o_norm",
        ANY, Norm, "recurrent_norm"),
    ("norm ln_x", SSM | MIXER, Norm, "recurrent_norm"),
    ("token_embd_norm word_embeddings_layernorm layernorm_embedding embed_norm emb_ln embeddings_layer_norm ln0 pre_ln \
      layer_norm_emb", ANY, Norm, "embedding_norm"),
    ("LayerNorm norm layer_norm", EMBED, Norm, "embedding_norm"),
    ("norm ln_f ln_out norm_f final_layernorm final_layer_norm final_norm output_norm out_norm layer_norm \
      layernorm", TOP, Norm, "final_norm"),
    // LFM2 calls its last norm by where it used to stand.
    ("embedding_norm", TOP, Norm, "final_norm"),
    ("enorm hnorm token_layernorm hidden_layernorm nextn.enorm nextn.hnorm", LAYER, Norm, "next_token_norm"),
];

/// Tables and counters that are no learned numbers, with the role under which their bytes are shown.
#[rustfmt::skip]
pub(super) const BUFFERS: &[PartRow] = &[
    ("inv_freq original_inv_freq cos_cached sin_cached freqs_cis rope_freqs rope_factors_long rope_factors_short \
      rope_long rope_short rope_cos rope_sin", ANY, Attention, "rotary_frequencies"),
    // In GPT-2, GPT-Neo and GPT-J the mask is registered as `bias` on the block itself, which has no bias of its own.
    ("attn.bias attention.bias attn.masked_bias attention.masked_bias masked_bias causal_mask attn_mask attention_mask",
        ANY, Attention, "causal_mask"),
    ("relative_position_index", ANY, Attention, "position_ids"),
    ("position_ids token_type_ids", ANY, Embedding, "position_ids"),
    ("num_batches_tracked", ANY, Norm, "counter"),
];

/// What stands apart from the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tower {
    /// A tower or connector: all that it holds has its role.
    Of(Role),
    /// Another kind of model (diffusion, protein encoders): nothing is said about its parts.
    Foreign,
    /// Optimizer state and moving averages.
    Training,
}

/// Words that open a tower, and whether only as the first of several words. The last such word in a name wins, since
/// connectors live within towers; [`ADAPTERS`] and training words win over all.
#[rustfmt::skip]
pub(super) const TOWERS: &[(&str, bool, Tower)] = &[
    ("visual vision_tower vision_model vision_encoder vision_backbone vpm vison vit image_encoder img_processor image_embed \
      sam_model vqmodel image_tower video_tower vision_embed_tokens vision_embedder visual_embeddings_table image_newline \
      view_seperator view_separator qwen2_model vision_head generation_embeddings generation_head vision_adapter \
      image_model clip_model visual_model visual_encoder vision video_model vision_tower_aux eva \
      patch_embeddings pixel_embed siglip patch_embed vae_encoder embed_patches cell_2d_embedding",
        false, Tower::Of(Vision)),
    ("v", true, Tower::Of(Vision)),
    ("audio_tower audio_embed audio_encoder audio_model speech_encoder speech_tower audio_backbone whisper \
      wav2vec2 hubert wavlm audio_vq codec_model", false, Tower::Of(Audio)),
    ("a", true, Tower::Of(Audio)),
    ("multi_modal_projector mm_projector multimodal_projector merger merger_list deepstack_merger_list deepstack_mergers \
      connector modality_projection aligner generation_aligner resampler perceiver_resampler qformer language_projection \
      image_to_text_projection embed_vision embed_audio projector vision_language_adapter patch_merger mlp_AR \
      query_tokens visual_projection img_projection_down img_projection_up img_projection text_projection \
      audio_projection audio_projector speech_projector vision_projector vision_projection vision_proj text_proj \
      visual_proj gene_projector gene_qformer patch_merge_mlp \
      vit_large_projector pre_mm_projector_norm down_proj_for_speech up_proj_for_speech down_proj_for_vision_speech \
      up_proj_for_vision_speech perceiver perceive abstractor vision_resampler proj_out_mm image_projection \
      language_model_projection multi_modal_embed speech_projection modality_projector",
        false, Tower::Of(Projector)),
    ("mm projection mlp1", true, Tower::Of(Projector)),
    ("protein_encoder nicheformer sequence_compressor_resampler down_blocks up_blocks mid_block time_embedding \
      input_blocks output_blocks middle_block first_stage_model cond_stage_model diffusion_model transformer_blocks \
      single_transformer_blocks double_blocks single_blocks joint_blocks conditioner time_text_embed", false, Tower::Foreign),
    ("optimizer optimizer_state optimizer_states optimizer_state_dict exp_avg exp_avg_sq max_exp_avg_sq momentum_buffer ema \
      model_ema ema_model ema_state_dict lr_schedulers lr_scheduler rng_state fp32_from_fp16_groups grad_scaler \
      amp_scaler base_optimizer_state fp32_flat_groups", false, Tower::Training),
];

/// Words of adapters: PEFT, llama.cpp, kohya, LyCORIS.
pub(super) const ADAPTERS: &str = "lora_A lora_B lora_a lora_b lora_down lora_up lora_mid lora_embedding_A \
    lora_embedding_B lora_magnitude_vector lora_E lora_ranknum dora_scale hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1 \
    hada_t2 lokr_w1 lokr_w2 lokr_w1_a lokr_w1_b lokr_w2_a lokr_w2_b lokr_t2 oft_blocks oft_diag oft_r oft_R vera_lambda_b \
    vera_lambda_d vera_A vera_B ia3_l prompt_embeddings prompt_encoder prompt_tokens adapter_modules adapter_layer \
    gate_up_proj_adapter_list lora_linear_layer to_q_lora to_k_lora to_v_lora to_out_lora adaption_prompt adaption_gate \
    boft_R boft_s loha_w1_a loha_w1_b loha_w2_a loha_w2_b fourierft_spectrum adapters lora_a_scales";

/// Words that say something about the whole layer or block in which they stand; see [`super::parse_all`].
#[rustfmt::skip]
pub(super) const HINTS: &[(&str, Places, Hint)] = &[
    ("A_log dt_bias q_conv1d k_conv1d v_conv1d f_a_proj f_proj slope_rate g_gamma time_decay time_first time_faaaa receptance \
      time_maa_x w_lora x_w", ATTN, Hint::Recurrent),
    ("ssm_beta ssm_ba ssm_alpha ssm_conv1d_q ssm_f_a ssm_f", LAYER, Hint::Recurrent),
    ("Wqkv", MIXER, Hint::Attending),
    ("eh_proj enorm hnorm nextn", LAYER, Hint::NextToken),
];

/// Words of stacks other than the main one.
pub(super) const ENCODERS: &str = "encoder enc text_encoder text_encoders";
/// Words of decoders, which end the search for an encoder.
pub(super) const DECODERS: &str = "decoder dec text_decoder";
/// Words of stacks of next-token-prediction layers.
pub(super) const NEXT_TOKEN: &str = "mtp mtp_layers mtp_block mtp_module mtp_model nextn";

/// Endings of a word that name the tensor within a module and not the module: `in_proj_weight`, `down_proj_blocks`.
pub(super) const TAILS: &[&str] =
    &["_weight", "_bias", "_blocks", "_scales", "_scale", "_scale_inv", "_packed", "_qweight"];
