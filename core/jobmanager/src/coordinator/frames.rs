//! Frames as `weir_proto` defines them, over an asynchronous stream.

use std::io;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weir_proto::{FrameError, MAX_FRAME_BYTES};

/// Writes `message` as one frame.
pub(super) async fn write_frame<M: Message>(
    out: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<(), FrameError> {
    let length = message.encoded_len();
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { found: length });
    }
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&(length as u32).to_le_bytes());
    message.encode(&mut frame).expect("a Vec grows as needed");
    out.write_all(&frame).await?;
    Ok(())
}

/// Reads the next frame; `None` when the stream ends where a frame would begin. Not to be dropped half-way.
pub(super) async fn read_frame<M: Message + Default>(
    input: &mut (impl AsyncRead + Unpin),
) -> Result<Option<M>, FrameError> {
    let mut prefix = [0; 4];
    let first = input.read(&mut prefix).await?;
    if first == 0 {
        return Ok(None);
    }
    let truncated = |found: usize, expected: usize| {
        move |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => FrameError::Truncated { found, expected },
            _ => FrameError::Io(error),
        }
    };
    input.read_exact(&mut prefix[first..]).await.map_err(truncated(first, 4))?;
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { found: length });
    }
    // Grows as bytes arrive instead of trusting the prefix with an allocation.
    let mut body = Vec::new();
    (&mut *input).take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(FrameError::Truncated { found: body.len(), expected: length });
    }
    M::decode(body.as_slice()).map(Some).map_err(|reason| FrameError::Malformed { length, reason })
}
