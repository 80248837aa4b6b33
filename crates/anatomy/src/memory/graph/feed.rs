//! The graph of feed-forward networks: dense ones and experts.

use super::Builder;
use super::blocks::{Dense, Feed, Gate};
use crate::memory::allocator::{Id, Shape};

impl Builder<'_> {
    pub(super) fn dense(&mut self, dense: Dense, input: Id) -> Id {
        let shape = self.rows(dense.width);
        let inner = match dense.gate {
            Gate::None => {
                let up = self.graph.result(shape, &[input]);
                self.graph.in_place(&[up])
            }
            Gate::Beside => {
                let gate = self.graph.result(shape, &[input]);
                let up = self.graph.result(shape, &[input]);
                self.graph.result(shape, &[gate, up])
            }
            Gate::Fused => {
                let both = self.graph.result(self.rows(dense.width.saturating_mul(2)), &[input]);
                self.graph.result(shape, &[both])
            }
        };
        self.graph.result(self.rows(self.network.hidden), &[inner])
    }

    pub(super) fn feed(&mut self, feed: &Feed, input: Id) -> Id {
        match feed {
            Feed::None => input,
            Feed::Dense(dense) => self.dense(*dense, input),
            Feed::Experts { count, used, width, gated, merged, biased, latent, shared, beside } => {
                let tokens = self.batch.tokens;
                let logits = self.graph.result(self.rows(*count), &[input]);
                let probabilities = self.graph.in_place(&[logits]);
                let order = self.graph.result(self.rows(*count), &[probabilities]);
                let chosen = self.graph.view(order, [*used, tokens, 1]);
                let weights = self.graph.result(self.rows(*used), &[probabilities, chosen]);
                let weights = self.graph.in_place(&[weights]);
                self.graph.expand(weights);
                let entry = if *latent == self.network.hidden {
                    input
                } else {
                    self.graph.result(self.rows(*latent), &[input])
                };
                let entry = if self.network.quirks.weighted_inputs {
                    let repeated = self.graph.result(self.heads(*latent, *used), &[entry]);
                    self.graph.in_place(&[repeated, weights])
                } else {
                    entry
                };
                let shape = self.heads(*width, *used);
                let project = |builder: &mut Self, shape: Shape, from: Id| {
                    let result = builder.graph.result(shape, &[from, chosen]);
                    if *biased { builder.graph.in_place(&[result]) } else { result }
                };
                let inner = if *merged {
                    let both = project(self, self.heads(width.saturating_mul(2), *used), entry);
                    self.graph.result(shape, &[both])
                } else if *gated {
                    let gate = project(self, shape, entry);
                    let up = project(self, shape, entry);
                    self.graph.result(shape, &[gate, up])
                } else {
                    let up = project(self, shape, entry);
                    self.graph.in_place(&[up])
                };
                let down = project(self, self.heads(*latent, *used), inner);
                let weighted =
                    if self.network.quirks.weighted_inputs { down } else { self.graph.in_place(&[down, weights]) };
                self.graph.expand(weighted);
                let views: Vec<Id> =
                    (0..(*used).min(256)).map(|_| self.graph.view(weighted, [*latent, tokens, 1])).collect();
                for view in &views {
                    self.graph.expand(*view);
                }
                let mut sum = self.graph.result(self.rows(*latent), views.get(..2).unwrap_or(&views));
                self.graph.expand(sum);
                for view in views.iter().skip(2) {
                    sum = self.graph.in_place(&[sum, *view]);
                    self.graph.expand(sum);
                }
                if *latent != self.network.hidden {
                    sum = self.graph.result(self.rows(self.network.hidden), &[sum]);
                }
                for dense in [shared, beside].into_iter().flatten() {
                    let other = self.dense(*dense, input);
                    sum = self.graph.in_place(&[sum, other]);
                }
                sum
            }
        }
    }
}
