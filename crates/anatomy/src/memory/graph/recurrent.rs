//! The graph of recurrent layers: Mamba's, linear attention's and their kin.

use super::Builder;
use super::blocks::Recurrent;
use crate::memory::allocator::{Id, Shape};

impl Builder<'_> {
    pub(super) fn recurrent(&mut self, recurrent: &Recurrent, input: Id) -> Id {
        let tokens = self.batch.tokens;
        let sequences = self.batch.sequences;
        let wide = self.graph.result(self.rows(recurrent.wide), &[input]);
        let mut inner = self.graph.view(wide, [recurrent.inner, tokens, 1]);
        if recurrent.kernel > 0 {
            let columns = tokens.saturating_add(sequences.saturating_mul(recurrent.kernel.saturating_sub(1)));
            let old = Shape::f32([recurrent.channels, recurrent.kernel.saturating_sub(1), sequences]);
            let old = self.graph.result(old, &[]);
            let joined = self.graph.result(Shape::f32([columns, recurrent.channels, 1]), &[old, inner]);
            let kept = self.graph.view(joined, [recurrent.kernel, recurrent.channels, 1]);
            let kept = self.graph.sink(&[kept]);
            self.graph.expand(kept);
            let convolved = self.graph.result(self.rows(recurrent.channels), &[joined]);
            inner = self.graph.in_place(&[convolved]);
        }
        let gate = self.graph.view(wide, [recurrent.inner, tokens, 1]);
        if recurrent.quadratic > 0 {
            return self.linear(recurrent, wide);
        }
        if recurrent.state == 0 {
            let product = self.graph.result(self.rows(recurrent.inner), &[inner, gate]);
            return self.graph.result(self.rows(self.network.hidden), &[product]);
        }
        let state = recurrent.state.saturating_mul(sequences);
        let output = if recurrent.spread {
            let old = self.graph.result(Shape::f32([state, 1, 1]), &[]);
            let part = self.graph.view(inner, [recurrent.inner, tokens, 1]);
            let queries = self.graph.result(self.rows(recurrent.inner), &[part]);
            let keys = self.graph.result(self.rows(recurrent.inner), &[part]);
            let shape = Shape::f32([recurrent.inner.saturating_mul(tokens).saturating_add(state), 1, 1]);
            self.graph.result(shape, &[queries, keys, part, old])
        } else {
            let mut sources = vec![inner];
            if recurrent.normed > 0 {
                let both = self.graph.result(self.rows(recurrent.normed.saturating_mul(3)), &[inner]);
                for _ in 0..2 {
                    let part = self.graph.view(both, [recurrent.normed, tokens, 1]);
                    sources.push(self.graph.result(self.rows(recurrent.normed), &[part]));
                }
            }
            let step = self.graph.result(self.rows(recurrent.inner), &[inner]);
            sources.push(self.graph.in_place(&[step]));
            let shape = Shape::f32([recurrent.inner.saturating_mul(tokens).saturating_add(state), 1, 1]);
            self.graph.result(shape, &sources)
        };
        let kept = self.graph.view(output, [state, 1, 1]);
        let kept = self.graph.sink(&[kept]);
        self.graph.expand(kept);
        let values = self.graph.view(output, [recurrent.inner, tokens, 1]);
        let skipped = self.graph.result(self.rows(recurrent.inner), &[inner]);
        let sum = self.graph.in_place(&[skipped, values]);
        let gate = self.graph.result(self.rows(recurrent.inner), &[gate]);
        let product = self.graph.result(self.rows(recurrent.inner), &[gate, sum]);
        self.graph.result(self.rows(self.network.hidden), &[product])
    }

    /// Linear attention with the decay between all tokens of a sequence in a micro-batch.
    pub(super) fn linear(&mut self, recurrent: &Recurrent, all: Id) -> Id {
        let tokens = self.batch.tokens;
        let sequences = self.batch.sequences.max(1);
        let each = tokens / sequences;
        let square = Shape::f32([each, each, recurrent.quadratic.saturating_mul(sequences)]);
        let distances = match self.decays {
            Some(distances) => distances,
            None => self.graph.input(square),
        };
        self.decays = Some(distances);
        let activated = self.graph.in_place(&[all]);
        let part = self.graph.view(activated, [recurrent.inner, tokens, 1]);
        let queries = self.graph.result(self.rows(recurrent.inner), &[part]);
        let earlier = self.graph.result(self.rows(recurrent.inner), &[queries]);
        let scores = self.graph.result(square, &[part]);
        let decay = self.graph.result(square, &[distances]);
        let scores = self.graph.in_place(&[scores, decay]);
        let turned = self.graph.result(self.rows(recurrent.inner), &[part]);
        let mixed = self.graph.result(self.rows(recurrent.inner), &[turned, scores]);
        let sum = self.graph.in_place(&[earlier, mixed]);
        self.graph.expand(sum);
        self.graph.result(self.rows(self.network.hidden), &[sum, activated])
    }
}
