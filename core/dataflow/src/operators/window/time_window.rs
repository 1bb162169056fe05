//! Windows of time.

use crate::element::EventTime;
use crate::record::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout};

/// A span of time: from `start` up to, but not including, `end`; both in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeWindow {
    /// Where it begins.
    pub start: EventTime,
    /// Where it ends; belongs to the next window.
    pub end: EventTime,
}

impl TimeWindow {
    /// The one window of a stream that is not divided.
    pub const GLOBAL: TimeWindow = TimeWindow { start: EventTime::MIN, end: EventTime::MAX };

    /// The last millisecond in it. A window is over when the watermark reaches it.
    pub fn last(&self) -> EventTime {
        self.end.saturating_sub(1)
    }
}

impl Record for TimeWindow {
    type View<'a> = TimeWindow;
    const FIXED_LEN: Option<usize> = Some(16);
    const PLAIN: bool = true;

    #[inline]
    fn encoded_len(&self) -> usize {
        16
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        layout::append_fixed(self, out);
    }

    #[inline]
    fn encode_fixed(&self, out: &mut [u8]) {
        let (start, end) = out.split_at_mut(8);
        self.start.encode_fixed(start);
        self.end.encode_fixed(end);
    }

    #[inline]
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(TimeWindow { start: i64::decode(input)?, end: i64::decode(input)? })
    }

    #[inline]
    fn view<'a>(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        Self::decode(input)
    }

    fn schema(builder: &mut SchemaBuilder) -> Schema {
        <(i64, i64)>::schema(builder)
    }
}
