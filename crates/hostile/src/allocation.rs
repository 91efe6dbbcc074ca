//! How much memory a function takes: an allocator that counts per thread.
//!
//! Whoever links this crate (the proof, its fuzz targets, its tests) gets it. Counting is two thread-local additions for each call;
//! no other thread is looked at, so tests may run side by side.
#![allow(unsafe_code, reason = "an allocator cannot be written without; it only counts and hands on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn note(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = LIVE.try_with(|live| {
        let now = live.get().wrapping_add(bytes);
        live.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

/// A layout is never larger than `isize::MAX`.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: every call is handed to the system's allocator as it came, and its answer handed back.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(signed(size).wrapping_sub(signed(layout.size())));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `work`, and tells how many bytes it held at most beyond what was held before.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let done = work();
    (done, usize::try_from(PEAK.get().wrapping_sub(before)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_at_once_is_counted_and_what_was_given_back_is_not() {
        let ((), one_by_one) = peak_of(|| (0..100).for_each(|_| drop(std::hint::black_box(vec![1_u8; 10_000]))));
        assert!((10_000..20_000).contains(&one_by_one), "{one_by_one}");
        let (_, together) = peak_of(|| (0..100).map(|_| vec![1_u8; 10_000]).collect::<Vec<_>>());
        assert!((1_000_000..1_100_000).contains(&together), "{together}");
        let (_, grown) = peak_of(|| {
            let mut bytes = Vec::<u8>::with_capacity(10);
            bytes.reserve_exact(100_000);
            std::hint::black_box(bytes)
        });
        assert!(grown >= 100_000, "{grown}");
    }
}
