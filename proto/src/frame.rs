//! Length-prefixed frames over a byte stream: a `u32` in little-endian order, then that many bytes of protobuf.

use std::io::{self, Read, Write};

use prost::Message;

/// The longest frame that is written or accepted, without its length prefix: 64 MiB.
///
/// Control messages stay far below (a placement of 100 000 tasks is some hundred kilobytes); the limit turns a stream that is
/// not ours, or out of step, into an error instead of an allocation.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Why a frame could not be written or read. What now: give the connection up, as its position is lost.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The message is, or claims to be, longer than [`MAX_FRAME_BYTES`].
    #[error(
        "a frame of {found} bytes exceeds the limit of {MAX_FRAME_BYTES} bytes: the peer does not speak Weir's protocol, or a split or committable is far too large"
    )]
    TooLarge {
        /// Length of the frame in bytes.
        found: usize,
    },
    /// The stream ended inside a frame.
    #[error(
        "the connection ended inside a frame, after {found} of {expected} bytes: the peer died or was stopped while it wrote"
    )]
    Truncated {
        /// Bytes received of this part of the frame.
        found: usize,
        /// Bytes it should have had.
        expected: usize,
    },
    /// The frame is not the expected message.
    #[error(
        "a frame of {length} bytes is not the expected message ({reason}): the peer most likely runs another version of Weir"
    )]
    Malformed {
        /// Length of the frame in bytes.
        length: usize,
        /// What the decoder objected to.
        reason: prost::DecodeError,
    },
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// Writes `message` as one frame, in one `write_all`, and flushes.
pub fn write_frame<M: Message>(out: &mut impl Write, message: &M) -> Result<(), FrameError> {
    let length = message.encoded_len();
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { found: length });
    }
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&(length as u32).to_le_bytes());
    message.encode(&mut frame).expect("a Vec grows as needed");
    out.write_all(&frame)?;
    out.flush()?;
    Ok(())
}

/// Reads the next frame; `None` when the stream ends where a frame would begin.
pub fn read_frame<M: Message + Default>(input: &mut impl Read) -> Result<Option<M>, FrameError> {
    let mut prefix = [0; 4];
    match read_up_to(input, &mut prefix)? {
        0 => return Ok(None),
        4 => {}
        found => return Err(FrameError::Truncated { found, expected: 4 }),
    }
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { found: length });
    }
    // Grows as bytes arrive instead of trusting the prefix with an allocation.
    let mut body = Vec::new();
    input.take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(FrameError::Truncated { found: body.len(), expected: length });
    }
    M::decode(body.as_slice()).map(Some).map_err(|reason| FrameError::Malformed { length, reason })
}

/// Fills `buffer` as far as the stream goes; says how far.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Cancel, Hello, SplitRequest, ToDriver, ToWorker, to_driver, to_worker};

    fn hello() -> ToDriver {
        let hello = Hello {
            protocol_version: 1,
            pid: 4711,
            job_graph_hash: 0x0123_4567_89ab_cdef,
            data_address: "127.0.0.1:4000".to_owned(),
            worker_index: 1,
            vertices: Vec::new(),
        };
        ToDriver { message: Some(to_driver::Message::Hello(hello)) }
    }

    fn split_request() -> ToDriver {
        ToDriver { message: Some(to_driver::Message::SplitRequest(SplitRequest { vertex: 3, subtask: 70_000 })) }
    }

    /// Gives one byte a call, so that every partial read happens.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.0.len()).min(1);
            let (head, tail) = self.0.split_at(count);
            buffer[..count].copy_from_slice(head);
            self.0 = tail;
            Ok(count)
        }
    }

    #[test]
    fn frames_come_back_in_order_and_the_end_is_clean() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &hello()).unwrap();
        write_frame(&mut bytes, &split_request()).unwrap();
        write_frame(&mut bytes, &ToDriver::default()).unwrap();
        let mut input = Dribble(&bytes);
        assert_eq!(read_frame(&mut input).unwrap(), Some(hello()));
        assert_eq!(read_frame(&mut input).unwrap(), Some(split_request()));
        assert_eq!(read_frame(&mut input).unwrap(), Some(ToDriver::default()));
        assert_eq!(read_frame::<ToDriver>(&mut input).unwrap(), None);
    }

    #[test]
    fn a_frame_has_these_bytes() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &ToWorker { message: Some(to_worker::Message::Cancel(Cancel { tasks: Vec::new() })) })
            .unwrap();
        assert_eq!(bytes, [2, 0, 0, 0, 0x1a, 0]);
    }

    #[test]
    fn every_cut_inside_a_frame_is_reported() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &hello()).unwrap();
        for length in 1..bytes.len() {
            let error = read_frame::<ToDriver>(&mut &bytes[..length]).unwrap_err();
            assert!(matches!(error, FrameError::Truncated { .. }), "cut at {length}: {error}");
        }
    }

    #[test]
    fn a_foreign_stream_is_an_error_and_no_allocation() {
        let error = read_frame::<ToDriver>(&mut &b"GET / HTTP/1.1\r\n"[..]).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { found: 0x2054_4547 }), "{error}");
        let error = read_frame::<ToDriver>(&mut &[2, 0, 0, 0, 0xff, 0xff][..]).unwrap_err();
        assert!(matches!(error, FrameError::Malformed { length: 2, .. }), "{error}");
    }

    #[test]
    fn a_message_beyond_the_limit_is_not_written() {
        let mut huge = hello();
        if let Some(to_driver::Message::Hello(hello)) = &mut huge.message {
            hello.data_address = "x".repeat(MAX_FRAME_BYTES);
        }
        let mut bytes = Vec::new();
        let error = write_frame(&mut bytes, &huge).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { .. }) && bytes.is_empty(), "{error}");
    }
}
