//! The reference-counted immutable buffer that text and byte strings slice.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// An immutable byte buffer with a reference count: cloning it, or slicing it as [`Bytes`](super::Bytes) or
/// [`Text`](super::Text), shares it. Made from a `Vec<u8>` without copying.
pub struct SharedBuf {
    header: NonNull<Header>,
}

/// Lives on the heap; the content is either a `Vec`'s allocation or follows the header in the same one.
pub(super) struct Header {
    references: AtomicUsize,
    data: *mut u8,
    len: usize,
    storage: Storage,
}

#[derive(Clone, Copy)]
enum Storage {
    Vec { capacity: usize },
    Trailing,
}

// SAFETY: the content never changes while it is shared, and the count is atomic; the last owner alone frees it.
unsafe impl Send for SharedBuf {}
// SAFETY: as above.
unsafe impl Sync for SharedBuf {}

fn trailing_layout(len: usize) -> (Layout, usize) {
    let content = Layout::array::<u8>(len).expect("a buffer is smaller than the address space");
    Layout::new::<Header>().extend(content).expect("a buffer is smaller than the address space")
}

impl SharedBuf {
    /// Copies `bytes` into a buffer with a single allocation.
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        let (layout, offset) = trailing_layout(bytes.len());
        // SAFETY: the layout holds at least the header, so it is not empty.
        let base = unsafe { alloc(layout) };
        let Some(header) = NonNull::new(base.cast::<Header>()) else { handle_alloc_error(layout) };
        // SAFETY: the allocation has room for the header at its start and for `len` bytes at `offset`, is exclusively
        // ours, and does not overlap `bytes`.
        unsafe {
            let data = base.add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
            let references = AtomicUsize::new(1);
            header.write(Header { references, data, len: bytes.len(), storage: Storage::Trailing });
        }
        SharedBuf { header }
    }

    /// Gives the `Vec` back if nobody else holds the buffer or a slice of it, so that it can be filled again.
    pub fn try_into_vec(self) -> Result<Vec<u8>, SharedBuf> {
        let header = self.header();
        let Storage::Vec { capacity } = header.storage else { return Err(self) };
        if header.references.load(Ordering::Acquire) != 1 {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: this is the only reference, so no slice can read the content or free it; `from` took these parts
        // from a `Vec`, and the header from a `Box`.
        unsafe {
            let header = Box::from_raw(this.header.as_ptr());
            Ok(Vec::from_raw_parts(header.data, header.len, capacity))
        }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the header lives as long as there is a reference, and `self` is one.
        unsafe { self.header.as_ref() }
    }

    /// Hands this reference out as a bare pointer; [`from_raw`](Self::from_raw) takes it back.
    #[inline]
    pub(super) fn into_raw(self) -> *const Header {
        ManuallyDrop::new(self).header.as_ptr()
    }

    /// # Safety
    /// `header` comes from [`into_raw`](Self::into_raw) and the reference it stands for is used up by this call.
    #[inline]
    pub(super) unsafe fn from_raw(header: *const Header) -> Self {
        // SAFETY: by the contract the pointer is that of a live header.
        SharedBuf { header: unsafe { NonNull::new_unchecked(header.cast_mut()) } }
    }
}

impl From<Vec<u8>> for SharedBuf {
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = ManuallyDrop::new(bytes);
        let storage = Storage::Vec { capacity: bytes.capacity() };
        let header = Header { references: AtomicUsize::new(1), data: bytes.as_mut_ptr(), len: bytes.len(), storage };
        SharedBuf { header: NonNull::from(Box::leak(Box::new(header))) }
    }
}

impl Clone for SharedBuf {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed as in `Arc`: a new reference is made from an existing one, which already synchronises.
        let before = self.header().references.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            // Only leaked references can get here; going on would free the buffer under its users.
            std::process::abort();
        }
        SharedBuf { header: self.header }
    }
}

impl Drop for SharedBuf {
    #[inline]
    fn drop(&mut self) {
        if self.header().references.fetch_sub(1, Ordering::Release) == 1 {
            // Every other owner's reads happen before this.
            fence(Ordering::Acquire);
            // SAFETY: the count fell to zero, so this was the last reference.
            unsafe { free(self.header) }
        }
    }
}

/// # Safety
/// No reference to the header or its content is left.
#[cold]
#[inline(never)]
unsafe fn free(header: NonNull<Header>) {
    // SAFETY: live and exclusive by the contract. Each storage is freed the way it was made: see `From<Vec<u8>>` and
    // `copy_from_slice`.
    unsafe {
        let Header { data, len, storage, .. } = *header.as_ref();
        match storage {
            Storage::Vec { capacity } => {
                drop(Vec::from_raw_parts(data, len, capacity));
                drop(Box::from_raw(header.as_ptr()));
            }
            Storage::Trailing => dealloc(header.as_ptr().cast(), trailing_layout(len).0),
        }
    }
}

impl Deref for SharedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let header = self.header();
        // SAFETY: `data` points to `len` initialised bytes that live as long as the header and never change.
        unsafe { std::slice::from_raw_parts(header.data, header.len) }
    }
}

impl fmt::Debug for SharedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBuf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vec_is_neither_copied_in_nor_out() {
        let vec = vec![7u8; 100];
        let at = vec.as_ptr();
        let buffer = SharedBuf::from(vec);
        assert_eq!(buffer.as_ptr(), at);
        let vec = buffer.try_into_vec().unwrap();
        assert_eq!(vec.as_ptr(), at);
    }

    #[test]
    fn a_buffer_in_use_is_not_taken_back() {
        let buffer = SharedBuf::from(vec![1, 2, 3]);
        let other = buffer.clone();
        let buffer = buffer.try_into_vec().unwrap_err();
        drop(other);
        assert_eq!(buffer.try_into_vec().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn copies_and_empty_buffers_work() {
        assert_eq!(&*SharedBuf::copy_from_slice(b"abc").clone(), b"abc");
        assert!(SharedBuf::copy_from_slice(b"").is_empty());
        assert!(SharedBuf::from(Vec::new()).is_empty());
    }
}
