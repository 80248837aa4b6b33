//! The decoder of WavTokenizer: convolutions over the tokens instead of attention (llama.cpp,
//! `src/models/wavtokenizer-dec.cpp`).

use super::Builder;
use super::blocks::Shapes;
use crate::memory::allocator::{Id, Shape};

/// More layers of the same do not need more memory.
const ENOUGH: usize = 3;

/// Widths of the convolutions, and tokens that they span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waves {
    features: u64,
    /// Channels after the first convolution, and tokens that it spans.
    first: (u64, u64),
    /// Tokens that the convolutions of the first part span, and its layers.
    inner: u64,
    layers: usize,
    /// The second part convolves each channel by itself: channels, tokens, width of the feed-forward network, layers.
    channels: u64,
    depth: u64,
    wide: u64,
    blocks: usize,
    output: u64,
}

impl Waves {
    pub(super) fn new(shapes: &Shapes) -> Option<Self> {
        let shape = |name: &str| shapes.get(name).copied();
        let count = |part: &str, tensor: &str, most: usize| {
            (0..most).take_while(|layer| shape(&format!("{part}.{layer}.{tensor}.weight")).is_some()).count()
        };
        let ends = |name: &str| shape(name).and_then(|shape| Some((*shape.first()?, *shape.last()?)));
        let (channels, depth) = ends("convnext.0.dw.weight")?;
        let normed = ["norm1", "norm1", "attn_norm", "norm1", "norm1", "norm"];
        let has = |layer: usize, tensor: &str| shape(&format!("posnet.{layer}.{tensor}.weight")).is_some();
        Some(Waves {
            features: ends("token_embd.weight")?.1,
            first: ends("conv1d.weight")?,
            inner: ends("posnet.0.conv1.weight").map_or(1, |(_, span)| span),
            layers: normed.iter().enumerate().take_while(|(layer, tensor)| has(*layer, tensor)).count(),
            channels,
            depth,
            wide: ends("convnext.0.pw1.weight")?.0,
            blocks: count("convnext", "dw", ENOUGH),
            output: ends("output.weight")?.0,
        })
    }
}

impl Builder<'_> {
    /// Bytes of the buffer.
    pub(super) fn waves(mut self, waves: &Waves) -> u64 {
        let (channels, span) = waves.first;
        let looked_up = self.graph.result(self.rows(waves.features), &[self.words]);
        let turned = self.turned(looked_up);
        let mut stream = self.convolved(turned, waves.features, span, channels);
        for layer in 0..waves.layers {
            let normed = self.group_norm(stream);
            stream = match layer {
                2 => {
                    let sum = self.compared(normed, channels);
                    self.graph.in_place(&[sum, stream])
                }
                5 => normed,
                _ => {
                    let gated = self.gated(normed);
                    let inner = self.convolved(gated, channels, waves.inner, channels);
                    let normed = self.group_norm(inner);
                    let gated = self.gated(normed);
                    let inner = self.convolved(gated, channels, waves.inner, channels);
                    self.graph.in_place(&[inner, stream])
                }
            };
        }
        let turned = self.turned(stream);
        let normed = self.norm(turned);
        stream = self.turned(normed);
        for _ in 0..waves.blocks {
            let columns = self.columns(stream, waves.channels, waves.depth);
            let convolved = self.biased(columns, waves.channels);
            let turned = self.turned(convolved);
            let normed = self.norm(turned);
            let wide = self.graph.result(self.rows(waves.wide), &[normed]);
            let wide = self.graph.in_place(&[wide]);
            let narrow = self.graph.result(self.rows(waves.channels), &[wide]);
            let scaled = self.graph.in_place(&[narrow]);
            let turned = self.turned(scaled);
            stream = self.graph.in_place(&[turned, stream]);
        }
        let turned = self.turned(stream);
        let normed = self.norm(turned);
        let output = self.graph.result(self.rows(waves.output), &[normed]);
        let output = self.graph.in_place(&[output]);
        self.graph.expand(output);
        self.graph.buffer()
    }

    /// Tokens and channels swapped.
    fn turned(&mut self, of: Id) -> Id {
        let view = self.graph.view(of, self.graph.shape(of).size);
        self.graph.result(self.graph.shape(of), &[view])
    }

    /// What a convolution multiplies for each token, in half precision.
    fn columns(&mut self, input: Id, channels: u64, span: u64) -> Id {
        let size = [channels.saturating_mul(span), self.batch.tokens, 1];
        self.graph.result(Shape { element: 2, size }, &[input])
    }

    /// A product of columns, and its sum with a bias.
    fn biased(&mut self, columns: Id, channels: u64) -> Id {
        let view = self.graph.view(columns, self.graph.shape(columns).size);
        let product = self.graph.result(self.rows(channels), &[view]);
        let view = self.graph.view(product, self.graph.shape(product).size);
        self.graph.result(self.rows(channels), &[view])
    }

    fn convolved(&mut self, input: Id, channels: u64, span: u64, output: u64) -> Id {
        let columns = self.columns(input, channels, span);
        self.biased(columns, output)
    }

    fn group_norm(&mut self, input: Id) -> Id {
        let view = self.graph.view(input, self.graph.shape(input).size);
        let normed = self.graph.result(self.graph.shape(input), &[view]);
        let view = self.graph.view(normed, self.graph.shape(normed).size);
        self.graph.result(self.graph.shape(input), &[view])
    }

    fn gated(&mut self, input: Id) -> Id {
        let gate = self.graph.in_place(&[input]);
        self.graph.in_place(&[gate, input])
    }

    /// Attention of all tokens to each other, by convolutions of single tokens.
    fn compared(&mut self, input: Id, channels: u64) -> Id {
        let tokens = self.batch.tokens;
        let [query, key, value] = std::array::from_fn(|_| self.convolved(input, channels, 1, channels));
        let key = self.turned(key);
        let query = self.turned(query);
        let scores = self.graph.result(Shape::f32([tokens, tokens, 1]), &[key, query]);
        let scores = self.graph.in_place(&[scores]);
        let mixed = self.graph.result(self.rows(channels), &[scores, value]);
        self.convolved(mixed, channels, 1, channels)
    }
}
