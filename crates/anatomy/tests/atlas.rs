//! Rules that every family of the atlas keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[allow(dead_code, reason = "totals are for another test")]
mod blueprints;

use std::collections::BTreeSet;

use anatomy::atlas::Atlas;
use anatomy::names;
use blueprints::cases;
use rayon::prelude::*;

/// Families of which more than 5 % of the rows are optional, with the reason.
const MANY_OPTIONAL: &[(&str, &str)] = &[
    ("longt5", "checkpoints store the shared embedding up to three times"),
    ("m2m_100", "checkpoints store the shared embedding up to three times"),
    ("marian", "checkpoints store the shared embedding up to three times"),
    ("mimo", "a whole next-token layer that its class leaves out"),
    ("mistral_params", "one old table in a file of few rows"),
    ("mt5", "checkpoints store the shared embedding up to three times"),
    ("mvp", "the prompts of the original, which transformers does not build"),
    ("pegasus_x", "checkpoints store the shared embedding up to three times"),
    ("switch_transformers", "checkpoints store the shared embedding up to three times"),
    ("t5", "checkpoints store the shared embedding up to three times"),
    ("udop", "checkpoints store the shared embedding up to three times"),
    ("umt5", "checkpoints store the shared embedding up to three times"),
];

/// What llama.cpp writes is left out: a GGUF's metadata do not say which biases it has, but its header does, which
/// settles those rows.
#[test]
fn few_rows_are_optional_and_each_has_its_reason() {
    let atlas = Atlas::new();
    let mut many = BTreeSet::new();
    for name in atlas.names() {
        let family = atlas.family(name).unwrap();
        let rows: Vec<_> = family.part.values().flat_map(|part| &part.rows).collect();
        let reasons: Vec<&String> = rows.iter().filter_map(|row| row.more.optional.as_ref()).collect();
        for reason in &reasons {
            assert!(reason.len() >= 8, "{name}: {reason:?} is no reason");
        }
        if reasons.len() * 20 > rows.len() && !name.starts_with("gguf/") {
            many.insert(name.to_string());
        }
    }
    let known: BTreeSet<String> = MANY_OPTIONAL.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(many, known, "families with more than 5 % of optional rows");
}

/// Where the tables know from the class what no name says by itself: how a line of the test begins, and why.
const ROLES_DIFFER: &[(&str, &str)] = &[
    ("cosmos3_omni: ", "the tower is stored without a word that says so"),
    ("evolla: model.", "the reader of proteins has words of its own"),
    ("granite_speech: encoder.", "the tower is stored as any encoder would be"),
    ("granite_speech_plus: encoder.", "the tower is stored as any encoder would be"),
    ("hrm_text: model.z_L_init", "a learned beginning"),
    ("hunyuan_vl: vit.perceive.image_newline", "the connector is inside of the tower"),
    ("janus: model.generation_", "from and to image tokens, between the tower and the model"),
    ("jetmoe: ", "queries are experts of their own, and a bias is shared by all"),
    ("kosmos-2.5: text_model.model.segment_emb.weight", "an embedding in a word of its own"),
    ("llama4: vision_model.vision_adapter.", "the connector is inside of the tower"),
    ("mistral_large4: lerope.alpha", "a factor of positions"),
    ("opt: model.decoder.project_out.weight", "between the embedding and a wider body, and back"),
    ("ovis2: model.vis", "the connector is inside of the tower"),
    ("pi0: ", "a second model for actions, with words of its own"),
    ("pix2struct: encoder.", "the encoder sees, in names that any encoder has"),
    ("qwen2_5_omni_thinker: audio_tower.proj.", "the connector is inside of the tower"),
    ("qwen3_omni_moe_thinker: audio_tower.proj", "the connector is inside of the tower"),
    ("udop: encoder.cell_*d_embedding.", "an embedding of places on a page"),
    ("unlimited_ocr: model.", "the connector is inside of the tower"),
    ("vision-encoder-decoder: encoder.", "the encoder sees, in names that any encoder has"),
    ("whisper: ", "the encoder hears, in names that any encoder has"),
    ("zamba: model.layers.*.linear.weight", "it leads from the shared block back to the layer"),
    ("zamba2: model.layers.*.linear.weight", "it leads from the shared block back to the layer"),
    (
        "zamba2: model.layers.*.shared_transformer.feed_forward.gate_up_proj_adapter_list",
        "part of the model, not added to it",
    ),
    ("zaya: model.layers.*.mlp.gate.router_mlp.norm.weight", "a norm inside of the router"),
];

#[test]
fn tables_and_the_grammar_of_names_say_the_same_roles() {
    let atlas = Atlas::new();
    let sets = ["tiny", "flags", "real"];
    let all: Vec<_> = cases().into_iter().filter(|case| sets.contains(&case.set)).collect();
    let wrong: BTreeSet<String> = all
        .par_iter()
        .filter_map(|case| atlas.blueprint(&case.config).ok())
        .flat_map_iter(|blueprint| {
            let rows: Vec<_> = blueprint.tensors.iter().map(|row| (row.name(0), row.role, row.buffer)).collect();
            let parts = names::parse_all(rows.iter().map(|(name, ..)| name.as_str()));
            let differ = rows.into_iter().zip(parts).filter(|((_, role, _), part)| *role != part.role);
            let lines = differ.map(|((name, role, _), part)| {
                let bare: String = name.chars().map(|c| if c.is_ascii_digit() { '*' } else { c }).collect();
                format!(
                    "{}: {bare} is {} in the table, {} by its name",
                    blueprint.family,
                    role.as_str(),
                    part.role.as_str()
                )
            });
            lines.collect::<Vec<_>>()
        })
        .collect();
    let known = |line: &str| ROLES_DIFFER.iter().any(|(start, _)| line.starts_with(start));
    for (start, _) in ROLES_DIFFER {
        assert!(wrong.iter().any(|line| line.starts_with(start)), "{start} agrees after all");
    }
    let wrong: Vec<&String> = wrong.iter().filter(|line| !known(line)).collect();
    let shown: Vec<&str> = wrong.iter().map(|line| line.as_str()).take(60).collect();
    assert!(wrong.is_empty(), "{} names:\n{}", wrong.len(), shown.join("\n"));
}
