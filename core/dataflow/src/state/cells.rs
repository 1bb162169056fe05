//! The columns of a key group's table with their types erased.

use super::content::Content;
use crate::element::EventTime;
use crate::record::DecodeError;

/// A column: a cell per slot, grown when it is first written so far.
pub(crate) trait Cells: Send {
    fn is_empty(&self, slot: usize) -> bool;
    /// Appends the cell's value or the mark that there is none, and the same for times of use if the column has any. Whether there is a
    /// value that has not expired.
    fn encode(&self, slot: usize, deadline: EventTime, out: &mut Vec<u8>) -> bool;
    /// Fills a cell with what was encoded.
    fn restore(&mut self, slot: usize, values: &[u8], times: Option<&[u8]>, now: EventTime) -> Result<(), DecodeError>;
    /// Whether something in the cell has expired.
    fn has_expired(&self, slot: usize, deadline: EventTime) -> bool;
    /// Drops what has expired.
    fn expire(&mut self, slot: usize, deadline: EventTime);
    /// About how many bytes of memory it takes.
    fn bytes(&self) -> usize;
}

pub(crate) struct TypedCells<C>(pub(super) Vec<Option<C>>);

impl<C> TypedCells<C> {
    pub(super) fn new() -> Self {
        TypedCells(Vec::new())
    }

    #[inline]
    pub(super) fn get(&self, slot: usize) -> Option<&C> {
        self.0.get(slot).and_then(Option::as_ref)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Option<C> {
        if slot >= self.0.len() {
            self.grow(slot);
        }
        &mut self.0[slot]
    }

    #[cold]
    fn grow(&mut self, slot: usize) {
        self.0.resize_with(slot + 1, || None);
    }
}

/// Appends what `encode` appends behind its length plus one.
pub(super) fn put_value(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    encode(out);
    let length = u32::try_from(out.len() - start - 3).expect("the state of one key has less than 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends the mark that there is no value.
pub(super) fn put_nothing(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// Cells looked at to estimate how much memory the others take.
const SAMPLES: usize = 32;

impl<C: Content> Cells for TypedCells<C> {
    fn is_empty(&self, slot: usize) -> bool {
        self.get(slot).is_none()
    }

    fn encode(&self, slot: usize, deadline: EventTime, out: &mut Vec<u8>) -> bool {
        let content = self.get(slot).filter(|content| content.is_live(deadline));
        match content {
            Some(content) => put_value(out, |out| content.write(deadline, out)),
            None => put_nothing(out),
        }
        if C::times_schema().is_some() {
            match content {
                Some(content) => put_value(out, |out| content.write_times(deadline, out)),
                None => put_nothing(out),
            }
        }
        content.is_some()
    }

    fn restore(&mut self, slot: usize, values: &[u8], times: Option<&[u8]>, now: EventTime) -> Result<(), DecodeError> {
        *self.get_mut(slot) = Some(C::read(values, times, now)?);
        Ok(())
    }

    fn has_expired(&self, slot: usize, deadline: EventTime) -> bool {
        self.get(slot).is_some_and(|content| content.has_expired(deadline))
    }

    fn expire(&mut self, slot: usize, deadline: EventTime) {
        if let Some(cell) = self.0.get_mut(slot)
            && cell.as_mut().is_some_and(|content| !content.expire(deadline))
        {
            *cell = None;
        }
    }

    fn bytes(&self) -> usize {
        let shallow = self.0.capacity() * size_of::<Option<C>>();
        if !std::mem::needs_drop::<C>() || self.0.is_empty() {
            return shallow;
        }
        let stride = self.0.len().div_ceil(SAMPLES);
        let sampled = self.0.iter().step_by(stride);
        let looked_at = self.0.len().div_ceil(stride);
        let heap: usize = sampled.flatten().map(Content::heap_bytes).sum();
        shallow + heap * self.0.len() / looked_at
    }
}
