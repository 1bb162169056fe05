//! Integers of variable length: seven bits a byte, lowest first, the sign in the lowest bit.

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// How many bytes [`put`] appends.
pub(super) fn len(value: i64) -> usize {
    let bits = 64 - (((value << 1) ^ (value >> 63)) as u64 | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads a value from the start of `input` and moves `input` behind it.
pub(super) fn get(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (at, byte) in input.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *input = &input[at + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_numbers_of_either_sign_are_one_byte() {
        let mut out = Vec::new();
        for value in [0, -1, 1, -64, 63] {
            put(&mut out, value);
        }
        assert_eq!(out, [0, 1, 2, 127, 126]);
    }

    #[test]
    fn a_number_that_does_not_end_is_none() {
        assert_eq!(get(&mut &[0x80, 0x80][..]), None);
        assert_eq!(get(&mut &[0xff; 11][..]), None);
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.push(7);
            let mut input = &out[..];
            prop_assert_eq!(get(&mut input), Some(value));
            prop_assert_eq!(input, &[7][..]);
        }
    }
}
