//! Layers of RWKV 6 and 7: a token is mixed with the one before it, then with a state (llama.cpp,
//! `src/models/rwkv6-base.cpp` and `rwkv7-base.cpp`).

use super::Builder;
use super::blocks::Shapes;
use crate::memory::allocator::{Id, Shape};

/// What a layer multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rwkv {
    seventh: bool,
    /// Numbers of the state of one sequence.
    state: u64,
    /// Width of the keys, and of the values.
    key: u64,
    /// Widths of the low ranks: of the mixes (6), of the decay, the gate, the rate and the values (7).
    ranks: [u64; 4],
    /// Whether the weights of the mixes are one tensor (6).
    fused: bool,
    /// Width of the channel mix, where it is not a feed-forward network like any other.
    channel: Option<u64>,
    /// Whether the channel mix is gated.
    gated: bool,
}

impl Rwkv {
    pub(super) fn new(state: u64, shapes: &Shapes) -> Option<Self> {
        let rows = |name: &str| shapes.get(name).and_then(|shape| shape.first().copied());
        let has = |name: &str| shapes.contains_key(name);
        let key = rows("time_mix_key.weight")?;
        let rank = |name: &str| shapes.get(name).and_then(|shape| shape.iter().min().copied()).unwrap_or(0);
        let seventh = has("time_mix_a1.weight");
        let ranks = if seventh {
            ["w1", "g1", "a1", "v1"].map(|name| rank(&format!("time_mix_{name}.weight")))
        } else {
            [rank("time_mix_w1.weight"), rank("time_mix_decay_w1.weight"), 0, 0]
        };
        Some(Rwkv {
            seventh,
            state,
            key,
            ranks,
            fused: has("time_mix_lerp_fused.weight"),
            channel: rows("channel_mix_key.weight"),
            gated: has("channel_mix_receptance.weight"),
        })
    }

    pub(super) fn has_channel_mix(&self) -> bool {
        self.channel.is_some()
    }
}

impl Builder<'_> {
    /// Each token's norm behind that of the token before it.
    fn shifted(&mut self, normed: Id, before: Id) -> Id {
        let hidden = self.network.hidden;
        let old = self.graph.view(before, [hidden, 1, self.batch.sequences]);
        let part = self.graph.view(normed, [hidden, self.batch.tokens.saturating_sub(1), 1]);
        self.graph.result(self.rows(hidden), &[old, part])
    }

    /// A projection to a low rank and back.
    fn low_rank(&mut self, rank: u64, input: Id) -> Id {
        let down = self.graph.result(self.rows(rank), &[input]);
        let down = self.graph.in_place(&[down]);
        let up = self.graph.result(self.rows(self.network.hidden), &[down]);
        self.graph.in_place(&[up])
    }

    /// The time mix: what is added to the stream.
    pub(super) fn time_mix(&mut self, rwkv: &Rwkv, normed: Id) -> Id {
        let hidden = self.network.hidden;
        let sequences = self.batch.sequences;
        let shifts = if rwkv.channel.is_some() { 2 } else { 1 };
        let before = self.graph.result(Shape::f32([hidden, shifts, sequences]), &[]);
        let previous = self.shifted(normed, before);
        let difference = self.graph.in_place(&[previous, normed]);
        let (steps, gate) =
            if rwkv.seventh { self.seventh(rwkv, normed, difference) } else { self.sixth(rwkv, normed, difference) };
        let old = self.graph.result(Shape::f32([rwkv.state, sequences, 1]), &[]);
        let mut sources = steps.clone();
        sources.push(old);
        let state = rwkv.state.saturating_mul(sequences);
        let size = hidden.saturating_mul(self.batch.tokens).saturating_add(state);
        let output = self.graph.result(Shape::f32([size, 1, 1]), &sources);
        let kept = self.graph.view(output, [state, 1, 1]);
        let kept = self.graph.sink(&[kept]);
        self.graph.expand(kept);
        let values = self.graph.view(output, [hidden, self.batch.tokens, 1]);
        let normed = self.graph.result(self.rows(hidden), &[values]);
        let mut mixed = self.graph.in_place(&[normed]);
        if let (true, [receptance, _, key, value, ..]) = (rwkv.seventh, steps.as_slice()) {
            let product = self.graph.in_place(&[*key, *receptance]);
            let product = self.graph.in_place(&[product]);
            let bonus = self.graph.in_place(&[*value, product]);
            mixed = self.graph.in_place(&[mixed, bonus]);
        }
        if let Some(gate) = gate {
            mixed = self.graph.in_place(&[mixed, gate]);
        }
        self.graph.result(self.rows(hidden), &[mixed])
    }

    /// Receptance, decay, keys, values, and the two directions of removal; the gate.
    fn seventh(&mut self, rwkv: &Rwkv, normed: Id, difference: Id) -> (Vec<Id>, Option<Id>) {
        let hidden = self.network.hidden;
        let [decay, gate, rate, values] = rwkv.ranks;
        let mixes = if gate > 0 { 6 } else { 5 };
        let wide = self.rows(hidden.saturating_mul(mixes));
        let all = self.graph.result(wide, &[difference]);
        let all = self.graph.in_place(&[all]);
        let all = self.graph.in_place(&[all, normed]);
        let part = |builder: &mut Self| builder.graph.view(all, [hidden, builder.batch.tokens, 1]);
        let [r, w, k, v, a] = std::array::from_fn(|_| part(self));
        let receptance = self.graph.result(self.rows(hidden), &[r]);
        let decay = self.low_rank(decay, w);
        let key = self.graph.result(self.rows(hidden), &[k]);
        let mut value = self.graph.result(self.rows(hidden), &[v]);
        match self.first_value {
            None => self.first_value = Some(value),
            // The values of the first layer are mixed in everywhere.
            Some(first) => {
                let change = self.graph.in_place(&[first, value]);
                let weight = self.low_rank(values, v);
                let change = self.graph.in_place(&[change, weight]);
                value = self.graph.in_place(&[value, change]);
            }
        }
        let gate = (gate > 0).then(|| {
            let part = part(self);
            self.low_rank(gate, part)
        });
        let rate = self.low_rank(rate, a);
        let direction = self.graph.in_place(&[key]);
        let direction = self.graph.result(self.rows(hidden), &[direction]);
        let scaled = self.graph.in_place(&[key]);
        let product = self.graph.in_place(&[rate, scaled]);
        let change = self.graph.in_place(&[product, scaled]);
        let key = self.graph.in_place(&[key, change]);
        let away = self.graph.in_place(&[direction]);
        let towards = self.graph.in_place(&[direction, rate]);
        (vec![receptance, decay, key, value, away, towards], gate)
    }

    /// Keys, values, receptance and decay; the gate.
    fn sixth(&mut self, rwkv: &Rwkv, normed: Id, difference: Id) -> (Vec<Id>, Option<Id>) {
        let hidden = self.network.hidden;
        let [rank, decay, ..] = rwkv.ranks;
        let mixed = self.graph.in_place(&[difference]);
        let mixed = self.graph.in_place(&[mixed, normed]);
        let down = self.graph.result(self.rows(rank), &[mixed]);
        let down = self.graph.in_place(&[down]);
        let turned = self.graph.result(self.rows(rank), &[down]);
        let mut all = self.graph.result(self.rows(hidden.saturating_mul(5)), &[turned]);
        if rwkv.fused {
            for source in [None, Some(difference), Some(normed)] {
                let sources: Vec<Id> = [Some(all), source].into_iter().flatten().collect();
                all = self.graph.in_place(&sources);
            }
        }
        let part = |builder: &mut Self| {
            let view = builder.graph.view(all, [hidden, builder.batch.tokens, 1]);
            if rwkv.fused {
                return view;
            }
            let sum = builder.graph.result(builder.rows(hidden), &[view]);
            let product = builder.graph.in_place(&[sum, difference]);
            builder.graph.in_place(&[product, normed])
        };
        let [w, k, v, r, g] = std::array::from_fn(|_| part(self));
        let receptance = self.graph.result(self.rows(hidden), &[r]);
        let [key, value] = [k, v].map(|source| {
            let narrow = self.graph.result(self.rows(rwkv.key), &[source]);
            if rwkv.key == hidden { narrow } else { self.graph.result(self.rows(hidden), &[narrow]) }
        });
        let gate = self.graph.result(self.rows(hidden), &[g]);
        let gate = self.graph.in_place(&[gate]);
        let decay = self.low_rank(decay, w);
        (vec![key, value, receptance, decay], Some(gate))
    }

    /// The channel mix: what is added to the stream. The last token of both norms is kept for the next batch.
    pub(super) fn channel_mix(&mut self, rwkv: &Rwkv, first: Id, normed: Id) -> Id {
        let hidden = self.network.hidden;
        let width = rwkv.channel.unwrap_or(0);
        let ends = [first, normed].map(|norm| self.graph.view(norm, [hidden, 1, self.batch.sequences]));
        let kept = self.graph.sink(&ends);
        self.graph.expand(kept);
        let before = self.graph.result(Shape::f32([hidden, 1, self.batch.sequences]), &[]);
        let previous = self.shifted(normed, before);
        let difference = self.graph.in_place(&[previous, normed]);
        let mix = |builder: &mut Self| {
            let product = builder.graph.in_place(&[difference]);
            builder.graph.in_place(&[product, normed])
        };
        let source = mix(self);
        let gate = rwkv.gated.then(|| {
            let source = mix(self);
            let gate = self.graph.result(self.rows(hidden), &[source]);
            self.graph.in_place(&[gate])
        });
        let inner = self.graph.result(self.rows(width), &[source]);
        let inner = self.graph.in_place(&[inner]);
        let output = self.graph.result(self.rows(hidden), &[inner]);
        match gate {
            Some(gate) => self.graph.in_place(&[gate, output]),
            None => output,
        }
    }
}
