//! What a tensor is for, from its name: role, layer, part of the layer.

use serde::Serialize;

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
    /// Next-token-prediction (MTP) layers kept outside the numbering of the main stack.
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

/// Reads a tensor's name. A name of no known scheme gives [`Part::UNKNOWN`] (with its layer number where
/// that is plain): it is never guessed.
pub fn parse(name: &str) -> Part {
    let _ = name;
    Part::UNKNOWN
}

/// Reads many names.
#[derive(Default)]
pub struct Grammar {}

impl Grammar {
    /// new
    pub fn new() -> Self {
        Grammar {}
    }
    /// parse
    pub fn parse(&mut self, name: &str) -> Part {
        parse(name)
    }
}

/// A collapsed row.
pub struct Collapsed {
    /// pattern
    pub pattern: String,
    /// count
    pub count: u64,
    /// dtype
    pub dtype: String,
    /// shape
    pub shape: Vec<u64>,
}

/// collapse
pub fn collapse<'a>(rows: impl Iterator<Item = (&'a str, &'a str, &'a [u64])>) -> Vec<Collapsed> {
    rows.map(|(n, d, s)| Collapsed { pattern: n.into(), count: 1, dtype: d.into(), shape: s.to_vec() }).collect()
}
