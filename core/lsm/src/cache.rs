//! Blocks that were read lately.

use std::cell::RefCell;
use std::sync::Arc;

use crate::LsmError;
use crate::block::Block;
use crate::run::BlockSource;
use crate::table::{Table, TableView};

const NOWHERE: u32 = u32::MAX;

/// A file of the store, with the places its blocks have in the cache: a hit needs no hashing.
pub(crate) struct CachedTable {
    view: TableView,
    /// Unique among all tables the cache has known.
    number: u64,
    places: RefCell<Box<[u32]>>,
}

impl CachedTable {
    pub(crate) fn view(&self) -> &TableView {
        &self.view
    }
}

struct Slot {
    block: Arc<Block>,
    table: u64,
    number: usize,
    /// Read again since the hand passed last.
    used: bool,
}

/// The cache: blocks in a ring, of which those that were read only once go first (CLOCK), so that a scan does not push out what is read often.
#[derive(Default)]
pub(crate) struct BlockCache {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
    capacity: usize,
    tables: u64,
}

impl BlockCache {
    /// A table's entry ticket to the cache.
    pub(crate) fn adopt(&mut self, view: TableView) -> CachedTable {
        self.tables += 1;
        let places = RefCell::new(vec![NOWHERE; view.table().blocks()].into());
        CachedTable { view, number: self.tables, places }
    }

    /// Drops the blocks of a table that is no longer read.
    pub(crate) fn forget(&mut self, table: &CachedTable) {
        for (number, &place) in table.places.borrow().iter().enumerate() {
            if self.at(place, table.number, number).is_some() {
                self.remove(place);
            }
        }
    }

    /// How much the blocks take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes how much they may take, in bytes.
    pub(crate) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.make_room(0);
    }

    fn at(&mut self, place: u32, table: u64, number: usize) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(place as usize)?.as_mut()?;
        (slot.table == table && slot.number == number).then_some(slot)
    }

    fn hit(&mut self, place: u32, table: u64, number: usize) -> Option<Arc<Block>> {
        let slot = self.at(place, table, number)?;
        slot.used = true;
        Some(slot.block.clone())
    }

    /// Keeps a block, unless it is larger than the cache; where it is then.
    fn insert(&mut self, block: Arc<Block>, table: u64, number: usize) -> u32 {
        let size = block.size();
        if size > self.capacity {
            return NOWHERE;
        }
        self.make_room(size);
        self.bytes += size;
        let slot = Some(Slot { block, table, number, used: false });
        if let Some(place) = self.free.pop() {
            self.slots[place as usize] = slot;
            return place;
        }
        self.slots.push(slot);
        self.slots.len() as u32 - 1
    }

    fn make_room(&mut self, size: usize) {
        while self.bytes > 0 && self.bytes + size > self.capacity {
            self.hand = (self.hand + 1) % self.slots.len();
            match &mut self.slots[self.hand] {
                None => {}
                Some(slot) if slot.used => slot.used = false,
                Some(_) => self.remove(self.hand as u32),
            }
        }
    }

    fn remove(&mut self, place: u32) {
        if let Some(slot) = self.slots[place as usize].take() {
            self.bytes -= slot.block.size();
            self.free.push(place);
        }
    }
}

/// A table read through the cache.
#[derive(Clone, Copy)]
pub(crate) struct ThroughCache<'a> {
    pub table: &'a CachedTable,
    pub cache: &'a RefCell<BlockCache>,
}

impl BlockSource for ThroughCache<'_> {
    fn view(&self) -> &TableView {
        &self.table.view
    }

    fn block(&self, number: usize) -> Result<Arc<Block>, LsmError> {
        let place = self.table.places.borrow()[number];
        if let Some(block) = self.cache.borrow_mut().hit(place, self.table.number, number) {
            return Ok(block);
        }
        let table: &Table = self.table.view.table();
        let block = Arc::new(table.read_block(number)?);
        let place = self.cache.borrow_mut().insert(block.clone(), self.table.number, number);
        self.table.places.borrow_mut()[number] = place;
        Ok(block)
    }
}
