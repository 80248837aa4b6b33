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
    ("mimo", "a whole next-token layer that its class leaves out: as many rows as the other layers share"),
    ("mvp", "the prompts of the original, which transformers does not build"),
    ("t5", "the shared embedding stored again, and a table of the first checkpoints, beside few rows"),
    ("udop", "as T5"),
];

/// What the names in a header settle (`held`) is not optional: a check misses it where it is not there.
#[test]
fn few_rows_are_optional_and_each_has_its_reason() {
    let atlas = Atlas::new();
    let mut many = BTreeSet::new();
    for name in atlas.names() {
        let family = atlas.family(name).unwrap();
        let rows: Vec<_> = family.part.values().flat_map(|part| &part.rows).collect();
        for reason in rows.iter().filter_map(|row| row.more.may_lack()) {
            assert!(reason.len() >= 8, "{name}: {reason:?} is no reason");
        }
        if rows.iter().any(|row| row.more.held.is_some()) {
            assert!(name.starts_with("gguf/"), "{name}: only headers of GGUF files settle rows");
        }
        let optional = rows.iter().filter(|row| row.more.optional.is_some()).count();
        if optional * 20 > rows.len() {
            many.insert(name.to_string());
        }
    }
    let known: BTreeSet<String> = MANY_OPTIONAL.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(many, known, "families with more than 5 % of optional rows");
}

#[test]
fn of_a_real_model_few_tensors_are_optional() {
    let atlas = Atlas::new();
    let all: Vec<_> = cases().into_iter().filter(|case| ["real", "full"].contains(&case.set)).collect();
    assert!(all.len() >= 300);
    let many: Vec<String> = all
        .par_iter()
        .filter_map(|case| Some((case.id(), atlas.blueprint(&case.config).ok()?)))
        .filter_map(|(id, blueprint)| {
            let all: usize = blueprint.tensors.iter().map(|row| row.count).sum();
            let optional = all - blueprint.count();
            (optional * 20 > all).then(|| format!("{id}: {optional} of {all}"))
        })
        .collect();
    assert!(many.is_empty(), "{}", many.join("\n"));
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
