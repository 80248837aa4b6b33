//! What a tensor is for, from its name: role, layer, part of the layer.
//!
//! A name is a path: its words open places (`self_attn`, `experts`, `vision_tower`) and at last name a part
//! (`q_proj`, `w2`). The vocabulary is the tables in `words.rs`; the matcher here walks a name once from the left,
//! to know the place of each word, and once from the right, to find the word that says most.
//!
//! Where the field itself is of two minds:
//! - The gate of a shared expert scales that expert: it counts with the shared experts, not with the router.
//! - A mixer that keeps a state (Mamba, RWKV, xLSTM, RG-LRU, gated delta nets, LFM2's short convolutions) is
//!   `state_space` as a whole, its queries, keys and values included; norms are `norm` everywhere in the language model.
//! - Qwen-VL's `visual.merger` and its like are connectors: `projector`.
//! - Tables per layer (Gemma 3n) and their projections are embeddings.
//! - Hyper-connections, AltUp, residual scales and the projection of a next-token layer have no role of their own:
//!   `other`, with a component that names them. An unknown name is `other` without a component.

mod collapse;
mod words;

use std::sync::LazyLock;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use serde::Serialize;

pub use collapse::{Row, collapse};
use words::Tower;

/// What a tensor does in the model. The names are those of `parameters.by_role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names say it
pub enum Role {
    Embedding,
    Attention,
    FeedForward,
    Experts,
    SharedExperts,
    Router,
    Norm,
    Head,
    StateSpace,
    Vision,
    Audio,
    Projector,
    Adapter,
    Other,
}

impl Role {
    /// All roles, in the order in which they are shown.
    pub const ALL: [Role; 14] = [
        Role::Embedding,
        Role::Attention,
        Role::FeedForward,
        Role::Experts,
        Role::SharedExperts,
        Role::Router,
        Role::Norm,
        Role::Head,
        Role::StateSpace,
        Role::Vision,
        Role::Audio,
        Role::Projector,
        Role::Adapter,
        Role::Other,
    ];

    /// Stable name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Embedding => "embedding",
            Role::Attention => "attention",
            Role::FeedForward => "feed_forward",
            Role::Experts => "experts",
            Role::SharedExperts => "shared_experts",
            Role::Router => "router",
            Role::Norm => "norm",
            Role::Head => "head",
            Role::StateSpace => "state_space",
            Role::Vision => "vision",
            Role::Audio => "audio",
            Role::Projector => "projector",
            Role::Adapter => "adapter",
            Role::Other => "other",
        }
    }
}

/// Which stack of layers a tensor belongs to; layer numbers count within their stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stack {
    /// The language model itself: the decoder, or the only stack that there is.
    Main,
    /// The encoder of an encoder-decoder model.
    Encoder,
    /// A vision tower.
    Vision,
    /// An audio tower.
    Audio,
    /// Next-token-prediction (MTP) layers: numbered on from the main stack in DeepSeek and GGUF files, for
    /// themselves under `mtp.` in others.
    NextToken,
    /// Optimizer state, moving averages and other things of training.
    Training,
}

/// What a tensor's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Part {
    /// What it does.
    pub role: Role,
    /// Which part of the layer it is, in the field's own term (`query`, `key`, `output`, `gate`, `up`, `down`,
    /// `fused_qkv`, `kv_latent_down`, `input_norm`, …); empty where the name says no more than the role.
    pub component: &'static str,
    /// Which stack of layers.
    pub stack: Stack,
    /// Layer within its stack.
    pub layer: Option<u32>,
    /// Expert within its layer.
    pub expert: Option<u32>,
    /// Whether it is a table or counter and not a learned number (rotary frequencies, causal masks,
    /// position ids, batch counters).
    pub buffer: bool,
}

impl Part {
    /// What an unknown name says: nothing.
    pub const UNKNOWN: Part =
        Part { role: Role::Other, component: "", stack: Stack::Main, layer: None, expert: None, buffer: false };
}

/// What a word says about the whole block or layer in which it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Hint {
    /// Only a recurrent mixer has this part, so the queries, keys and values beside it are the mixer's too.
    Recurrent,
    /// The block is attention, whatever its name.
    Attending,
    /// The layer predicts the token after the next.
    NextToken,
}

/// What a pattern of names says: everything except the numbers.
#[derive(Debug, Clone, Copy)]
struct Reading {
    part: Part,
    /// Which of the name's numbers is the layer's, and which the expert's.
    layer: Option<usize>,
    expert: Option<usize>,
    hint: Option<Hint>,
    /// Bytes of the pattern up to the end of the layer, and of the block within it.
    layer_end: usize,
    block_end: usize,
}

/// The first numbers of a name. Names of real models have at most four.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    list: [Option<u32>; Numbers::MOST],
    count: usize,
}

impl Numbers {
    const MOST: usize = 8;

    fn push(&mut self, digits: &str) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = digits.parse().ok();
            self.count += 1;
        }
    }

    fn get(&self, index: Option<usize>) -> Option<u32> {
        self.list.get(index?).copied().flatten()
    }
}

/// Reads a tensor's name. A name of no known scheme gives [`Part::UNKNOWN`] (with its layer number where
/// that is plain): it is never guessed. [`parse_all`] knows more, since it sees a name's neighbours.
pub fn parse(name: &str) -> Part {
    let mut pattern = String::new();
    let numbers = strip(name, &mut pattern);
    read(&pattern).at(&numbers)
}

/// Reads the names of a model, each pattern of names once, and settles what one name alone leaves open:
///
/// - queries, keys and values beside a recurrent mixer's own tensors (Kimi's delta attention, RWKV, the `attn_qkv`
///   of a Qwen3-Next layer in a GGUF) are parts of that mixer, [`Role::StateSpace`];
/// - a layer that holds `eh_proj` or `enorm` belongs to [`Stack::NextToken`] as a whole;
/// - an encoder without a decoder is the main stack.
pub fn parse_all<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Part> {
    let mut patterns: HashMap<Box<str>, usize> = HashMap::new();
    let mut readings: Vec<(Reading, [usize; 2])> = Vec::new();
    // Prefixes that end with a layer or block, so that neighbours can be told by number.
    let mut prefixes: HashMap<Box<str>, usize> = HashMap::new();
    let mut hints: HashSet<(usize, Option<u32>, Hint)> = HashSet::new();
    let mut parts: Vec<(Part, usize)> = Vec::new();
    let mut pattern = String::new();
    let mut main_has_layers = false;
    for name in names {
        let numbers = strip(name, &mut pattern);
        let index = match patterns.get(pattern.as_str()) {
            Some(index) => *index,
            None => {
                let reading = read(&pattern);
                let ids = [reading.layer_end, reading.block_end].map(|end| {
                    let next = prefixes.len();
                    *prefixes.entry(pattern.get(..end).unwrap_or_default().into()).or_insert(next)
                });
                readings.push((reading, ids));
                patterns.insert(pattern.as_str().into(), readings.len() - 1);
                readings.len() - 1
            }
        };
        let Some((reading, [layer_id, block_id])) = readings.get(index) else { continue };
        let part = reading.at(&numbers);
        main_has_layers |= part.stack == Stack::Main && part.layer.is_some();
        match reading.hint {
            Some(hint @ Hint::NextToken) => _ = hints.insert((*layer_id, part.layer, hint)),
            Some(hint) => _ = hints.insert((*block_id, part.layer, hint)),
            None => {}
        }
        parts.push((part, index));
    }
    for (part, index) in &mut parts {
        if part.stack == Stack::Encoder && !main_has_layers {
            part.stack = Stack::Main;
        }
        let Some((_, [layer_id, block_id])) = readings.get(*index).filter(|_| !hints.is_empty()) else { continue };
        let block_says = |hint| hints.contains(&(*block_id, part.layer, hint));
        if part.role == Role::Attention && block_says(Hint::Recurrent) {
            part.role = Role::StateSpace;
        } else if part.role == Role::StateSpace && block_says(Hint::Attending) {
            part.role = Role::Attention;
        }
        if part.layer.is_some() && hints.contains(&(*layer_id, part.layer, Hint::NextToken)) {
            part.stack = Stack::NextToken;
        }
    }
    parts.into_iter().map(|(part, _)| part).collect()
}

/// Writes a name's pattern: words joined by dots, each number that is a word of its own as `#`.
fn strip(name: &str, pattern: &mut String) -> Numbers {
    pattern.clear();
    let mut numbers = Numbers::default();
    let bytes = name.as_bytes();
    if bytes.contains(&b'/') || is_flattened(name) {
        strip_foreign(name, pattern, &mut numbers);
        return numbers;
    }
    let mut copied = 0;
    let mut start = 0;
    for end in 0..=bytes.len() {
        if bytes.get(end).is_some_and(|byte| *byte != b'.') {
            continue;
        }
        // Most words do not even begin with a digit.
        if bytes.get(start).is_some_and(u8::is_ascii_digit)
            && let Some(word) = name.get(start..end).filter(|word| is_number(word))
        {
            pattern.push_str(name.get(copied..start).unwrap_or_default());
            pattern.push('#');
            numbers.push(word);
            copied = end;
        }
        start = end + 1;
    }
    pattern.push_str(name.get(copied..).unwrap_or_default());
    numbers
}

/// Whether a name is of kohya's scripts or LyCORIS, which join a module's path with `_`.
fn is_flattened(name: &str) -> bool {
    name.starts_with("lora_") || name.starts_with("lycoris_")
}

/// Brings other worlds' names to the same form: TensorFlow's and old ggml's (`model/h0/attn/c_attn/w`,
/// `bert/encoder/layer_._0/…/kernel:0`), and flattened ones (`lora_te_text_model_encoder_layers_0_mlp_fc1.alpha`).
fn strip_foreign(name: &str, pattern: &mut String, numbers: &mut Numbers) {
    let put = |pattern: &mut String, numbers: &mut Numbers, word: &str| {
        if is_number(word) {
            pattern.push('#');
            numbers.push(word);
        } else {
            pattern.push_str(word);
        }
    };
    if !name.contains('/') {
        let (module, rest) = name.split_once('.').unwrap_or((name, ""));
        for (position, word) in module.split('_').enumerate() {
            if position > 0 {
                pattern.push(if is_number(word) || pattern.ends_with('#') { '.' } else { '_' });
            }
            put(pattern, numbers, word);
        }
        for word in rest.split('.').filter(|word| !word.is_empty()) {
            pattern.push('.');
            put(pattern, numbers, word);
        }
        return;
    }
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    for (position, word) in name.split('/').enumerate() {
        if position > 0 {
            pattern.push('.');
        }
        let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let layer = stem.trim_end_matches(['_', '.']);
        if stem.len() < word.len() && VOCABULARY.layers.contains(layer) {
            pattern.push_str(layer);
            pattern.push('.');
            put(pattern, numbers, word.get(stem.len()..).unwrap_or_default());
        } else {
            put(pattern, numbers, word);
        }
    }
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The tables of [`words`], keyed by word.
struct Vocabulary {
    places: HashMap<&'static str, &'static words::PlaceRow>,
    parts: HashMap<&'static str, Vec<&'static words::PartRow>>,
    buffers: HashMap<&'static str, &'static words::PartRow>,
    towers: HashMap<&'static str, Vec<(bool, Tower)>>,
    hints: HashMap<&'static str, Vec<(words::Places, Hint)>>,
    layers: HashSet<&'static str>,
    experts: HashSet<&'static str>,
    adapters: HashSet<&'static str>,
    stacks: HashMap<&'static str, Stack>,
}

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(Vocabulary::new);

/// Words in the longest key of the tables.
const LONGEST_KEY: usize = 4;

impl Vocabulary {
    fn new() -> Self {
        fn keyed<T: Copy>(rows: impl Iterator<Item = (&'static str, T)>) -> HashMap<&'static str, Vec<T>> {
            let mut map: HashMap<&'static str, Vec<T>> = HashMap::new();
            for (keys, row) in rows {
                keys.split_whitespace().for_each(|key| map.entry(key).or_default().push(row));
            }
            map
        }
        fn set(words: &[&'static str]) -> HashSet<&'static str> {
            words.iter().flat_map(|words| words.split_whitespace()).collect()
        }
        let first = |map: HashMap<&'static str, Vec<_>>| -> HashMap<&'static str, _> {
            map.into_iter().filter_map(|(key, rows)| Some((key, *rows.first()?))).collect()
        };
        let stacks =
            [(words::ENCODERS, Stack::Encoder), (words::DECODERS, Stack::Main), (words::NEXT_TOKEN, Stack::NextToken)];
        Vocabulary {
            places: words::PLACES.iter().flat_map(|row| row.0.split_whitespace().map(move |key| (key, row))).collect(),
            parts: keyed(words::PARTS.iter().map(|row| (row.0, row))),
            buffers: first(keyed(words::BUFFERS.iter().map(|row| (row.0, row)))),
            towers: keyed(words::TOWERS.iter().map(|row| (row.0, (row.1, row.2)))),
            hints: keyed(words::HINTS.iter().map(|row| (row.0, (row.1, row.2)))),
            layers: set(&[words::LAYERS, words::LAYERS_ELSEWHERE]),
            experts: set(&[words::EXPERTS]),
            adapters: set(&[words::ADAPTERS]),
            stacks: stacks
                .iter()
                .flat_map(|(keys, stack)| keys.split_whitespace().map(move |key| (key, *stack)))
                .collect(),
        }
    }
}

/// One word of a pattern: where it begins and ends, and the place in which it stands.
struct Word<'a> {
    text: &'a str,
    start: usize,
    place: words::Places,
    /// The place that it opens.
    opens: Option<&'static words::PlaceRow>,
}

/// Reads a pattern.
fn read(pattern: &str) -> Reading {
    let vocabulary = &*VOCABULARY;
    let mut words: Vec<Word> = Vec::new();
    let mut place = words::TOP;
    let mut layer = None;
    let mut expert = None;
    let mut numbers = 0;
    let mut stack = None;
    let mut tower = None;
    let mut adapter = is_flattened(pattern);
    let mut layer_end = 0;
    let mut block_end = 0;
    let mut start = 0;
    for text in pattern.split('.') {
        let end = start + text.len();
        let before = words.last().map_or("", |word: &Word| word.text);
        let mut opens = None;
        if text == "#" {
            // In kohya's flattened names the word is the last piece of many: `lora_unet_down_blocks`.
            let counted = if adapter { before.rsplit('_').next().unwrap_or(before) } else { before };
            if layer.is_none() && vocabulary.layers.contains(counted) {
                layer = Some(numbers);
                layer_end = end;
                block_end = end;
            } else if expert.is_none() && vocabulary.experts.contains(before) {
                expert = Some(numbers);
            }
            numbers += 1;
        } else {
            opens = vocabulary.places.get(text).copied().filter(|row| row.1 & place != 0);
            adapter |= vocabulary.adapters.contains(text);
            if stack.is_none() {
                stack = vocabulary.stacks.get(text).copied();
            }
            let towers = vocabulary.towers.get(text).map(Vec::as_slice).unwrap_or_default();
            let first = words.is_empty() && end < pattern.len();
            if let Some((_, found)) = towers.iter().find(|(first_only, _)| !first_only || first)
                && tower != Some(Tower::Training)
            {
                tower = Some(*found);
            }
        }
        words.push(Word { text, start, place, opens });
        if let Some(row) = opens {
            place = row.2;
            if place & (words::ATTN | words::SSM | words::MIXER) != 0 && block_end == layer_end {
                block_end = end;
            }
        }
        start = end + 1;
    }

    let mut part = Part { stack: stack.unwrap_or(Stack::Main), ..Part::UNKNOWN };
    let mut hint = None;
    for (index, word) in words.iter().enumerate().rev() {
        if hint.is_none() {
            let hints = vocabulary.hints.get(word.text).map(Vec::as_slice).unwrap_or_default();
            hint = hints.iter().find(|(places, _)| places & word.place != 0).map(|(_, hint)| *hint);
        }
        if part.role == Role::Other
            && part.component.is_empty()
            && let Some((role, component, buffer)) = meaning(pattern, &words, index)
        {
            part = Part { role, component, buffer, ..part };
        }
    }
    match tower {
        Some(Tower::Training) => part = Part { role: Role::Other, stack: Stack::Training, ..part },
        _ if adapter => part.role = Role::Adapter,
        Some(Tower::Foreign) => part = Part { role: Role::Other, component: "", ..part },
        Some(Tower::Of(role)) => {
            part.role = role;
            part.stack = match role {
                Role::Audio => Stack::Audio,
                _ => Stack::Vision,
            };
        }
        None if part.role == Role::Audio => part.stack = Stack::Audio,
        None => {}
    }
    Reading { part, layer, expert, hint, layer_end, block_end }
}

/// What the word at `index` says: role, component, whether it is a table. `None` where it says nothing, so that the
/// word before it decides.
fn meaning(pattern: &str, words: &[Word], index: usize) -> Option<(Role, &'static str, bool)> {
    let word = words.get(index)?;
    let end = word.start + word.text.len();
    // Longer keys first.
    let first = (index + 1).saturating_sub(LONGEST_KEY);
    for from in words.get(first..=index)? {
        let key = pattern.get(from.start..end)?;
        let bare = words::TAILS.iter().find_map(|tail| key.strip_suffix(tail));
        for key in std::iter::once(key).chain(bare) {
            if let Some((_, _, role, component)) = VOCABULARY.buffers.get(key) {
                return Some((*role, component, true));
            }
            let rows = VOCABULARY.parts.get(key).map(Vec::as_slice).unwrap_or_default();
            if let Some((_, _, role, component)) = rows.iter().find(|row| row.1 & word.place != 0) {
                return Some((settle(*role, word.place), cross(component, word.place), false));
            }
        }
    }
    if is_norm(word.text) {
        return Some((Role::Norm, "", false));
    }
    let (_, _, _, role, component) = word.opens?;
    Some((*role, component, false))
}

/// The same part belongs to another role where it stands in experts or a recurrent mixer.
fn settle(role: Role, place: words::Places) -> Role {
    match role {
        Role::FeedForward if place == words::MOE => Role::Experts,
        Role::FeedForward if place == words::SHARED => Role::SharedExperts,
        Role::Attention if place == words::SSM => Role::StateSpace,
        role => role,
    }
}

/// The name of a part of cross attention, so that a layer's two queries can be told apart.
fn cross(component: &'static str, place: words::Places) -> &'static str {
    match component {
        _ if place != words::CROSS => component,
        "query" => "cross_query",
        "key" => "cross_key",
        "value" => "cross_value",
        "output" => "cross_output",
        "fused_qkv" => "cross_fused_qkv",
        "fused_kv" => "cross_fused_kv",
        component => component,
    }
}

/// Whether a word says that it is a norm: `LayerNorm`, `post_attn_norm_2`, `ln_f`, `ln1`, `mlp_ln`.
fn is_norm(word: &str) -> bool {
    let named = word.as_bytes().windows(4).any(|window| window.eq_ignore_ascii_case(b"norm"));
    let short = word.strip_prefix("ln").is_some_and(|rest| rest.starts_with('_') || rest.parse::<u8>().is_ok());
    named || short || word == "ln" || word.ends_with("_ln")
}

impl Reading {
    fn at(&self, numbers: &Numbers) -> Part {
        Part { layer: numbers.get(self.layer), expert: numbers.get(self.expert), ..self.part }
    }
}
