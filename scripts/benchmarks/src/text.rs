//! The text of the word count: written once into the temporary directory, with the counts a right job must find.
//!
//! Words are drawn from a Zipf distribution (exponent 1) over a vocabulary of [`VOCABULARY`] invented words whose length grows
//! with their rank as it does in English: about 6.4 letters and a separator per word of running text.

use crate::generate::{Observed, split_mix};
use hashbrown::HashSet;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Words the text is drawn from.
const VOCABULARY: usize = 100_000;
/// Changes when the text a size stands for changes.
const VERSION: u32 = 1;
const LETTERS: &[u8; 32] = b"eeeetttaaaooiinnsshrrdlcumwfgypb";
const WORDS_PER_LINE: u64 = 12;

/// A generated text and what is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Text {
    /// Where it lies.
    pub path: PathBuf,
    /// Its exact size.
    pub bytes: u64,
    /// Words in it, and the digest of their counts.
    pub expected: Observed,
}

/// Returns the text of about `mebibytes` MiB, writing it first if it is not there yet, and leaves it in the page cache.
pub fn prepare(mebibytes: u64) -> io::Result<Text> {
    let directory = std::env::temp_dir().join("weir-bench");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("words-v{VERSION}-{mebibytes}MiB.txt"));
    let description = path.with_extension("json");
    if let Some(text) = known(&path, &description) {
        warm(&path)?;
        return Ok(text);
    }
    eprintln!("writing {mebibytes} MiB of text to {}", path.display());
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let (bytes, expected) = write(&aside, mebibytes << 20)?;
    fs::rename(&aside, &path)?;
    let text = Text { path, bytes, expected };
    fs::write(&aside, serde_json::to_vec(&text)?)?;
    fs::rename(&aside, &description)?;
    Ok(text)
}

fn known(path: &Path, description: &Path) -> Option<Text> {
    let text: Text = serde_json::from_slice(&fs::read(description).ok()?).ok()?;
    let bytes = fs::metadata(path).ok()?.len();
    (text.bytes == bytes && text.path == path).then_some(text)
}

fn warm(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    while file.read(&mut block)? > 0 {}
    Ok(())
}

fn write(path: &Path, size: u64) -> io::Result<(u64, Observed)> {
    let words = vocabulary();
    let ranks = Alias::zipf(VOCABULARY);
    let mut counts = vec![0u64; VOCABULARY];
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut bytes = 0;
    let mut drawn = 0;
    while bytes < size {
        let rank = ranks.draw(split_mix(drawn));
        drawn += 1;
        counts[rank] += 1;
        let word = &words[rank];
        out.write_all(word)?;
        out.write_all(if drawn.is_multiple_of(WORDS_PER_LINE) { b"\n" } else { b" " })?;
        bytes += word.len() as u64 + 1;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
    let mut expected = Observed::default();
    for (word, count) in words.iter().zip(counts).filter(|(_, count)| *count > 0) {
        expected.word_count(word, count);
    }
    Ok((bytes, expected))
}

/// Cuts the text into `parts` byte ranges of about the same size that each begin with a word and end behind a separator.
pub fn cut(text: &Path, bytes: u64, parts: usize) -> io::Result<Vec<Range<u64>>> {
    let mut cuts = vec![0];
    for part in 1..parts {
        cuts.push(behind_separator(text, bytes * part as u64 / parts as u64)?);
    }
    cuts.push(bytes);
    Ok(cuts.windows(2).map(|pair| pair[0]..pair[1]).collect())
}

fn behind_separator(text: &Path, offset: u64) -> io::Result<u64> {
    let mut file = File::open(text)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut window = Vec::new();
    file.take(4096).read_to_end(&mut window)?;
    let skipped = window.iter().position(u8::is_ascii_whitespace).map_or(window.len(), |at| at + 1);
    Ok(offset + skipped as u64)
}

/// Reads a byte range in large blocks of whole words.
pub struct Blocks {
    file: File,
    unread: u64,
    buffer: Vec<u8>,
    /// Where the word that the last block cut in two begins, and how many bytes of the buffer are filled.
    carried: Range<usize>,
}

impl Blocks {
    /// Bytes read at once.
    pub const SIZE: usize = 256 << 10;

    /// Opens `range` of `text`, which must begin with a word.
    pub fn open(text: &Path, range: Range<u64>) -> io::Result<Blocks> {
        let mut file = File::open(text)?;
        file.seek(SeekFrom::Start(range.start))?;
        Ok(Blocks { file, unread: range.end - range.start, buffer: vec![0; Self::SIZE], carried: 0..0 })
    }

    /// Reads the next block; `None` at the end of the range.
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let Range { start, end } = self.carried;
            self.buffer.copy_within(start..end, 0);
            let mut filled = end - start;
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let wanted = (self.buffer.len() - filled).min(usize::try_from(self.unread).unwrap_or(usize::MAX));
            let read = self.file.read(&mut self.buffer[filled..filled + wanted])?;
            self.unread -= read as u64;
            filled += read;
            if read == 0 {
                self.carried = 0..0;
                return Ok((filled > 0).then_some(&self.buffer[..filled]));
            }
            if let Some(last) = self.buffer[..filled].iter().rposition(u8::is_ascii_whitespace) {
                self.carried = last + 1..filled;
                return Ok(Some(&self.buffer[..last]));
            }
            self.carried = 0..filled;
        }
    }
}

/// Calls `each` with every word of `block`, in order. Separators are found 64 bytes at a time.
#[inline(always)]
pub fn for_each_word<'a>(block: &'a [u8], mut each: impl FnMut(&'a [u8])) {
    let mut begin = 0;
    let mut offset = 0;
    let mut separator_at = |at: usize| {
        if at > begin {
            each(&block[begin..at]);
        }
        begin = at + 1;
    };
    let (chunks, rest) = block.as_chunks::<64>();
    for chunk in chunks {
        let mut separators = separators(chunk);
        while separators != 0 {
            separator_at(offset + separators.trailing_zeros() as usize);
            separators &= separators - 1;
        }
        offset += 64;
    }
    for (at, byte) in rest.iter().enumerate() {
        if byte.is_ascii_whitespace() {
            separator_at(offset + at);
        }
    }
    separator_at(block.len());
}

/// The set of separators in a chunk, as bits.
#[inline(always)]
fn separators(chunk: &[u8; 64]) -> u64 {
    let mut found = 0;
    for (at, byte) in chunk.iter().enumerate() {
        found |= u64::from(byte.is_ascii_whitespace()) << at;
    }
    found
}

/// Invents distinct words, the frequent ones short.
fn vocabulary() -> Vec<Box<[u8]>> {
    let mut seen = HashSet::new();
    let mut words = Vec::with_capacity(VOCABULARY);
    let mut n = 0x7e87;
    while words.len() < VOCABULARY {
        let bits = split_mix(n);
        n += 1;
        let typical = 2 + (words.len() + 2).ilog2() * 5 / 12;
        let length = typical + (bits >> 60) as u32 % 4;
        let letters = split_mix(bits);
        let word: Box<[u8]> = (0..length).map(|i| LETTERS[(letters >> (5 * i)) as usize % 32]).collect();
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

/// Walker's alias table: one draw from a discrete distribution costs one look-up.
struct Alias {
    columns: Vec<(u32, u32)>,
}

impl Alias {
    fn zipf(ranks: usize) -> Alias {
        let total: f64 = (1..=ranks).map(|rank| 1.0 / rank as f64).sum();
        let mut weights: Vec<f64> = (1..=ranks).map(|rank| ranks as f64 / (rank as f64 * total)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..ranks).partition(|rank| weights[*rank] < 1.0);
        let mut columns = vec![(u32::MAX, 0); ranks];
        while let (Some(less), Some(more)) = (small.pop(), large.pop()) {
            columns[less] = ((weights[less] * f64::from(u32::MAX)) as u32, more as u32);
            weights[more] -= 1.0 - weights[less];
            if weights[more] < 1.0 { small.push(more) } else { large.push(more) }
        }
        for (own, column) in columns.iter_mut().enumerate() {
            if column.0 == u32::MAX {
                column.1 = own as u32;
            }
        }
        Alias { columns }
    }

    fn draw(&self, bits: u64) -> usize {
        let own = (((bits >> 32) * self.columns.len() as u64) >> 32) as usize;
        let (threshold, other) = self.columns[own];
        if bits as u32 <= threshold { own } else { other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_the_rank() {
        let ranks = Alias::zipf(1000);
        let mut counts = vec![0u32; 1000];
        (0..1_000_000).for_each(|n| counts[ranks.draw(split_mix(n))] += 1);
        let ratio = f64::from(counts[0]) / f64::from(counts[9]);
        assert!((9.0..11.0).contains(&ratio), "the first word comes {ratio} times as often as the tenth");
    }

    #[test]
    fn words_are_split_at_any_whitespace() {
        let text = b"  a bb\tccc\n\nd \r\n".repeat(20);
        let mut words = Vec::new();
        for_each_word(&text, |word| words.push(word));
        let plain: Vec<&[u8]> = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        assert_eq!(words, plain);
    }

    #[test]
    fn parts_of_a_text_hold_every_word_once() {
        let text = prepare(1).expect("a text");
        for parts in [1, 2, 7] {
            let mut counts = hashbrown::HashMap::<Vec<u8>, u64>::new();
            for range in cut(&text.path, text.bytes, parts).expect("ranges") {
                let mut blocks = Blocks::open(&text.path, range).expect("blocks");
                while let Some(block) = blocks.next().expect("a block") {
                    for_each_word(block, |word| *counts.entry_ref(word).or_default() += 1);
                }
            }
            let mut seen = Observed::default();
            counts.iter().for_each(|(word, count)| seen.word_count(word, *count));
            assert_eq!(seen, text.expected, "in {parts} parts");
        }
    }

    #[test]
    fn words_are_distinct_and_plain() {
        let words = vocabulary();
        assert_eq!(words.len(), VOCABULARY);
        assert!(words.iter().all(|word| (2..=12).contains(&word.len()) && word.iter().all(u8::is_ascii_lowercase)));
    }
}
