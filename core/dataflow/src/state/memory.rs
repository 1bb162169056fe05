//! Memory for rows: chunks that never move, large ones on huge pages.
//!
//! Rows of large state are met in no order, so that with pages of 4 KiB nearly each of them costs a walk through page tables besides the
//! miss of the cache. Blocks of the tables of all key groups are therefore cut from common chunks, which are large enough for huge pages.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

/// The size of a huge page.
const HUGE: usize = 2 * 1024 * 1024;
/// The first chunk of an operator.
const FIRST: usize = 16 * 1024;
/// The largest chunk.
const LARGEST: usize = 16 * HUGE;

/// Memory that is freed with the last reference to it.
pub(super) struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory and gives nobody access to it by itself.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(size: usize, align: usize) -> Chunk {
        let huge = size >= HUGE;
        let (size, align) = if huge { (size.next_multiple_of(HUGE), align.max(HUGE)) } else { (size, align) };
        let layout =
            Layout::from_size_align(size, align).expect("a block of rows is much smaller than the address space");
        // SAFETY: the size is not zero: blocks have rows, and rows have keys.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        if huge {
            advise_huge_pages(start, size);
        }
        Chunk { start, layout }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and this was the last reference to it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn advise_huge_pages(start: NonNull<u8>, size: usize) {
    // SAFETY: the range is ours and begins at a page; the advice changes nothing but the size of its pages. Where it is not taken,
    // everything works with small ones.
    let _ = unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn advise_huge_pages(_start: NonNull<u8>, _size: usize) {}

/// Cuts blocks from chunks; the chunks grow with what has been asked for.
#[derive(Default)]
pub(super) struct Arena {
    chunk: Option<Arc<Chunk>>,
    /// Bytes of the chunk that are given away.
    used: usize,
    total: usize,
}

impl Arena {
    /// Bytes of all chunks so far.
    #[inline]
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// A block, and what keeps it alive. It is not initialized.
    pub(super) fn take(&mut self, layout: Layout) -> (NonNull<u8>, Arc<Chunk>) {
        let fits = self.chunk.as_ref().filter(|chunk| {
            let start = self.used.next_multiple_of(layout.align());
            layout.align() <= chunk.layout.align() && start + layout.size() <= chunk.layout.size()
        });
        let chunk = match fits {
            Some(chunk) => chunk.clone(),
            None => {
                let wanted =
                    if self.total < HUGE { self.total.max(FIRST) } else { (self.total / 8).clamp(HUGE, LARGEST) };
                let chunk = Arc::new(Chunk::new(wanted.max(layout.size()), layout.align()));
                self.total += chunk.layout.size();
                self.used = 0;
                self.chunk.insert(chunk).clone()
            }
        };
        let start = self.used.next_multiple_of(layout.align());
        self.used = start + layout.size();
        // SAFETY: the block lies in the chunk, as was looked at above or the chunk was made for it.
        (unsafe { chunk.start.add(start) }, chunk)
    }
}

/// Asks for a cache line to be loaded into the first cache. Any address will do: it is no access.
#[inline(always)]
pub(super) fn prefetch_near<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint to the processor, which reads nothing and never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// As [`prefetch_near`], into the second cache: more lines can be on their way there at a time.
#[inline(always)]
pub(super) fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint to the processor, which reads nothing and never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
