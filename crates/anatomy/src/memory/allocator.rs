//! How much a graph of tensors needs when memory is reused as soon as nobody reads it any more.
//!
//! llama.cpp reserves its compute buffer by walking the graph once with ggml's allocator (`ggml/src/ggml-alloc.c`):
//! each result takes the smallest free gap that holds it, some operations write over their input, and a tensor is
//! freed after its last reader. This walks a graph in the same way, so that the size of the buffer follows from the
//! model's shapes.

/// Offsets and sizes of tensors in a buffer are multiples of this (ggml's CPU backend).
const ALIGNMENT: u64 = 32;

/// A tensor of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(usize);

/// What decides whether one tensor may be written over another: type, dimensions, and whether it is contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of an element.
    pub(super) element: u64,
    /// Dimensions, innermost first.
    pub(super) size: [u64; 3],
}

impl Shape {
    /// Single-precision numbers.
    pub(super) fn f32(size: [u64; 3]) -> Self {
        Shape { element: 4, size }
    }

    fn bytes(self) -> u64 {
        let elements = self.size.iter().fold(1u64, |product, size| product.saturating_mul(*size));
        self.element.saturating_mul(elements).min(u64::MAX / 4).next_multiple_of(ALIGNMENT)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its own memory from the start of the run.
    Input,
    /// A result.
    Result,
    /// A result that may be written over one of its sources.
    InPlace,
    /// A step that only reads: what it writes goes to the cache, or is nothing.
    Sink,
    /// Another look at a tensor's memory. Nothing is written over what is only looked at.
    View { of: usize },
}

#[derive(Debug)]
struct Tensor {
    shape: Shape,
    kind: Kind,
    /// Where its sources stand in [`Graph::links`], and how many they are.
    sources: (usize, usize),
    queued: bool,
    /// Handed out after the run: its memory is never given to another.
    kept: bool,
}

/// Tensors, and the order in which they are computed.
#[derive(Debug)]
pub(super) struct Graph {
    tensors: Vec<Tensor>,
    /// Sources of all tensors, one after the other.
    links: Vec<usize>,
    order: Vec<usize>,
}

impl Default for Graph {
    fn default() -> Self {
        // What the layers of most models take: thousands of graphs are built for a curve.
        Graph { tensors: Vec::with_capacity(1024), links: Vec::with_capacity(2048), order: Vec::with_capacity(1024) }
    }
}

impl Graph {
    fn add(&mut self, shape: Shape, kind: Kind, sources: &[Id]) -> Id {
        let start = self.links.len();
        self.links.extend(sources.iter().map(|source| source.0));
        let sources = (start, sources.len());
        self.tensors.push(Tensor { shape, kind, sources, queued: false, kept: false });
        Id(self.tensors.len() - 1)
    }

    /// What is written before the run: tokens, positions, masks.
    pub(super) fn input(&mut self, shape: Shape) -> Id {
        self.add(shape, Kind::Input, &[])
    }

    /// A result with memory of its own.
    pub(super) fn result(&mut self, shape: Shape, sources: &[Id]) -> Id {
        self.add(shape, Kind::Result, sources)
    }

    /// A step that only reads, such as storing keys in the cache.
    pub(super) fn sink(&mut self, sources: &[Id]) -> Id {
        self.add(Shape::f32([0; 3]), Kind::Sink, sources)
    }

    /// A result in the shape of its first source, over which it may be written.
    pub(super) fn in_place(&mut self, sources: &[Id]) -> Id {
        let shape = self.shape(sources.first().copied().unwrap_or(Id(0)));
        self.add(shape, Kind::InPlace, sources)
    }

    /// Marks a tensor as handed out after the run.
    pub(super) fn keep(&mut self, id: Id) {
        if let Some(tensor) = self.tensors.get_mut(id.0) {
            tensor.kept = true;
        }
    }

    /// A tensor or a part of it in other dimensions.
    pub(super) fn view(&mut self, of: Id, size: [u64; 3]) -> Id {
        let shape = Shape { element: self.shape(of).element, size };
        let root = match self.tensors.get(of.0).map(|tensor| tensor.kind) {
            Some(Kind::View { of }) => of,
            _ => of.0,
        };
        self.add(shape, Kind::View { of: root }, &[of])
    }

    /// Shape of a tensor.
    pub(super) fn shape(&self, id: Id) -> Shape {
        self.tensors.get(id.0).map_or(Shape::f32([0; 3]), |tensor| tensor.shape)
    }

    /// Queues a tensor after everything that it is made from, first source first.
    pub(super) fn expand(&mut self, id: Id) {
        let mut stack = vec![(id.0, 0)];
        while let Some((index, next)) = stack.pop() {
            let Some(tensor) = self.tensors.get_mut(index) else { continue };
            if tensor.queued {
                continue;
            }
            let (start, count) = tensor.sources;
            if let Some(source) = self.links.get(start + next).copied().filter(|_| next < count) {
                stack.push((index, next + 1));
                stack.push((source, 0));
                continue;
            }
            tensor.queued = true;
            self.order.push(index);
        }
    }

    fn sources(&self, tensor: &Tensor) -> &[usize] {
        let (start, count) = tensor.sources;
        self.links.get(start..start + count).unwrap_or_default()
    }

    /// Bytes of the buffer in which the queued tensors are computed.
    pub(super) fn buffer(&self) -> u64 {
        Run::new(self).peak()
    }
}

/// State of a tensor during a run.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    readers: u32,
    views: u32,
    offset: u64,
    allocated: bool,
}

struct Run<'g> {
    graph: &'g Graph,
    places: Vec<Place>,
    free: Free,
}

impl<'g> Run<'g> {
    fn new(graph: &'g Graph) -> Self {
        Run { graph, places: vec![Place::default(); graph.tensors.len()], free: Free::default() }
    }

    fn peak(mut self) -> u64 {
        // Inputs first, even those that nobody reads.
        for (index, tensor) in self.graph.tensors.iter().enumerate() {
            if tensor.kind == Kind::Input {
                self.allocate(index);
            }
        }
        for index in &self.graph.order {
            let Some(tensor) = self.graph.tensors.get(*index) else { continue };
            if let Kind::View { of } = tensor.kind
                && let Some(place) = self.places.get_mut(of)
            {
                place.views += 1;
            }
            for source in self.graph.sources(tensor) {
                if let Some(place) = self.places.get_mut(*source) {
                    place.readers += 1;
                }
            }
        }
        for index in &self.graph.order {
            self.allocate(*index);
            let Some(tensor) = self.graph.tensors.get(*index) else { continue };
            for source in self.graph.sources(tensor) {
                self.release(*source);
            }
        }
        self.free.peak
    }

    fn place(&self, index: usize) -> Place {
        self.places.get(index).copied().unwrap_or_default()
    }

    fn allocate(&mut self, index: usize) {
        let Some(tensor) = self.graph.tensors.get(index) else { return };
        if self.place(index).allocated || matches!(tensor.kind, Kind::View { .. } | Kind::Sink) {
            return;
        }
        let over = (tensor.kind == Kind::InPlace)
            .then(|| self.graph.sources(tensor).iter().find_map(|source| self.reusable(*source, tensor.shape)))
            .flatten();
        let offset = match over {
            Some(parent) => {
                let offset = self.place(parent).offset;
                if let Some(place) = self.places.get_mut(parent) {
                    place.allocated = false;
                }
                offset
            }
            None => self.free.take(tensor.shape.bytes()),
        };
        if let Some(place) = self.places.get_mut(index) {
            place.offset = offset;
            place.allocated = true;
        }
    }

    /// The tensor whose memory a result of this shape may take over from its source, if it may.
    fn reusable(&self, source: usize, shape: Shape) -> Option<usize> {
        let tensor = self.graph.tensors.get(source)?;
        let place = self.place(source);
        let last = place.readers == 1 && place.views == 0 && !tensor.kept;
        (tensor.shape == shape && last && place.allocated).then_some(source)
    }

    /// One reader of a tensor is done.
    fn release(&mut self, index: usize) {
        let Some(tensor) = self.graph.tensors.get(index) else { return };
        let Some(place) = self.places.get_mut(index) else { return };
        place.readers = place.readers.saturating_sub(1);
        if place.readers > 0 || place.views > 0 {
            return;
        }
        let freed = match tensor.kind {
            Kind::View { of } => {
                let Some(root) = self.places.get_mut(of) else { return };
                root.views = root.views.saturating_sub(1);
                (root.views == 0 && root.readers == 0).then_some(of)
            }
            _ => Some(index),
        };
        let Some(freed) = freed else { return };
        if let (Some(place), Some(tensor)) = (self.places.get_mut(freed), self.graph.tensors.get(freed))
            && place.allocated
            && !tensor.kept
        {
            place.allocated = false;
            self.free.give(place.offset, tensor.shape.bytes());
        }
    }
}

/// Gaps below the end of the buffer, by offset, and the buffer's size so far.
#[derive(Debug, Default)]
struct Free {
    gaps: Vec<(u64, u64)>,
    /// End of what is in use; everything behind it is free.
    end: u64,
    peak: u64,
}

impl Free {
    /// Offset of the smallest gap that holds `size` bytes, the last of equals; the end where there is none.
    fn take(&mut self, size: u64) -> u64 {
        let fits = self.gaps.iter().enumerate().filter(|(_, gap)| gap.1 >= size);
        let best = fits.min_by(|a, b| a.1.1.cmp(&b.1.1).then(b.0.cmp(&a.0))).map(|(index, _)| index);
        let offset = match best.and_then(|index| Some((index, self.gaps.get_mut(index)?))) {
            Some((index, gap)) => {
                let offset = gap.0;
                *gap = (gap.0.saturating_add(size), gap.1 - size);
                if gap.1 == 0 {
                    self.gaps.remove(index);
                }
                offset
            }
            None => {
                let offset = self.end;
                self.end = self.end.saturating_add(size);
                offset
            }
        };
        self.peak = self.peak.max(offset.saturating_add(size));
        offset
    }

    fn give(&mut self, offset: u64, size: u64) {
        if size == 0 {
            return;
        }
        let index = self.gaps.partition_point(|gap| gap.0 < offset);
        self.gaps.insert(index, (offset, size));
        self.merge(index);
        if index > 0 {
            self.merge(index - 1);
        }
        if let Some((start, length)) = self.gaps.last().copied()
            && start.saturating_add(length) == self.end
        {
            self.end = start;
            self.gaps.pop();
        }
    }

    /// Joins a gap with the next where they touch.
    fn merge(&mut self, index: usize) {
        let (Some(gap), Some(next)) = (self.gaps.get(index).copied(), self.gaps.get(index + 1).copied()) else {
            return;
        };
        if gap.0.saturating_add(gap.1) == next.0 {
            self.gaps.remove(index + 1);
            if let Some(gap) = self.gaps.get_mut(index) {
                gap.1 = gap.1.saturating_add(next.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Shape = Shape { element: 4, size: [64, 1, 1] };

    #[test]
    fn a_chain_needs_two_tensors() {
        let mut graph = Graph::default();
        let mut last = graph.input(ROW);
        for _ in 0..5 {
            last = graph.result(ROW, &[last]);
        }
        graph.expand(last);
        assert_eq!(graph.buffer(), 2 * 256);
    }

    #[test]
    fn what_may_write_over_its_source_needs_one() {
        let mut graph = Graph::default();
        let mut last = graph.input(ROW);
        for _ in 0..5 {
            last = graph.in_place(&[last]);
        }
        graph.expand(last);
        assert_eq!(graph.buffer(), 256);
        // Not while somebody else still reads it.
        let mut graph = Graph::default();
        let input = graph.input(ROW);
        let over = graph.in_place(&[input]);
        let sum = graph.in_place(&[over, input]);
        graph.expand(sum);
        assert_eq!(graph.buffer(), 2 * 256);
    }

    #[test]
    fn a_view_keeps_its_tensor() {
        let mut graph = Graph::default();
        let input = graph.input(ROW);
        let wide = graph.result(Shape::f32([64, 4, 1]), &[input]);
        let part = graph.view(wide, [64, 1, 1]);
        let next = graph.result(ROW, &[part]);
        let last = graph.result(ROW, &[next]);
        graph.expand(last);
        // The view's reader takes the place of the input.
        assert_eq!(graph.buffer(), 5 * 256);
    }

    #[test]
    fn gaps_are_joined_and_taken_smallest_first() {
        let mut free = Free::default();
        let places: Vec<u64> = [32, 64, 96, 32].iter().map(|size| free.take(*size)).collect();
        assert_eq!(places, [0, 32, 96, 192]);
        free.give(0, 32);
        free.give(96, 96);
        assert_eq!(free.take(64), 96);
        free.give(32, 64);
        assert_eq!(free.take(96), 0);
        assert_eq!(free.peak, 224);
    }
}
