//! The rows of a key group: the key and a cell of each state beside each other.
//!
//! A row is laid out like a struct of `Option<K>` and an `Option` of each column's content, whose types are known only when the operator
//! opens. What a record needs is thus in neighbouring cache lines. Rows lie in blocks that never move, in the order of their slots: growing
//! copies nothing, and a snapshot goes through memory from one end to the other.
//!
//! All that deals with memory without types is here and in `memory`. Outside, a cell is asked for by its type, which is compared with that of
//! its column each time.

use std::alloc::Layout;
use std::any::TypeId;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use super::index::{NO_SLOT, Slot};
use super::memory::{Arena, Chunk, prefetch};

/// The type of a column's cells.
#[derive(Clone, Copy)]
pub(super) struct CellType {
    content: TypeId,
    layout: Layout,
    /// Makes memory an empty cell.
    init: unsafe fn(NonNull<u8>),
    /// Drops a cell's content.
    drop: Option<unsafe fn(NonNull<u8>)>,
}

impl CellType {
    /// Cells of `Option<C>`.
    pub(super) fn of<C: Send + 'static>() -> CellType {
        /// # Safety
        /// Memory of the layout of `Option<C>` that holds nothing to drop.
        unsafe fn init<C>(cell: NonNull<u8>) {
            // SAFETY: the caller says so.
            unsafe { cell.cast::<Option<C>>().write(None) }
        }
        /// # Safety
        /// An initialized `Option<C>` that is not used afterwards.
        unsafe fn drop<C>(cell: NonNull<u8>) {
            // SAFETY: the caller says so.
            unsafe { cell.cast::<Option<C>>().drop_in_place() }
        }
        CellType {
            content: TypeId::of::<C>(),
            layout: Layout::new::<Option<C>>(),
            init: init::<C>,
            drop: std::mem::needs_drop::<C>().then_some(drop::<C>),
        }
    }
}

/// A column in a row.
struct RowColumn {
    offset: usize,
    cell: CellType,
}

/// How rows lie in memory.
pub(super) struct RowLayout {
    columns: Vec<RowColumn>,
    row: Layout,
    /// Where the first column ends, at most [`NEAR`]: what is worth asking for early.
    near: usize,
    /// Whether rows hold anything to drop.
    drops: bool,
    /// A full block has `1 << full` rows.
    full: u32,
}

/// The first block has `1 << FIRST` rows, each further one twice as many until they are full.
const FIRST: u32 = 3;
/// A full block has at most `1 << MOST` rows …
const MOST: u32 = 9;
/// … and not many more bytes.
const BLOCK_BYTES: usize = 64 * 1024;
/// Bytes of a row that are asked for early.
const NEAR: usize = 256;

impl RowLayout {
    /// Rows of keys `K` with these columns.
    pub(super) fn new<K>(columns: impl IntoIterator<Item = CellType>) -> RowLayout {
        let key = Layout::new::<Option<K>>();
        let (mut row, mut near, mut drops) = (key, key.size(), std::mem::needs_drop::<K>());
        let mut placed = Vec::new();
        for cell in columns {
            let (extended, offset) = row.extend(cell.layout).expect("a row is smaller than the address space");
            row = extended;
            if placed.is_empty() {
                near = row.size();
            }
            drops |= cell.drop.is_some();
            placed.push(RowColumn { offset, cell });
        }
        let row = row.pad_to_align();
        let full = (BLOCK_BYTES / row.size().max(1)).max(1).ilog2().clamp(FIRST, MOST);
        RowLayout { columns: placed, row, near: near.min(NEAR), drops, full }
    }

    /// The block a slot lies in, and which row of the block it is.
    #[inline(always)]
    fn locate(&self, slot: Slot) -> (usize, usize) {
        let at = slot as usize + (1 << FIRST);
        if at < 2 << self.full {
            let order = at.ilog2();
            ((order - FIRST) as usize, at - (1 << order))
        } else {
            ((self.full - FIRST) as usize + (at >> self.full) - 1, at & ((1 << self.full) - 1))
        }
    }

    /// Rows of a block.
    fn rows_of(&self, block: usize) -> usize {
        1 << (FIRST + block.min((self.full - FIRST) as usize) as u32)
    }
}

/// A cell to read.
#[derive(Clone, Copy)]
pub(super) struct CellRef<'a> {
    /// An initialized `Option` of the content, borrowed for `'a`.
    cell: NonNull<u8>,
    content: TypeId,
    borrowed: PhantomData<&'a ()>,
}

/// A cell to change.
pub(super) struct CellMut<'a> {
    /// An initialized `Option` of the content, borrowed for `'a` and by nobody else.
    cell: NonNull<u8>,
    content: TypeId,
    borrowed: PhantomData<&'a mut ()>,
}

#[cold]
fn undeclared() -> ! {
    panic!("a state handle was used that this operator did not declare; declare states in `declare`")
}

impl<'a> CellRef<'a> {
    /// What it holds. Panics if the column is of another type.
    #[inline(always)]
    pub(super) fn get<C: 'static>(self) -> Option<&'a C> {
        if self.content != TypeId::of::<C>() {
            undeclared();
        }
        // SAFETY: it is an initialized `Option<C>`, as the field says and the type that was compared, and borrowed for `'a`.
        unsafe { self.cell.cast::<Option<C>>().as_ref() }.as_ref()
    }
}

impl<'a> CellMut<'a> {
    /// What it holds, to change. Panics if the column is of another type.
    #[inline(always)]
    pub(super) fn get<C: 'static>(self) -> &'a mut Option<C> {
        if self.content != TypeId::of::<C>() {
            undeclared();
        }
        // SAFETY: as in `CellRef::get`; nobody else borrows it.
        unsafe { self.cell.cast::<Option<C>>().as_mut() }
    }
}

/// A row to read.
pub(super) struct Row<'a, K> {
    start: NonNull<u8>,
    layout: &'a RowLayout,
    key: PhantomData<&'a K>,
}

impl<'a, K> Row<'a, K> {
    /// Its key; none if it is free.
    #[inline]
    pub(super) fn key(&self) -> Option<&'a K> {
        // SAFETY: a row begins with an initialized `Option<K>`; the rows are borrowed for `'a`.
        unsafe { self.start.cast::<Option<K>>().as_ref() }.as_ref()
    }

    /// A cell. Panics if there is no such column.
    #[inline(always)]
    pub(super) fn cell(&self, column: u32) -> CellRef<'a> {
        let Some(RowColumn { offset, cell }) = self.layout.columns.get(column as usize) else { undeclared() };
        // SAFETY: a row has an initialized cell of its type at the offset of each column; the rows are borrowed for `'a`.
        CellRef { cell: unsafe { self.start.add(*offset) }, content: cell.content, borrowed: PhantomData }
    }
}

/// The rows of a key group, by slot.
pub(super) struct Rows<K> {
    layout: Arc<RowLayout>,
    blocks: Vec<NonNull<u8>>,
    /// What the blocks are cut from.
    chunks: Vec<Arc<Chunk>>,
    /// Slots before have an initialized key and cells.
    len: Slot,
    keys: PhantomData<K>,
}

// SAFETY: it owns its keys and cells; cells can be sent (`CellType::of`), and so can the keys.
unsafe impl<K: Send> Send for Rows<K> {}

impl<K> Rows<K> {
    pub(super) fn new(layout: Arc<RowLayout>) -> Self {
        Rows { layout, blocks: Vec::new(), chunks: Vec::new(), len: 0, keys: PhantomData }
    }

    /// Number of slots, free ones too.
    #[inline]
    pub(super) fn len(&self) -> Slot {
        self.len
    }

    /// Bytes of memory a row takes.
    pub(super) fn row_bytes(&self) -> usize {
        self.layout.row.size()
    }

    /// Bytes of memory the slots take.
    pub(super) fn bytes(&self) -> usize {
        let rows: usize = (0..self.blocks.len()).map(|block| self.layout.rows_of(block)).sum();
        rows * self.layout.row.size()
    }

    #[inline(always)]
    fn start_of(&self, slot: Slot) -> NonNull<u8> {
        assert!(slot < self.len, "slots are given by their table");
        let (block, row) = self.layout.locate(slot);
        // SAFETY: slots before `len` lie in the blocks there are, each of which has the rows that `rows_of` says.
        unsafe { self.blocks[block].add(row * self.layout.row.size()) }
    }

    #[inline(always)]
    pub(super) fn row(&self, slot: Slot) -> Row<'_, K> {
        Row { start: self.start_of(slot), layout: &self.layout, key: PhantomData }
    }

    /// The key's place.
    pub(super) fn key_mut(&mut self, slot: Slot) -> &mut Option<K> {
        // SAFETY: as in `Row::key`; the borrow is exclusive.
        unsafe { self.start_of(slot).cast::<Option<K>>().as_mut() }
    }

    /// A cell to change. Panics if there is no such column.
    #[inline(always)]
    pub(super) fn cell_mut(&mut self, column: u32, slot: Slot) -> CellMut<'_> {
        let CellRef { cell, content, .. } = self.row(slot).cell(column);
        CellMut { cell, content, borrowed: PhantomData }
    }

    /// Asks for the key and the first cell of a row, if there is one.
    #[inline]
    pub(super) fn prefetch(&self, slot: Slot) {
        if slot >= self.len {
            return;
        }
        let start = self.start_of(slot).as_ptr();
        for line in (0..self.layout.near).step_by(64) {
            prefetch(start.wrapping_add(line));
        }
        prefetch(start.wrapping_add(self.layout.near - 1));
    }

    /// Adds a row without key and content.
    pub(super) fn push(&mut self, arena: &mut Arena) -> Slot {
        let slot = self.len;
        assert!(slot < NO_SLOT - 1, "a key group holds 2^32 - 2 keys at most; raise the max-parallelism");
        let layout = &*self.layout;
        let (block, row) = layout.locate(slot);
        if block == self.blocks.len() {
            let size = layout.rows_of(block) * layout.row.size();
            let whole = Layout::from_size_align(size, layout.row.align()).expect("a block is small");
            let (start, chunk) = arena.take(whole);
            self.blocks.push(start);
            if self.chunks.last().is_none_or(|last| !Arc::ptr_eq(last, &chunk)) {
                self.chunks.push(chunk);
            }
        }
        // SAFETY: the row lies in the block, and what is written has the layout it was placed with.
        unsafe {
            let start = self.blocks[block].add(row * layout.row.size());
            start.cast::<Option<K>>().write(None);
            for RowColumn { offset, cell } in &layout.columns {
                (cell.init)(start.add(*offset));
            }
        }
        self.len += 1;
        slot
    }
}

impl<K> Drop for Rows<K> {
    fn drop(&mut self) {
        if !self.layout.drops {
            return;
        }
        for slot in 0..self.len {
            let start = self.start_of(slot);
            // SAFETY: everything before `len` is initialized, and nobody looks at it any more.
            unsafe {
                start.cast::<Option<K>>().drop_in_place();
                for RowColumn { offset, cell } in &self.layout.columns {
                    if let Some(drop) = cell.drop {
                        drop(start.add(*offset));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_row_of_its_own_in_a_block_of_the_right_size() {
        for size in [1, 100, 5000, 100_000] {
            let layout = RowLayout {
                columns: Vec::new(),
                row: Layout::from_size_align(size, 1).unwrap(),
                near: 0,
                drops: false,
                full: (BLOCK_BYTES / size).max(1).ilog2().clamp(FIRST, MOST),
            };
            let mut expected = (0, 0);
            for slot in 0..5000 {
                assert_eq!(layout.locate(slot), expected, "slot {slot} of rows of {size} bytes");
                expected.1 += 1;
                if expected.1 == layout.rows_of(expected.0) {
                    expected = (expected.0 + 1, 0);
                }
            }
        }
    }

    #[test]
    fn rows_keep_their_content_when_there_are_more_and_drop_it() {
        let alive = Arc::new(());
        let layout = RowLayout::new::<String>([CellType::of::<u8>(), CellType::of::<Arc<()>>(), CellType::of::<u64>()]);
        let mut rows = Rows::<String>::new(Arc::new(layout));
        let mut arena = Arena::default();
        for slot in 0..3000 {
            assert_eq!(rows.push(&mut arena), slot);
            *rows.key_mut(slot) = Some(slot.to_string());
            *rows.cell_mut(1, slot).get::<Arc<()>>() = Some(alive.clone());
            *rows.cell_mut(2, slot).get::<u64>() = Some(u64::from(slot));
        }
        // Rows do not need the arena they came from.
        drop(arena);
        for slot in 0..3000 {
            let row = rows.row(slot);
            assert_eq!(row.key(), Some(&slot.to_string()));
            assert_eq!((row.cell(0).get::<u8>(), row.cell(2).get::<u64>()), (None, Some(&u64::from(slot))));
        }
        assert_eq!(Arc::strong_count(&alive), 3001);
        *rows.cell_mut(1, 7).get::<Arc<()>>() = None;
        assert_eq!(Arc::strong_count(&alive), 3000);
        drop(rows);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    #[should_panic(expected = "did not declare")]
    fn a_cell_of_another_type_is_refused() {
        let mut rows = Rows::<u64>::new(Arc::new(RowLayout::new::<u64>([CellType::of::<u8>()])));
        let slot = rows.push(&mut Arena::default());
        rows.row(slot).cell(0).get::<i8>();
    }
}
