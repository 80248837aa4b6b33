//! The architecture as names and shapes of the tensors show it.
//!
//! A number is stated only where all layers agree on it. A projection is told from the side that is not the hidden
//! size, so its orientation (`[out, in]` of a linear layer, `[in, out]` of GPT-2's) does not matter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Attention, Facts, Known, Witness, key};
use crate::names::{Role, Stack};
use crate::tensor::elements;

/// The smallest and the largest head that is thought of.
const SMALLEST_HEAD: u64 = 4;
const LARGEST_HEAD: u64 = 512;
/// Rows that an embedding may have beyond the tokens that the head knows.
const MOST_PADDING: u64 = 1024;

/// A size as seen in some layers, with the first tensor that showed it.
#[derive(Debug, Default)]
struct Tally<'a>(BTreeMap<u64, &'a str>);

impl<'a> Tally<'a> {
    fn add(&mut self, size: Option<u64>, name: &'a str) {
        if let Some(size) = size.filter(|size| *size > 0) {
            self.0.entry(size).or_insert(name);
        }
    }

    /// The size that all layers share.
    fn only(&self) -> Option<(u64, &'a str)> {
        self.0.first_key_value().filter(|_| self.0.len() == 1).map(|(size, name)| (*size, *name))
    }

    fn value(&self) -> Option<u64> {
        self.only().map(|(size, _)| size)
    }
}

/// What stands out in the list of tensors.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    /// The token embedding.
    pub(super) embedding: Option<&'a str>,
    /// The output head.
    pub(super) head: Option<&'a str>,
    /// Whether the feed-forward network has a gate.
    pub(super) gated: Option<bool>,
    /// Whether layers hold parts of a recurrent mixer.
    pub(super) recurrent: bool,
    /// Whether keys and values are made from a latent vector.
    pub(super) latent: bool,
    layers: Option<u64>,
    hidden: Option<(u64, &'a str)>,
    vocab: Option<(u64, &'a str)>,
    query: Tally<'a>,
    kv: Tally<'a>,
    /// Head size, or head count, where a tensor shows it.
    head_size: Tally<'a>,
    heads: Tally<'a>,
    /// Head size, query heads and key-value heads of the layers that show all three.
    known: BTreeSet<(u64, u64, u64)>,
    /// Rows of queries and keys of the layers that do not.
    open: BTreeSet<(u64, u64)>,
    intermediate: Tally<'a>,
    experts: Tally<'a>,
    expert_size: Tally<'a>,
    /// Numbers of a head that are rotated, from a table of frequencies.
    rotated: Option<(u64, &'a str)>,
    /// Tables of factors that stretch the rotation.
    stretched: Option<(&'static str, &'a str)>,
}

/// The side of a matrix that is not `hidden`.
fn other(shape: &[u64], hidden: u64) -> Option<u64> {
    match shape {
        [out, into] if *into == hidden => Some(*out),
        [out, into] if *out == hidden => Some(*into),
        _ => None,
    }
}

/// The last two dimensions: of stacked experts, the matrix of one.
fn matrix(shape: &[u64]) -> &[u64] {
    shape.get(shape.len().saturating_sub(2)..).unwrap_or_default()
}

/// The largest tensor of each part of each layer; scales, biases and zero points are smaller than what they belong to.
type Parts<'a> = HashMap<(u32, Role, &'static str), (&'a str, &'a [u64])>;

/// Looks at every tensor once.
pub(super) fn look<'a>(tensors: &[Witness<'a>]) -> Seen<'a> {
    let mut seen = Seen::default();
    let mut parts: Parts = HashMap::new();
    let mut numbers: HashSet<u32> = HashSet::new();
    let mut last = None;
    // An expert is whole where it writes back: LongCat's experts that do nothing are stored with a part of it.
    let mut highest_expert: BTreeMap<u32, (bool, u32, &str)> = BTreeMap::new();
    let mut top: HashMap<(Role, &'static str), (&str, &[u64])> = HashMap::new();
    let mut heads: Vec<(&str, &[u64])> = Vec::new();
    for (name, shape, part) in tensors {
        if part.component == "rotary_frequencies" {
            frequencies(&mut seen, name, shape);
        }
        if part.stack != Stack::Main || part.buffer || part.role == Role::Adapter {
            continue;
        }
        let Some(layer) = part.layer else {
            if part.role == Role::Head && shape.len() == 2 {
                heads.push((name, shape));
            }
            keep_larger(&mut top, (part.role, part.component), name, shape);
            continue;
        };
        if last != Some(layer) {
            numbers.insert(layer);
            last = Some(layer);
        }
        seen.recurrent |= part.role == Role::StateSpace;
        if let (Role::Experts, Some(expert)) = (part.role, part.expert) {
            let whole = part.component == "down";
            let most = highest_expert.entry(layer).or_insert((whole, expert, name));
            if (whole, expert) > (most.0, most.1) {
                *most = (whole, expert, name);
            }
            // The experts of a layer are alike, and there are hundreds.
            if expert > 0 {
                continue;
            }
        }
        keep_larger(&mut parts, (layer, part.role, part.component), name, shape);
    }

    let highest = numbers.iter().max().map(|highest| u64::from(*highest) + 1);
    seen.layers = highest.filter(|layers| *layers == numbers.len() as u64);
    seen.hidden = hidden(&parts, &top);
    seen.latent = parts.keys().any(|(_, _, component)| *component == "kv_latent_down");
    let tokens = top.get(&(Role::Embedding, "tokens")).filter(|(_, shape)| shape.len() == 2);
    seen.embedding = tokens.map(|(name, _)| *name);
    seen.vocab = tokens.and_then(|(name, shape)| Some((*shape.first()?, *name)));
    seen.head = heads.iter().find(|(_, shape)| seen.vocab.is_none_or(|(rows, _)| shape.contains(&rows))).map(|h| h.0);
    let Some((width, _)) = seen.hidden else { return seen };
    // Some embeddings have rows for an image token or for padding that the head does not know.
    let known = |(rows, _): (u64, &str)| {
        let less = |(_, shape): &&(&str, &[u64])| match shape {
            [out, into] => *into == width && *out < rows && rows - out <= MOST_PADDING && rows / 2 < *out,
            _ => false,
        };
        heads.iter().find(less).and_then(|(name, shape)| Some((*shape.first()?, *name)))
    };
    if let Some((tokens, name)) = seen.vocab.filter(|_| seen.head.is_none()).and_then(known) {
        seen.vocab = Some((tokens, name));
        seen.head = Some(name);
    }

    let mut layers: Vec<u32> = numbers.into_iter().collect();
    layers.sort_unstable();
    for layer in layers {
        let get = |role, component| parts.get(&(layer, role, component)).copied();
        attention(&mut seen, width, &|component| get(Role::Attention, component), &|component| {
            get(Role::Norm, component)
        });
        feed_forward(&mut seen, width, &|component| get(Role::FeedForward, component));
        let stacked = |component| get(Role::Experts, component);
        if let Some((_, expert, name)) = highest_expert.get(&layer) {
            seen.experts.add(u64::from(*expert).checked_add(1), name);
        } else if let Some((name, [count, _, _])) = stacked("down").or_else(|| stacked("up")) {
            seen.experts.add(Some(*count), name);
        } else if let Some((name, shape)) = get(Role::Router, "router").filter(|_| stacked("down").is_none()) {
            seen.experts.add(other(shape, width), name);
        }
        if let Some((name, shape)) =
            stacked("down").filter(|(_, shape)| highest_expert.contains_key(&layer) || shape.len() == 3)
        {
            seen.expert_size.add(other(matrix(shape), width), name);
        }
    }
    seen
}

fn keep_larger<'a, K: std::hash::Hash + Eq>(
    map: &mut HashMap<K, (&'a str, &'a [u64])>,
    key: K,
    name: &'a str,
    shape: &'a [u64],
) {
    let kept = map.entry(key).or_insert((name, shape));
    if elements(shape) > elements(kept.1) {
        *kept = (name, shape);
    }
}

fn frequencies<'a>(seen: &mut Seen<'a>, name: &'a str, shape: &[u64]) {
    let [pairs] = shape else { return };
    if name.contains("rope_freqs") {
        seen.stretched = Some(("factors for each frequency, as Llama 3.1 has them", name));
    } else if name.contains("rope_factors_long") {
        seen.stretched = Some(("longrope", name));
    }
    if name.contains("rope_freqs") || name.ends_with(".inv_freq") {
        seen.rotated = seen.rotated.or(pairs.checked_mul(2).map(|rotated| (rotated, name)));
    }
}

/// Width of the residual stream: what two of the last norm, the embedding and the norms of the layers agree on. An
/// embedding may be narrower and projected up, and the last norm wider where streams are joined.
fn hidden<'a>(parts: &Parts<'a>, top: &HashMap<(Role, &'static str), (&'a str, &'a [u64])>) -> Option<(u64, &'a str)> {
    const AT_FULL_WIDTH: &[&str] =
        &["input_norm", "ffn_norm", "attention_norm", "post_attention_norm", "post_ffn_norm"];
    let last = match top.get(&(Role::Norm, "final_norm")) {
        Some((name, [size])) => Some((*size, *name)),
        _ => None,
    };
    let tokens = top.get(&(Role::Embedding, "tokens")).filter(|(_, shape)| shape.len() == 2);
    let embedding = tokens.and_then(|(name, shape)| Some((*shape.last()?, *name)));
    let mut norms = Tally::default();
    for ((layer, role, component), (name, shape)) in parts {
        let [size] = shape else { continue };
        // A norm without a name of its own counts where the layer writes back as many numbers.
        let writes = |role, component| parts.get(&(*layer, role, component)).is_some_and(|part| part.1.contains(size));
        let anonymous = || writes(Role::Attention, "output") && writes(Role::FeedForward, "down");
        if *role == Role::Norm && (AT_FULL_WIDTH.contains(component) || (component.is_empty() && anonymous())) {
            norms.add(Some(*size), name);
        }
    }
    let within = |size: &(u64, &str)| norms.0.contains_key(&size.0);
    let agreed = last.filter(|last| embedding.is_some_and(|embedding| embedding.0 == last.0) || within(last));
    agreed.or(embedding.filter(within)).or(norms.only()).or(if norms.0.is_empty() { last.or(embedding) } else { None })
}

type Find<'f, 'a> = &'f dyn Fn(&'static str) -> Option<(&'a str, &'a [u64])>;

fn attention<'a>(seen: &mut Seen<'a>, hidden: u64, part: Find<'_, 'a>, norm: Find<'_, 'a>) {
    let side = |component| {
        let (name, shape) = part(component)?;
        Some((other(shape, hidden)?, name))
    };
    if part("kv_latent_down").is_some() {
        latent(seen, hidden, part, norm);
        return;
    }
    // XLNet keeps heads apart.
    if let (Some((name, [width, heads, size])), Some((_, [_, shared, _]))) = (part("query"), part("key"))
        && *width == hidden
    {
        seen.heads.add(Some(*heads), name);
        seen.head_size.add(Some(*size), name);
        seen.query.add(heads.checked_mul(*size), name);
        seen.kv.add(shared.checked_mul(*size), name);
        seen.known.insert((*size, *heads, *shared));
        return;
    }
    // What goes into the output projection is as wide as all heads together.
    let output = side("output");
    // Zamba attends to two streams at once: the inputs are wider than the layer.
    let rows = |component| {
        let (name, shape) = part(component)?;
        let whole = |rows: &u64| *rows > 0 && output.is_some_and(|(width, _)| width.is_multiple_of(*rows));
        let wide = || shape.first().copied().filter(whole);
        Some((other(shape, hidden).or_else(wide)?, name))
    };
    let query = rows("query").or_else(|| {
        let (name, shape) = part("query_latent_up")?;
        Some((*shape.first()?, name))
    });
    let mut joined = None;
    let (query, kv) = match (side("fused_qkv"), query) {
        (Some((fused, name)), _) => {
            let query = output.map(|(width, _)| width);
            let rest = query.and_then(|query| fused.checked_sub(query)).filter(|rest| rest.is_multiple_of(2));
            let kv = rest.map(|rest| rest / 2).filter(|kv| query.is_some_and(|query| *kv <= query));
            (query.filter(|_| kv.is_some()).map(|query| (query, name)), kv.map(|kv| (kv, name)))
        }
        (None, Some((rows_of_query, name))) => {
            // Twice as wide: each query comes with a gate for its output.
            let gated = output.filter(|(width, _)| width.checked_mul(2) == Some(rows_of_query));
            joined = side("fused_kv");
            let kv =
                rows("key").or(joined.filter(|(both, _)| both.is_multiple_of(2)).map(|(both, name)| (both / 2, name)));
            (Some((gated.map_or(rows_of_query, |(width, _)| width), name)), kv)
        }
        _ => return,
    };
    let counted = part("sinks").and_then(|(name, shape)| Some((*shape.first().filter(|heads| **heads > 0)?, name)));
    let by_sinks = query.zip(counted).filter(|((rows, _), (heads, _))| rows.is_multiple_of(*heads));
    let by_sinks = by_sinks.map(|((rows, _), (heads, name))| (rows / heads, heads, name));
    // One vector may be key and value at once.
    let kv = match (joined, by_sinks) {
        (Some((both, name)), Some((size, ..))) if both == size => Some((size, name)),
        _ => kv,
    };
    if let Some((rows, name)) = query {
        seen.query.add(Some(rows), name);
    }
    if let Some((rows, name)) = kv {
        seen.kv.add(Some(rows), name);
    }
    let (Some((query, _)), Some((kv, _))) = (query, kv) else { return };
    let fits = |size: u64| size > 0 && query.is_multiple_of(size) && kv.is_multiple_of(size);
    let size = match (norm("query_norm"), norm("key_norm")) {
        // One norm for the heads of both kinds. As long as all queries together it says nothing.
        (Some((name, [size])), Some((_, [same]))) if size == same && fits(*size) && *size < query => {
            Some((*size, name))
        }
        // One norm for each head.
        (Some((name, [heads, size])), _) if heads.checked_mul(*size) == Some(query) && fits(*size) => {
            Some((*size, name))
        }
        _ => None,
    };
    if let Some((size, name)) = size {
        seen.head_size.add(Some(size), name);
    }
    if let Some((_, heads, name)) = by_sinks {
        seen.heads.add(Some(heads), name);
    }
    let by_sinks = by_sinks.map(|(size, ..)| size).filter(|size| fits(*size));
    match size.map(|(size, _)| size).or(by_sinks) {
        Some(size) => _ = seen.known.insert((size, query / size, kv / size)),
        None => _ = seen.open.insert((query, kv)),
    }
}

/// Latent attention: with h heads, n numbers without and r with rotation and values of v, the queries are h(n+r)
/// wide, what the latent is expanded to h(n+v), the output h·v, and r is what the latent has beyond its norm.
fn latent<'a>(seen: &mut Seen<'a>, hidden: u64, part: Find<'_, 'a>, norm: Find<'_, 'a>) {
    let heads = || {
        let (down, _) = part("kv_latent_down").and_then(|(name, shape)| Some((other(shape, hidden)?, name)))?;
        let (_, rank) = norm("kv_latent_norm")?;
        let rotated = down.checked_sub(*rank.first()?).filter(|rotated| *rotated > 0)?;
        let (name, expanded) = part("kv_latent_up")?;
        let expanded = other(expanded, *rank.first()?)?;
        let query = match part("query_latent_up") {
            Some((_, shape)) => *shape.first()?,
            None => other(part("query")?.1, hidden)?,
        };
        let values = other(part("output")?.1, hidden)?;
        let turned = query.checked_sub(expanded.checked_sub(values)?)?;
        let heads = turned.checked_div(rotated).filter(|heads| *heads > 0 && turned.is_multiple_of(rotated))?;
        query.is_multiple_of(heads).then_some((heads, query / heads, name))
    };
    if let Some((heads, size, name)) = heads() {
        seen.heads.add(Some(heads), name);
        seen.head_size.add(Some(size), name);
        seen.known.insert((size, heads, heads));
    }
}

fn feed_forward<'a>(seen: &mut Seen<'a>, hidden: u64, part: Find<'_, 'a>) {
    let side = |component| {
        let (name, shape) = part(component)?;
        Some((other(shape, hidden)?, name))
    };
    let down = side("down");
    let up = side("up");
    // Some put the gate into the up-projection without a name of its own.
    let doubled = up.zip(down).is_some_and(|((up, _), (down, _))| down.checked_mul(2) == Some(up));
    if part("gate").is_some() || part("fused_gate_up").is_some() || doubled {
        seen.gated = Some(true);
    } else if up.is_some() {
        seen.gated = seen.gated.or(Some(false));
    }
    if let Some((size, name)) = down.or(up) {
        seen.intermediate.add(Some(size), name);
    }
}

/// What the tensors say; `declared` helps where they leave a number open.
pub(super) fn facts(seen: &Seen, declared: &Facts) -> Facts {
    fn shape_of((value, name): (u64, &str)) -> Known<u64> {
        Known::new(value, format!("shape of {name}"))
    }
    let mut facts = Facts::default();
    facts.set(key::LAYERS, seen.layers.map(|layers| Known::new(layers, "layers counted in the tensor names")));
    facts.set(key::HIDDEN, seen.hidden.map(shape_of));
    facts.set(key::VOCAB, seen.vocab.map(shape_of));
    facts.set(key::INTERMEDIATE, seen.intermediate.only().map(shape_of));
    facts.set(
        key::EXPERTS,
        seen.experts.only().map(|(count, name)| match name.ends_with("weight") {
            _ if count <= 1 => Known::new(count, "experts counted in the tensor names"),
            _ => Known::new(count, format!("experts up to {name}")),
        }),
    );
    facts.set(key::EXPERT_SIZE, seen.expert_size.only().map(shape_of));

    let query = seen.query.only();
    let rotated = seen.stretched.filter(|(_, name)| name.contains("rope_freqs")).and(seen.rotated);
    let fits = |size: u64| {
        size > 0
            && [&seen.query, &seen.kv].iter().all(|rows| rows.value().is_some_and(|rows| rows.is_multiple_of(size)))
    };
    // In order: a tensor of one head's length; the heads that a tensor counts; those that are declared; the table of
    // frequencies, since the models that store one turn whole heads.
    let by_count = |heads: u64, source: &str| {
        let (rows, name) = query.filter(|(rows, _)| heads > 0 && rows.is_multiple_of(heads))?;
        Some(Known::new(rows / heads, format!("shape of {name} / {source}")))
    };
    let size = seen.head_size.only().map(shape_of);
    let size = size.or_else(|| by_count(seen.heads.value()?, "heads"));
    let size = size.or_else(|| by_count(declared.number(key::QUERY_HEADS)?, "declared heads"));
    let size = size
        .or_else(|| rotated.filter(|(size, _)| declared.number(key::HEAD_DIM).is_none() && fits(*size)).map(shape_of));
    if seen.latent {
        // Every head expands the latent to keys and values of its own.
        facts.set(key::QUERY_HEADS, seen.heads.only().map(shape_of));
        facts.set(key::KV_HEADS, seen.heads.only().map(shape_of));
    } else if let Some(size) = &size {
        let heads = |rows: Option<(u64, &str)>| {
            let (rows, name) = rows.filter(|(rows, _)| rows.is_multiple_of(size.value.max(1)))?;
            Some(Known::new(rows.checked_div(size.value)?, format!("shape of {name} / head size")))
        };
        facts.set(key::QUERY_HEADS, heads(query));
        facts.set(key::KV_HEADS, heads(seen.kv.only()));
    }
    facts.set(key::HEAD_DIM, size);
    facts.set(key::ROPE_DIMENSION, seen.rotated.map(shape_of));
    facts.scaling = seen.stretched.map(|(words, name)| Known::new(words.to_string(), format!("tensor {name}")));
    facts
}

/// What the layers show, and what rows of queries and keys allow where nothing decides.
pub(super) fn head_candidates(seen: &Seen, attention: &mut Attention) {
    let mut all = seen.known.clone();
    for (query, kv) in &seen.open {
        let both = |size: &u64| query.is_multiple_of(*size) && kv.is_multiple_of(*size);
        all.extend((SMALLEST_HEAD..=LARGEST_HEAD).filter(both).map(|size| (size, query / size, kv / size)));
    }
    for (size, query, kv) in all {
        attention.head_dim_candidates.push(size);
        attention.query_heads_candidates.push(query);
        attention.kv_heads_candidates.push(kv);
    }
}

/// Whether the head must be the embedding, where nothing but names tells: there is an embedding and none but the bias of
/// a head, or nothing of a head in a model whose names are those of a class that has one (the bare model of
/// transformers writes its names without the prefix that such a class puts before them).
pub(super) fn tied_by_names(tensors: &[Witness]) -> Option<String> {
    const BARE: &[&str] = &["wte", "shared", "decoder", "encoder", "tok_embeddings", "tokens_embed", "layers"];
    let top = || tensors.iter().filter(|(_, _, part)| part.stack == Stack::Main && part.layer.is_none());
    let tokens = |part: &crate::names::Part| part.role == Role::Embedding && part.component == "tokens";
    let (embedding, rows) = top()
        .find(|(_, shape, part)| tokens(part) && shape.len() == 2)
        .map(|(name, shape, _)| (*name, shape.first()))?;
    let heads: Vec<_> = top().filter(|(_, _, part)| part.role == Role::Head).collect();
    if heads.iter().any(|(_, shape, _)| shape.len() > 1 && shape.iter().any(|size| Some(size) == rows)) {
        return None;
    }
    if let Some((bias, ..)) = heads.iter().find(|(_, shape, _)| shape.len() == 1 && shape.first() == rows) {
        return Some(format!("of a head, {bias} is all that there is"));
    }
    let first = embedding.split('.').next().unwrap_or_default();
    let bare = first.starts_with("emb") || first.starts_with("word_emb") || BARE.contains(&first);
    (heads.is_empty() && !bare).then(|| format!("no head beside {embedding}"))
}

impl Seen<'_> {
    /// Whether any layer attends.
    pub(super) fn attends(&self) -> bool {
        self.latent || !self.query.0.is_empty() || !self.kv.0.is_empty()
    }

    /// How keys and values are shared among queries, where the rows alone show it.
    pub(super) fn sharing(&self) -> Option<&'static str> {
        if self.latent {
            return Some("mla");
        }
        let (query, kv) = (self.query.value()?, self.kv.value()?);
        // Narrower keys than the largest heads might be those of a single head.
        match kv {
            kv if kv == query => Some("mha"),
            kv if kv > LARGEST_HEAD => Some("gqa"),
            _ => None,
        }
    }
}
