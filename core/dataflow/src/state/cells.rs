//! What can be done with the cells of a column without knowing their type.

use std::marker::PhantomData;

use super::content::Content;
use super::rows::{CellMut, CellRef};
use crate::element::EventTime;
use crate::record::DecodeError;

/// The type of a column's cells, erased. All functions panic when given a cell of another column's type.
pub(crate) trait Cells: Sync {
    fn is_empty(&self, cell: CellRef<'_>) -> bool;
    /// Appends the cell's value or the mark that there is none, and the same for times of use if the column has any. Whether there is a
    /// value that has not expired.
    fn encode(&self, cell: CellRef<'_>, deadline: EventTime, out: &mut Vec<u8>) -> bool;
    /// Fills a cell with what was encoded.
    fn restore(
        &self,
        cell: CellMut<'_>,
        values: &[u8],
        times: Option<&[u8]>,
        now: EventTime,
    ) -> Result<(), DecodeError>;
    /// Whether something in the cell has expired.
    fn has_expired(&self, cell: CellRef<'_>, deadline: EventTime) -> bool;
    /// Drops what has expired.
    fn expire(&self, cell: CellMut<'_>, deadline: EventTime);
    /// Whether something has expired in what was encoded.
    fn encoded_has_expired(
        &self,
        values: &[u8],
        times: Option<&[u8]>,
        now: EventTime,
        deadline: EventTime,
    ) -> Result<bool, DecodeError>;
    /// Empties a cell.
    fn clear(&self, cell: CellMut<'_>);
    /// About how many bytes of memory the cell has outside of itself; `None` if cells of this type never have any.
    fn heap_bytes(&self, cell: CellRef<'_>) -> Option<usize>;
}

/// Cells of `Option<C>`.
pub(crate) struct TypedCells<C>(PhantomData<fn() -> C>);

impl<C: Content> TypedCells<C> {
    pub(super) const ERASED: &'static dyn Cells = &TypedCells::<C>(PhantomData);
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

impl<C: Content> Cells for TypedCells<C> {
    fn is_empty(&self, cell: CellRef<'_>) -> bool {
        cell.get::<C>().is_none()
    }

    fn encode(&self, cell: CellRef<'_>, deadline: EventTime, out: &mut Vec<u8>) -> bool {
        let content = cell.get::<C>().filter(|content| content.is_live(deadline));
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

    fn restore(
        &self,
        cell: CellMut<'_>,
        values: &[u8],
        times: Option<&[u8]>,
        now: EventTime,
    ) -> Result<(), DecodeError> {
        *cell.get() = Some(C::read(values, times, now)?);
        Ok(())
    }

    fn has_expired(&self, cell: CellRef<'_>, deadline: EventTime) -> bool {
        cell.get::<C>().is_some_and(|content| content.has_expired(deadline))
    }

    fn expire(&self, cell: CellMut<'_>, deadline: EventTime) {
        let cell = cell.get::<C>();
        if cell.as_mut().is_some_and(|content| !content.expire(deadline)) {
            *cell = None;
        }
    }

    fn encoded_has_expired(
        &self,
        values: &[u8],
        times: Option<&[u8]>,
        now: EventTime,
        deadline: EventTime,
    ) -> Result<bool, DecodeError> {
        Ok(C::read(values, times, now)?.has_expired(deadline))
    }

    fn clear(&self, cell: CellMut<'_>) {
        *cell.get::<C>() = None;
    }

    fn heap_bytes(&self, cell: CellRef<'_>) -> Option<usize> {
        std::mem::needs_drop::<C>().then(|| cell.get::<C>().map_or(0, Content::heap_bytes))
    }
}
