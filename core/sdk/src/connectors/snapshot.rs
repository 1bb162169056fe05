//! Enumerator state as bytes.

use weir_dataflow::record::{Decoder, Record};
use weir_dataflow::source::SourceError;

pub(super) fn encode<T: Record>(state: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(state.encoded_len());
    state.encode(&mut bytes);
    bytes
}

/// Decodes what [`encode`] made; `whose` names the source in the error.
pub(super) fn decode<T: Record>(bytes: &[u8], whose: &str) -> Result<T, SourceError> {
    let mut input = Decoder::new(bytes);
    T::decode(&mut input)
        .and_then(|state| input.finish().map(|()| state))
        .map_err(|error| SourceError::new(format!("the stored state of {whose} cannot be restored: {error}")))
}
