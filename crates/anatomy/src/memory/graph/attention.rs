//! The graph of attention: to the layer's own tokens, to an encoder's, to what an indexer chose, to a latent.

use super::blocks::{Cross, Indexer, Mixer};
use super::{Builder, Places, Values};
use crate::memory::allocator::{Graph, Id, Shape};

impl Builder<'_> {
    pub(super) fn attention(&mut self, mixer: &Mixer, input: Id) -> Id {
        let Mixer::Heads {
            query,
            key,
            value,
            fused,
            heads,
            kv_heads,
            key_size,
            value_size,
            window,
            stores,
            expanded,
            indexer,
            rate,
        } = *mixer
        else {
            return input;
        };
        let tokens = self.batch.tokens;
        let (mut q, mut k, mut v);
        if fused {
            let shape = self.rows(query.saturating_add(key).saturating_add(value));
            let all = self.graph.result(shape, &[input]);
            let part = |graph: &mut Graph, size, heads| {
                let view = graph.view(all, [size, heads, tokens]);
                (view, Shape::f32([size, heads, tokens]))
            };
            let still = self.network.quirks.still;
            let (view, shape) = part(&mut self.graph, key_size, heads);
            q = if still { view } else { self.graph.result(shape, &[view, self.positions]) };
            let (view, shape) = part(&mut self.graph, key_size, kv_heads);
            k = if still { view } else { self.graph.result(shape, &[view, self.positions]) };
            v = part(&mut self.graph, value_size, kv_heads).0;
        } else {
            let project = |graph: &mut Graph, width: u64, size: u64| {
                let flat = graph.result(Shape::f32([width, tokens, 1]), &[input]);
                graph.view(flat, [size, width.checked_div(size).unwrap_or(1), tokens])
            };
            q = project(&mut self.graph, query, key_size);
            if query > heads.saturating_mul(key_size) {
                // The half that gates the output stays until then.
                let part = self.graph.view(q, [key_size, heads, tokens]);
                q = self.graph.result(self.heads(key_size, heads), &[part]);
            }
            let still = self.network.quirks.still;
            let turn = |graph: &mut Graph, of| if still { of } else { graph.in_place(&[of, self.positions]) };
            q = turn(&mut self.graph, q);
            k = project(&mut self.graph, key.max(1), key_size);
            k = turn(&mut self.graph, k);
            v = project(&mut self.graph, value.max(1), value_size);
        }
        if let Some((both, latent)) = expanded {
            let compressed = self.graph.result(self.rows(latent), &[input]);
            let straight = self.graph.result(self.rows(both), &[compressed]);
            let part = self.graph.view(straight, [value_size, kv_heads, tokens]);
            v = self.graph.result(self.heads(value_size, kv_heads), &[part]);
            let part = self.graph.view(straight, [value_size, kv_heads, tokens]);
            let turned = self.graph.view(compressed, [1, 1, tokens]);
            k = self.graph.result(self.heads(key_size, kv_heads), &[part, turned]);
        }
        if self.batch.rotates_keys {
            let by = self.rotation();
            q = self.graph.result(self.graph.shape(q), &[q, by]);
            k = self.graph.result(self.graph.shape(k), &[k, by]);
        }
        if self.batch.rotates_values {
            let by = self.rotation();
            v = self.graph.result(self.graph.shape(v), &[v, by]);
        }
        self.graph.expand(q);
        let cached = stores || self.network.values > 0;
        let places = self.places(window, stores);
        if stores {
            self.graph.expand(v);
            self.graph.expand(k);
            for (tensor, place) in [(k, places.keys), (v, places.values)] {
                let whole = self.graph.view(tensor, self.graph.shape(tensor).size);
                let stored = self.graph.sink(&[whole, place]);
                self.graph.expand(stored);
            }
        } else if !cached {
            self.graph.expand(k);
            self.graph.expand(v);
        }
        let mut cells = places.cells;
        let mask = match rate {
            0 => self.indexed(indexer, input, places.mask, cells),
            _ => {
                cells = cells.saturating_add(self.groups(rate));
                self.grouped(rate, key_size, indexer, input, places)
            }
        };
        let turned = self.graph.view(q, [key_size, tokens, heads]);
        let mut sources = vec![turned, mask];
        let output = if self.batch.flash && !self.network.quirks.biased_scores {
            let streams = self.batch.streams;
            for (single, width, own) in [(self.batch.single_keys, key, k), (self.batch.single_values, value, v)] {
                let half = Shape { element: 2, size: [width, cells, streams] };
                if !cached {
                    let own = self.graph.view(own, self.graph.shape(own).size);
                    sources.push(self.graph.result(half, &[own]));
                } else if single {
                    sources.push(self.graph.result(half, &[]));
                }
            }
            let attended = self.graph.result(self.heads(value_size, heads), &sources);
            self.graph.view(attended, [value_size.saturating_mul(heads), tokens, 1])
        } else {
            // Values that are not in the cache are turned first, as are those that were cached for flash attention.
            let (key, values) = if !cached {
                let part = self.graph.view(v, self.graph.shape(v).size);
                (Some(k), Some(self.graph.result(self.graph.shape(v), &[part])))
            } else if self.batch.flash {
                let turned = Shape { element: 2, size: [value, cells, self.batch.streams] };
                (None, Some(self.graph.result(turned, &[])))
            } else {
                (None, None)
            };
            self.scores(turned, mask, cells, heads, Values { key, values, size: value_size, expanded: None })
        };
        self.graph.expand(output);
        let output = if self.batch.rotates_values {
            let by = self.rotation();
            self.graph.result(self.graph.shape(output), &[output, by])
        } else {
            output
        };
        self.graph.result(self.rows(self.network.hidden), &[output])
    }

    /// Attention to what an encoder gave for each of its tokens, of which nothing is cached.
    pub(super) fn cross(&mut self, cross: &Cross, input: Id) -> Id {
        let tokens = self.batch.tokens;
        let cells = self.network.quirks.encoded;
        let input = self.norm(input);
        let (encoded, mask) = match self.encoded {
            Some(inputs) => inputs,
            None => {
                let element = if self.batch.flash { 2 } else { 4 };
                let encoded = self.graph.input(Shape::f32([self.network.hidden, cells, 1]));
                (encoded, self.graph.input(Shape { element, size: [cells, tokens, 1] }))
            }
        };
        self.encoded = Some((encoded, mask));
        let query = self.graph.result(self.rows(cross.query), &[input]);
        let [key, value] =
            [cross.key, cross.value].map(|width| self.graph.result(Shape::f32([width, cells, 1]), &[encoded]));
        for tensor in [query, key, value] {
            self.graph.expand(tensor);
        }
        let size = cross.value.checked_div(cross.heads).unwrap_or(0);
        let output = if self.batch.flash {
            let mut sources = vec![query, mask];
            for (tensor, width) in [(key, cross.key), (value, cross.value)] {
                let part = self.graph.view(tensor, self.graph.shape(tensor).size);
                sources.push(self.graph.result(Shape { element: 2, size: [width, cells, 1] }, &[part]));
            }
            self.graph.result(self.heads(size, cross.heads), &sources)
        } else {
            let part = self.graph.view(value, self.graph.shape(value).size);
            let turned = self.graph.result(self.graph.shape(value), &[part]);
            // Biases by distance are those of self-attention.
            let scores = self.graph.result(Shape::f32([cells, tokens, cross.heads]), &[key, query]);
            let scores = self.graph.in_place(&[scores, mask]);
            let mixed = self.graph.result(Shape::f32([size, tokens, cross.heads]), &[turned, scores]);
            let mixed = self.graph.view(mixed, [size, cross.heads, tokens]);
            self.graph.result(self.rows(cross.value), &[mixed])
        };
        self.graph.expand(output);
        let output = self.graph.view(output, [cross.value, tokens, 1]);
        self.graph.result(self.rows(self.network.hidden), &[output])
    }

    /// Attention with the whole matrix of scores.
    pub(super) fn scores(&mut self, query: Id, mask: Id, cells: u64, heads: u64, values: Values) -> Id {
        let tokens = self.batch.tokens;
        let shape = Shape::f32([cells, tokens, heads]);
        let sources: Vec<Id> = [values.key, Some(query)].into_iter().flatten().collect();
        let mut scores = self.graph.result(shape, &sources);
        if self.network.quirks.biased_scores {
            let distances = self.distances(cells);
            let biases = self.graph.result(shape, &[distances]);
            let biases = self.graph.view(biases, shape.size);
            let biases = self.graph.result(shape, &[biases]);
            scores = self.graph.in_place(&[scores, biases]);
        }
        let scores = self.graph.in_place(&[scores, mask]);
        let sources: Vec<Id> = [values.values, Some(scores)].into_iter().flatten().collect();
        let width = values.expanded.unwrap_or(values.size);
        let mut mixed = self.graph.result(Shape::f32([width, tokens, heads]), &sources);
        if values.expanded.is_some() {
            mixed = self.graph.result(Shape::f32([values.size, tokens, heads]), &[mixed]);
        }
        let turned = self.graph.view(mixed, [values.size, heads, tokens]);
        self.graph.result(self.rows(values.size.saturating_mul(heads)), &[turned])
    }

    /// Where the distance of each token to each cell is written, in the order of the inputs.
    pub(super) fn distances(&mut self, cells: u64) -> Id {
        let distances = match self.distances {
            Some(distances) => distances,
            None => self.graph.input(Shape { element: 4, size: [cells, self.batch.tokens, 1] }),
        };
        self.distances = Some(distances);
        distances
    }

    /// Groups of older tokens in a cache.
    pub(super) fn groups(&self, rate: u64) -> u64 {
        (self.batch.cells / rate.max(1)).max(256)
    }

    /// Sparse attention: an indexer scores all cells, and the best of them unmask. Layers without an indexer of their
    /// own unmask what an earlier one chose.
    pub(super) fn indexed(&mut self, indexer: Option<Indexer>, input: Id, mask: Id, cells: u64) -> Id {
        let Some(indexer) = indexer else { return mask };
        // Blocks are not chosen where sequences lie mixed in one cache.
        let apart = self.batch.sequences == 1 || self.batch.streams > 1;
        if indexer.blocks && !(self.batch.flash && apart) {
            return mask;
        }
        let tokens = if indexer.blocks { self.batch.tokens / self.batch.streams.max(1) } else { self.batch.tokens };
        let all = Shape::f32([cells, tokens, 1]);
        let order = (indexer.width > 0).then(|| {
            let query = self.graph.result(self.rows(indexer.width), &[input]);
            let query = self.graph.result(self.rows(indexer.width), &[query]);
            let scores = if indexer.fused {
                let own = match self.choosing {
                    Some(own) => own,
                    None => self.graph.input(Shape { element: 2, ..all }),
                };
                self.choosing = Some(own);
                self.graph.result(all, &[query, own])
            } else if self.network.rate > 0 {
                self.blocks_scored(indexer, query, mask, cells)
            } else {
                let each = Shape::f32([cells, tokens, indexer.heads]);
                let scores = self.graph.result(each, &[query]);
                let turned = self.graph.result(each, &[scores]);
                self.graph.result(all, &[turned, mask])
            };
            let scores = if self.network.pooled { self.graph.result(all, &[scores]) } else { scores };
            let order = self.graph.result(all, &[scores]);
            // Without flash attention the mask comes after the scores.
            if self.batch.flash {
                self.graph.expand(order);
            }
            order
        });
        let empty = self.graph.result(self.graph.shape(mask), &[mask]);
        let zeros = self.graph.input(self.zeros(cells));
        let zeros = self.graph.in_place(&[zeros]);
        let written = self.graph.sink(&[zeros]);
        self.graph.expand(written);
        let view = self.graph.view(empty, self.graph.shape(mask).size);
        let sources: Vec<Id> = [Some(view), Some(mask), order].into_iter().flatten().collect();
        let sum = self.graph.result(self.graph.shape(mask), &sources);
        if self.batch.flash {
            self.graph.expand(sum);
        }
        sum
    }

    /// Scores of blocks of cells, which each cell of a block takes over (Qwen 4).
    pub(super) fn blocks_scored(&mut self, indexer: Indexer, query: Id, mask: Id, cells: u64) -> Id {
        let tokens = self.batch.tokens;
        let blocks = cells.div_ceil(self.network.rate.max(1));
        let all = Shape::f32([cells, tokens, 1]);
        let each = self.graph.result(Shape::f32([blocks, tokens, indexer.heads]), &[query]);
        let each = self.graph.in_place(&[each]);
        let one = Shape::f32([blocks, tokens, 1]);
        let part = self.graph.view(each, one.size);
        let sum = self.graph.result(one, &[part]);
        let part = self.graph.view(each, one.size);
        let sum = self.graph.in_place(&[sum, part]);
        let turned = self.graph.view(sum, one.size);
        let turned = self.graph.result(one, &[turned]);
        let spread = self.graph.result(all, &[turned]);
        let spread = self.graph.view(spread, all.size);
        let back = self.graph.result(all, &[spread]);
        let mask = if self.batch.flash { self.graph.result(all, &[mask]) } else { mask };
        self.graph.in_place(&[back, mask])
    }

    /// Attention to single tokens of a window and to groups of older ones: keys of both are joined, with masks of
    /// their own for groups.
    pub(super) fn grouped(&mut self, rate: u64, size: u64, indexer: Option<Indexer>, input: Id, places: Places) -> Id {
        let tokens = self.batch.tokens;
        let groups = self.groups(rate);
        let mask = Shape { element: 2, size: [groups, tokens, 1] };
        let seen = self.graph.input(mask);
        let own = self.graph.input(mask);
        let mut sources = vec![places.mask, seen];
        if let Some(indexer) = indexer {
            let query = self.graph.result(self.rows(indexer.width), &[input]);
            let query = self.graph.result(self.rows(indexer.width), &[query]);
            let scores = self.graph.result(Shape::f32([groups, tokens, 1]), &[query, own]);
            sources.push(self.graph.result(Shape::f32([groups, tokens, 1]), &[scores]));
        }
        let keys = Shape { element: 2, size: [size, places.cells.saturating_add(groups), self.batch.streams] };
        sources.push(self.graph.result(keys, &[]));
        let joined = Shape { element: 2, size: [places.cells.saturating_add(groups), tokens, 1] };
        let joined = self.graph.result(joined, &sources);
        self.graph.expand(joined);
        joined
    }

    /// What unmasks the cells that an indexer chose: each layer has its own, all through the run.
    pub(super) fn zeros(&self, cells: u64) -> Shape {
        let chosen = if self.network.top_k == 0 { cells } else { cells.min(self.network.top_k) };
        Shape::f32([chosen, self.batch.tokens, 1])
    }

    pub(super) fn latent(&mut self, mixer: &Mixer, input: Id) -> Id {
        let Mixer::Latent { heads, query_rank, query, rank, rotated, value, window, gate, indexer } = *mixer else {
            return input;
        };
        let tokens = self.batch.tokens;
        let size = query.checked_div(heads).unwrap_or(0);
        let straight = size.saturating_sub(rotated);
        let source = match query_rank {
            Some(rank) => {
                let down = self.graph.result(self.rows(rank), &[input]);
                self.norm(down)
            }
            None => input,
        };
        let q = self.graph.result(self.rows(query), &[source]);
        let compressed = self.graph.result(self.rows(rank.saturating_add(rotated)), &[input]);
        let rope = |graph: &mut Graph, of: Id, heads: u64, positions: Id| {
            let part = graph.view(of, [rotated, heads, tokens]);
            graph.result(Shape::f32([rotated, heads, tokens]), &[part, positions])
        };
        let turned_query = rope(&mut self.graph, q, heads, self.positions);
        let rest = self.graph.view(q, [straight, tokens, heads]);
        let absorbed = self.graph.result(Shape::f32([rank, tokens, heads]), &[rest]);
        let absorbed = self.graph.view(absorbed, [rank, heads, tokens]);
        let full = self.graph.result(self.heads(rank.saturating_add(rotated), heads), &[absorbed, turned_query]);
        self.graph.expand(full);
        let part = self.graph.view(compressed, [rank, tokens, 1]);
        let latent = self.graph.result(self.rows(rank), &[part]);
        let latent = self.graph.in_place(&[latent]);
        self.graph.expand(latent);
        let turned_key = rope(&mut self.graph, compressed, 1, self.positions);
        let key = self.graph.result(self.rows(rank.saturating_add(rotated)), &[latent, turned_key]);
        self.graph.expand(key);
        let places = self.places(window, true);
        let stored = self.graph.sink(&[key, places.keys]);
        self.graph.expand(stored);
        let cells = places.cells;
        let mask = self.indexed(indexer, source, places.mask, cells);
        // Gated attention turns its queries once more, and the gate waits for the output.
        let full = match gate {
            0 => full,
            _ => {
                let copy = self.graph.result(self.graph.shape(full), &[full, input]);
                self.graph.result(self.graph.shape(full), &[copy, full])
            }
        };
        let turned = self.graph.view(full, [rank.saturating_add(rotated), tokens, heads]);
        let output = if self.batch.flash {
            let mut sources = vec![turned, mask];
            if self.batch.single_keys {
                for width in [rank.saturating_add(rotated), rank] {
                    let half = Shape { element: 2, size: [width, cells, self.batch.streams] };
                    sources.push(self.graph.result(half, &[]));
                }
            }
            let attended = self.graph.result(self.heads(rank, heads), &sources);
            let attended = self.graph.view(attended, [rank, tokens, heads]);
            let expanded = self.graph.result(Shape::f32([value, tokens, heads]), &[attended]);
            let expanded = self.graph.view(expanded, [value, heads, tokens]);
            self.graph.result(self.rows(value.saturating_mul(heads)), &[expanded])
        } else {
            // Values that are a part of the keys are turned first.
            let part = Shape { element: self.batch.key_element, size: [rank, cells, self.batch.streams] };
            let values = self.graph.result(part, &[]);
            self.scores(
                turned,
                mask,
                cells,
                heads,
                Values { key: None, values: Some(values), size: value, expanded: Some(rank) },
            )
        };
        self.graph.expand(output);
        self.graph.result(self.rows(self.network.hidden), &[output])
    }
}
