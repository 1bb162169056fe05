//! The two system calls that the standard library offers only in a slower or a less direct form.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use super::frame::{Filled, Target};

/// One read into the batch being put together and, behind it, into the staging area. Also says whether the socket had
/// less than there was room for, which means that it is empty now.
pub(super) fn read(socket: &impl AsRawFd, target: Target<'_>) -> io::Result<(Filled, bool)> {
    let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 2];
    let mut lacking = 0;
    let mut payload = target.payload;
    if let Some((bytes, missing)) = &mut payload {
        lacking = *missing;
        bytes.reserve(lacking);
        pieces[0] = libc::iovec { iov_base: bytes.spare_capacity_mut().as_mut_ptr().cast(), iov_len: lacking };
    }
    pieces[1] = libc::iovec { iov_base: target.staging.as_mut_ptr().cast(), iov_len: target.staging.len() };
    // SAFETY: both pieces are exclusively borrowed here and as long as they say: the first is spare capacity reserved
    // above (or empty), the second a slice.
    let n = unsafe { libc::readv(socket.as_raw_fd(), pieces.as_ptr(), 2) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    let filled = Filled { payload: n.min(lacking), staging: n.saturating_sub(lacking) };
    if let Some((bytes, _)) = payload {
        // SAFETY: readv wrote the first `filled.payload` bytes of the spare capacity.
        unsafe { bytes.set_len(bytes.len() + filled.payload) };
    }
    Ok((filled, n < lacking + target.staging.len()))
}

/// Ends one or both directions of a connection while others still hold the socket.
pub(super) fn shut_down(socket: &impl AsRawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: the descriptor is open while `socket` is borrowed. That the peer ended the connection first is no error here.
    unsafe { libc::shutdown(socket.as_raw_fd(), how) };
}
