//! Writes values; what occurs often is written once.

use std::collections::HashMap;
use std::hash::Hash;

/// Bytes being written.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Seven bits a byte, lowest first; the eighth says that more follow.
    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A count and that many items.
    pub(crate) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        items.iter().for_each(|item| write(self, item));
    }

    pub(crate) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Values by the order they first occurred in.
#[derive(Debug)]
pub(crate) struct Interned<'a, T: ?Sized> {
    positions: HashMap<&'a T, u64>,
    values: Vec<&'a T>,
}

impl<'a, T: ?Sized + Eq + Hash> Interned<'a, T> {
    pub(crate) fn new() -> Self {
        Self { positions: HashMap::new(), values: Vec::new() }
    }

    pub(crate) fn position(&mut self, value: &'a T) -> u64 {
        let next = self.values.len() as u64;
        let position = *self.positions.entry(value).or_insert(next);
        if position == next {
            self.values.push(value);
        }
        position
    }

    pub(crate) fn values(&self) -> &[&'a T] {
        &self.values
    }
}
