//! What a model is built of: the part of the text that a file and a configuration have in common.

use std::fmt::Write;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::page::{INDENT, Page};
use super::style::{BOLD, CYAN, DIM, bar, paint};
use super::units::{bytes, count, parameters, percent, safe, thousands, three_digits};
use crate::architecture::Architecture;
use crate::architecture::Witness;
use crate::cache::KvCache;
use crate::explain::rope;
use crate::explain::rope::Rope;
use crate::explain::sharing::{self, Sharing};
use crate::known::{self, Known};
use crate::metadata::Metadata;
use crate::names::Role;

/// Learned numbers, in all and by role.
#[derive(Debug, Serialize)]
pub(super) struct Parameters {
    pub(super) total: u64,
    pub(super) active: Option<u64>,
    /// Of the total, numbers that are stored but not learned (rotary tables, masks, router biases).
    pub(super) buffers: u64,
    pub(super) by_role: ByRole,
    /// Shares of the total, as rules of thumb split it.
    pub(super) shares: Shares,
}

/// Shares of the total in the feed-forward networks (experts included), in attention, and in embedding and head.
#[derive(Debug, Serialize)]
pub(super) struct Shares {
    feed_forward: f64,
    attention: f64,
    embedding_and_head: f64,
}

impl Shares {
    fn of(by_role: &ByRole, total: u64) -> Self {
        let share = |roles: &[Role]| {
            let sum: u64 = by_role.0.iter().filter(|(role, _)| roles.contains(role)).map(|(_, n)| n).sum();
            if total == 0 { 0.0 } else { sum as f64 / total as f64 }
        };
        Shares {
            feed_forward: share(&[Role::FeedForward, Role::Experts, Role::SharedExperts, Role::Router]),
            attention: share(&[Role::Attention]),
            embedding_and_head: share(&[Role::Embedding, Role::Head]),
        }
    }
}

/// Parameters of each role, in the order of [`Role::ALL`].
#[derive(Debug)]
pub(super) struct ByRole(pub(super) Vec<(Role, u64)>);

impl Serialize for ByRole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (role, count) in &self.0 {
            map.serialize_entry(role.as_str(), count)?;
        }
        map.end()
    }
}

impl Parameters {
    pub(super) fn new(total: u64, active: Option<u64>, buffers: u64, by_role: ByRole) -> Self {
        let shares = Shares::of(&by_role, total);
        Parameters { total, active, buffers, by_role, shares }
    }

    /// The total, and a bar for each role.
    pub(super) fn text(&self, page: &mut Page) {
        let total = self.total;
        let mut line = paint(BOLD, parameters(total));
        if total >= 1_000_000 {
            let _ = write!(line, " ({})", thousands(total));
        }
        if let Some(active) = self.active.filter(|active| *active != total) {
            let _ = write!(line, ", {} at work for a token", parameters(active));
        }
        if self.buffers > 0 {
            let _ = write!(line, ", of them {} in buffers", thousands(self.buffers));
        }
        page.section("numbers", &line);
        let mut roles: Vec<_> = self.by_role.0.iter().filter(|(_, count)| *count > 0).collect();
        roles.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let cells = page.width.saturating_sub(INDENT + 16 + 10 + 10).clamp(8, 40);
        for (role, count) in &roles {
            let name = role.as_str().replace('_', "-");
            let bar = paint(CYAN, bar(*count as f64 / total as f64, cells));
            let share = percent(*count, total);
            page.row(&format!("{name:<15}{bar} {share:>9} {:>9}", parameters(*count)));
        }
        let Shares { feed_forward, attention, .. } = self.shares;
        if feed_forward > 0.0 && attention > 0.0 {
            let off = |own: f64, rule: f64| match own * 100.0 - rule {
                off if off.abs() < 1.0 => "as here".to_string(),
                off if off > 0.0 => format!("here {off:.0} points more"),
                off => format!("here {:.0} points less", -off),
            };
            let text = format!(
                "rule of thumb: feed-forward 65 % ({}), attention 28 % ({}); in truth Llama-3.1-8B has 70.2 %, 16.7 %, and \
                 13.1 % in embedding and head",
                off(feed_forward, 65.0),
                off(attention, 28.0)
            );
            page.more(&paint(DIM, "{}"), &text);
        }
    }
}

/// What the numbers of an architecture mean.
#[derive(Debug, Default, Serialize)]
pub(super) struct Meaning {
    /// A well-known model of the same shape.
    pub(super) known_model: Option<Known>,
    /// Rotary embedding, by kind of layer.
    pub(super) positions: Vec<Rope>,
    /// What shared keys and values save.
    pub(super) sharing: Option<Sharing>,
}

impl Meaning {
    pub(super) fn new(
        architecture: &mut Architecture,
        config: Option<&serde_json::Value>,
        gguf: Option<&Metadata>,
        tensors: &[Witness],
    ) -> Self {
        let positions = match (gguf, config) {
            (Some(metadata), _) => rope::of_gguf(metadata, architecture),
            (None, Some(config)) => rope::of_config(config, architecture),
            (None, None) => Vec::new(),
        };
        let main = positions.iter().find(|rope| rope.layers == "full_attention").or(positions.first());
        if let Some(main) = main.filter(|main| main.default_base) {
            architecture.settle_rope(main.base, main.dimension);
        }
        Meaning { known_model: known::find(architecture), positions, sharing: sharing::explain(architecture, tensors) }
    }

    /// Positions, sharing and the well-known model, in a few lines.
    pub(super) fn text(&self, page: &mut Page) {
        for rope in &self.positions {
            let of = if rope.layers == "all" { String::new() } else { format!("{}: ", safe(&rope.layers)) };
            let longest = rope.longest_wavelength.map_or("for ever".to_string(), tokens);
            let mut line = format!(
                "{of}{} pairs come round in {} to {longest} tokens",
                rope.pairs,
                three_digits(rope.shortest_wavelength)
            );
            if let (Some(turns), Some(context)) = (rope.full_turns, rope.trained_context.or(rope.claimed_context)) {
                let _ = write!(line, ", {turns} of them within {} of training", thousands(context));
            }
            page.more("{}", &line);
            let whose = if rope.default_base { " (the class's own, none is stated)" } else { "" };
            let base = number(rope.base);
            let suits = tokens(rope.base_suggests as f64);
            let mut line = format!("base {base}{whose} alone suits about {suits} tokens");
            if let (Some(scaled), Some(claimed)) = (rope.scaled_context, rope.claimed_context) {
                let _ = write!(line, "; scaled {}, claimed {}", thousands(scaled), thousands(claimed));
            }
            if let Some(factor) = rope.attention_factor {
                let _ = write!(line, "; sines and cosines times {factor:.3}");
            }
            page.more(&paint(DIM, "{}"), &line);
        }
        if let Some(Sharing { parameters: Some(own), parameters_full: Some(full), latent_layers, .. }) = &self.sharing
            && full > own
        {
            let what = if *latent_layers > 0 { "the latent" } else { "sharing heads" };
            let text = format!("{what} saves {} parameters as well", parameters(full - own));
            page.more("{}", &text);
        }
        if let Some(known) = &self.known_model {
            let mut line = format!("same shape as {}", known.name);
            for differs in &known.differs {
                let _ = write!(line, "; {differs}");
            }
            page.more("{}", &line);
        }
    }
}

/// A number of tokens to two or three digits.
fn tokens(number: f64) -> String {
    match number {
        n if n < 100.0 => three_digits(n),
        // Whole and small, so the cast is exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        n if n < 10_000.0 => thousands(n.round() as u64),
        n if n < 1e6 => format!("{:.0} thousand", n / 1e3),
        n if n < 1e9 => format!("{} million", three_digits(n / 1e6)),
        n => format!("{} billion", three_digits(n / 1e9)),
    }
}

/// Layers, widths, heads, experts, positions and cache.
pub(super) fn build(architecture: &Architecture, kv_cache: &KvCache, page: &mut Page) {
    let attention = &architecture.attention;
    let mut words = Vec::new();
    if let Some(layers) = architecture.layers {
        words.push(count(layers, "layer", "layers"));
    }
    if let Some(hidden) = architecture.hidden_size {
        words.push(format!("hidden size {}", thousands(hidden)));
    }
    if let Some(vocab) = architecture.vocab_size {
        words.push(format!("vocabulary {}", thousands(vocab)));
    }
    match architecture.tied_embeddings.filter(|_| architecture.vocab_size.is_some()) {
        Some(true) => words.push("head tied to the embedding".to_string()),
        Some(false) => words.push("head of its own".to_string()),
        None => {}
    }
    if words.is_empty() && attention.kind.is_none() {
        return;
    }
    page.section("build", &words.join(", "));
    if let Some(kind) = attention.kind {
        let mut words = vec![format!("attention {}", attention_name(kind))];
        if let Some(heads) = attention.query_heads {
            words.push(match attention.kv_heads {
                Some(1) if heads != 1 => format!("{heads} query heads and 1 key-value head"),
                Some(kv) if kv != heads => format!("{heads} query and {kv} key-value heads"),
                _ => count(heads, "head", "heads"),
            });
        } else if !attention.head_dim_candidates.is_empty() {
            let all = attention.head_dim_candidates.iter().zip(&attention.query_heads_candidates);
            // Sizes that models use come first; the others are possible all the same.
            let (mut shown, others): (Vec<_>, Vec<_>) = all.partition(|(size, _)| **size >= 32 && *size % 16 == 0);
            shown.extend(others);
            let candidates: Vec<String> =
                shown.iter().take(8).map(|(size, heads)| format!("{heads} × {size}")).collect();
            let more = if shown.len() > 8 { format!(" and {} more", shown.len() - 8) } else { String::new() };
            words.push(format!("heads × size one of {}{more}", candidates.join(", ")));
        }
        if let Some(size) = attention.head_dim {
            words.push(format!("of {size}"));
        }
        let mut line = words.join(" ");
        if let Some(window) = attention.sliding_window {
            let _ = write!(line, ", window {}", thousands(window));
        }
        page.more("{}", &line);
    }
    let feed_forward = &architecture.feed_forward;
    if let Some(size) = feed_forward.intermediate_size {
        let kind = feed_forward.kind.as_deref().unwrap_or("");
        page.more("{}", &format!("feed-forward {} {}", safe(kind), thousands(size)));
    }
    if let Some(experts) = &architecture.experts
        && let Some(total) = experts.count
    {
        let mut line = format!("{total} experts");
        if let Some(active) = experts.active {
            let _ = write!(line, ", {active} at work for a token");
        }
        if let Some(shared) = experts.shared.filter(|shared| *shared > 0) {
            let _ = write!(line, ", {shared} shared");
        }
        if let Some(size) = experts.intermediate_size {
            let _ = write!(line, ", {} wide", thousands(size));
        }
        page.more("{}", &line);
    }
    let mut position = Vec::new();
    if let Some(context) = architecture.context_length {
        position.push(format!("context {} tokens", thousands(context)));
    }
    if let Some(rope) = &architecture.rope {
        if let Some(theta) = rope.theta {
            position.push(format!("RoPE base {}", number(theta)));
        }
        if let Some(scaling) = &rope.scaling {
            position.push(format!("scaling {}", safe(scaling)));
        }
    }
    if !position.is_empty() {
        page.more("{}", &position.join(", "));
    }
    if let Some(per_token) = kv_cache.bytes_per_token {
        let mut line = match per_token {
            0 => "cache does not grow with the context".to_string(),
            _ => format!("cache {} per token at 16 bits", bytes(per_token)),
        };
        if let Some(saved) = kv_cache.savings_vs_mha.filter(|saved| *saved > 0.0) {
            let _ = write!(line, "; sharing heads saves {} % of it", three_digits(saved * 100.0));
        }
        page.more("{}", &line);
    }
}

fn attention_name(kind: &str) -> &str {
    match kind {
        "mha" => "MHA (every head keeps its own keys and values)",
        "gqa" => "GQA (query heads share keys and values)",
        "mqa" => "MQA (all query heads share one key and value)",
        "mla" => "MLA (keys and values as one latent vector)",
        "linear" => "linear (a state instead of a cache)",
        "none" => "none",
        "hybrid" => "hybrid (layers of different kinds)",
        other => other,
    }
}

/// A number that may be whole, with its thousands apart.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        // In range and whole, so the cast is exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return thousands(value as u64);
    }
    format!("{value}")
}
