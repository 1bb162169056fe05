//! `Duration` and `SystemTime`: whole seconds and nanoseconds, 12 bytes.

use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout};
use std::time::{Duration, SystemTime};

const LEN: usize = 12;

fn nanoseconds(input: &mut Decoder<'_>) -> Result<u32, DecodeError> {
    let at = input.offset();
    match u32::decode(input)? {
        nanos @ 0..1_000_000_000 => Ok(nanos),
        nanos => Err(DecodeError::new(at, "nanoseconds below 1 000 000 000", nanos.to_string())),
    }
}

/// Seconds since the Unix epoch, rounded down, and the nanoseconds since.
fn since_epoch(time: &SystemTime) -> (i64, u32) {
    // The range of SystemTime on the platforms we support is that of 64-bit seconds.
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            let seconds = (before.as_secs() as i64).wrapping_neg();
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds - 1, 1_000_000_000 - nanos),
            }
        }
    }
}

macro_rules! seconds_and_nanos {
    ($type:ty, $seconds:ty, |$value:ident| $parts:expr, $decode:expr) => {
        impl Record for $type {
            type View<'a> = $type;
            const FIXED_LEN: Option<usize> = Some(LEN);

            #[inline]
            fn encoded_len(&self) -> usize {
                LEN
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                layout::append_fixed(self, out);
            }

            #[inline]
            fn encode_fixed(&self, out: &mut [u8]) {
                let $value = self;
                $parts.encode_fixed(out);
            }

            #[inline]
            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                $decode(input)
            }

            #[inline]
            fn view<'a>(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
                $decode(input)
            }

            fn schema(builder: &mut SchemaBuilder) -> Schema {
                builder.structure::<Self>(stringify!($type), |builder| {
                    vec![
                        layout::field::<$seconds>(builder, "seconds", &[], None),
                        layout::field::<u32>(builder, "nanoseconds", &[], None),
                    ]
                })
            }
        }
    };
}

seconds_and_nanos!(Duration, u64, |value| (value.as_secs(), value.subsec_nanos()), |input: &mut Decoder<'_>| {
    Ok(Duration::new(u64::decode(input)?, nanoseconds(input)?))
});

seconds_and_nanos!(SystemTime, i64, |value| since_epoch(value), |input: &mut Decoder<'_>| {
    let at = input.offset();
    let seconds = i64::decode(input)?;
    let nanos = Duration::from_nanos(nanoseconds(input)?.into());
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(whole),
        _ => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    time.and_then(|time| time.checked_add(nanos))
        .ok_or_else(|| DecodeError::new(at, "a time this platform can represent", format!("second {seconds}")))
});
