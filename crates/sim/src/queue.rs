//! What will happen, in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events by time; those of one moment in the order in which they were put in.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T> {
    /// When, which one of that moment, and where it lies. Small, because a heap moves its entries.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    pub(crate) fn push(&mut self, at_ms: u64, event: T) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(event);
        }
        self.sequence += 1;
        self.heap.push(Reverse((at_ms, self.sequence, slot)));
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ms, ..))| *at_ms)
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((at_ms, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at_ms, self.slots.get_mut(slot as usize)?.take()?))
    }
}
