//! Finding words in UTF-8 text: the inner loop of word count.

/// A word, and where to look for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub start: usize,
    pub end: usize,
    pub next: usize,
}

/// The next word at or after `from` in the `len` bytes of text at `base`. A word is a longest run of characters that are
/// not Unicode white space, as in `str::split_whitespace`.
///
/// # Safety
/// At `base` are `len` bytes of UTF-8, of which `from` is a character boundary or beyond, and `readable` ≥ `len` bytes can be read.
#[inline]
pub(super) unsafe fn next_word(base: *const u8, len: usize, from: usize, readable: usize) -> Option<Word> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: passed on.
        unsafe { next_word_sse2(base, len, from, readable) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = readable;
        // SAFETY: passed on.
        next_word_scalar(unsafe { std::slice::from_raw_parts(base, len) }, from)
    }
}

/// One load and a few comparisons classify 16 bytes; a usual word, with the space after it, takes one load. Blocks may
/// reach beyond the text into what is readable; what they find there is cut off.
///
/// # Safety
/// As for [`next_word`].
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn next_word_sse2(base: *const u8, len: usize, mut from: usize, readable: usize) -> Option<Word> {
    const BLOCK: usize = 16;
    // SAFETY: passed on.
    let scalar = |from| next_word_scalar(unsafe { std::slice::from_raw_parts(base, len) }, from);
    // Where a word can start: skip white space.
    let (mut spaces, mut ascii);
    loop {
        if from >= len {
            return None;
        }
        if from + BLOCK > readable {
            return scalar(from);
        }
        // SAFETY: 16 bytes from `from` on are readable.
        (spaces, ascii) = unsafe { classify(base.add(from)) };
        let skip = spaces.trailing_ones();
        if skip == 0 {
            break;
        }
        from += skip as usize;
    }
    // Where it ends.
    let start = from;
    loop {
        let run = spaces.trailing_zeros().min(BLOCK as u32);
        // Anything but ASCII up to there may be, or be part of, other white space.
        if ascii.trailing_ones() < run {
            return scalar(start);
        }
        from += run as usize;
        if run < BLOCK as u32 || from >= len {
            // What ends the word is an ASCII space, or the text. That it is not looked at again keeps the dependency
            // from word to word short.
            return Some(Word { start, end: from.min(len), next: from + 1 });
        }
        if from + BLOCK > readable {
            return scalar(start);
        }
        // SAFETY: 16 bytes from `from` on are readable.
        (spaces, ascii) = unsafe { classify(base.add(from)) };
    }
}

/// A bit for each of 16 bytes that is ASCII white space, and a bit for each that is ASCII (the bits above are set).
///
/// # Safety
/// 16 bytes are readable.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn classify(at: *const u8) -> (u32, u32) {
    use std::arch::x86_64::*;
    // SAFETY: 16 bytes are readable; SSE2 is part of x86-64.
    unsafe {
        let block = _mm_loadu_si128(at.cast());
        let space = _mm_cmpeq_epi8(block, _mm_set1_epi8(b' ' as i8));
        // 9 to 13: signed comparison is right because bytes from 0x80 on are negative.
        let above = _mm_cmpgt_epi8(block, _mm_set1_epi8(8));
        let below = _mm_cmplt_epi8(block, _mm_set1_epi8(14));
        let spaces = _mm_or_si128(space, _mm_and_si128(above, below));
        (_mm_movemask_epi8(spaces) as u32, !(_mm_movemask_epi8(block) as u32))
    }
}

#[cold]
fn next_word_scalar(text: &[u8], mut from: usize) -> Option<Word> {
    while from < text.len() {
        match space_len(text, from) {
            0 => break,
            len => from += len,
        }
    }
    let start = from;
    while from < text.len() && space_len(text, from) == 0 {
        from += 1;
    }
    (start < from).then_some(Word { start, end: from, next: from })
}

/// How many bytes of white space character begin at `at`; 0 in the middle or at the start of any other character.
#[inline]
fn space_len(text: &[u8], at: usize) -> usize {
    let second = || text.get(at + 1).copied();
    let third = || text.get(at + 2).copied();
    match text[at] {
        b' ' | 9..=13 => 1,
        // U+0085 and U+00A0.
        0xc2 if matches!(second(), Some(0x85 | 0xa0)) => 2,
        // U+1680.
        0xe1 if second() == Some(0x9a) && third() == Some(0x80) => 3,
        // U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F.
        0xe2 => match (second(), third()) {
            (Some(0x80), Some(0x80..=0x8a | 0xa8 | 0xa9 | 0xaf)) | (Some(0x81), Some(0x9f)) => 3,
            _ => 0,
        },
        // U+3000.
        0xe3 if second() == Some(0x80) && third() == Some(0x80) => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Also with more bytes readable than belong to the text, as inside a buffer.
    fn check(text: &str, after: &str) {
        let expect: Vec<&str> = text.split_whitespace().collect();
        let buffer = [text, after].concat();
        for readable in [text.len(), buffer.len()] {
            let (mut at, mut found) = (0, Vec::new());
            // SAFETY: `text` is the start of the buffer, and `at` where a word may begin.
            while let Some(word) = unsafe { next_word(buffer.as_ptr(), text.len(), at, readable) } {
                found.push(&text[word.start..word.end]);
                at = word.next;
            }
            assert_eq!(found, expect, "{text:?} with {readable} bytes readable");
        }
    }

    #[test]
    fn finds_the_words_of_usual_text() {
        for after in ["", "x", " and more text that follows in the buffer", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
            check("", after);
            check(" ", after);
            check("word", after);
            check("to be, or not to be", after);
            check("                                    far in", after);
            check("a-word-much-longer-than-one-block-of-sixteen-bytes and-another-one-of-that-kind", after);
            check("exactly-16-bytes exactly-16-bytes", after);
            check("é\u{a0}à\u{85}b\u{2003}日本\u{3000}語 z\u{200b}w", after);
        }
    }

    #[test]
    fn every_white_space_character_separates() {
        for space in
            (0..=char::MAX as u32).filter_map(char::from_u32).filter(|c| c.is_whitespace() || (*c as u32) < 0x90)
        {
            check(&format!("one{space}two and some more text"), "");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(text in "[a-z \t\né\u{2003}\u{3000}\u{1680}x]{0,80}", after in ".{0,40}") {
            check(&text, &after);
        }

        #[test]
        fn agrees_on_any_text(text in any::<String>(), after in any::<String>()) {
            check(&text, &after);
        }
    }
}
