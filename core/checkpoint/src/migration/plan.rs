//! What is done to one value after the other.

use std::collections::BTreeSet;

use crate::DecodeError;
use crate::codec::Reader;

/// How deep values may be nested.
const MAX_DEPTH: u32 = 1024;

/// How many items that take no bytes a list may have.
const MAX_EMPTY_ITEMS: u32 = 65_536;

/// What is done to a value.
#[derive(Debug, Clone)]
pub(super) enum Plan {
    /// So many bytes stay as they are.
    Copy(usize),
    /// A length and bytes stay as they are.
    Prefixed,
    /// Stays as it is, but nobody knows how long it is.
    Opaque(String),
    /// An integer of `old` bytes becomes one of `new` bytes.
    Widen {
        old: usize,
        new: usize,
        signed: bool,
    },
    /// An f32 becomes an f64.
    WidenFloat,
    /// A value becomes one that is there.
    Some(Box<Plan>),
    Optional(Box<Plan>),
    List(Box<Plan>),
    Array(Box<Plan>, u32),
    Sequence(Vec<Plan>),
    Struct {
        /// How to pass over each old field.
        old: Vec<Plan>,
        /// Where each new field comes from.
        new: Vec<Source>,
    },
    Enum {
        /// Bytes of the old tag.
        old_tag: usize,
        /// Bytes of the new tag.
        new_tag: usize,
        /// New tag and fields, by old tag.
        variants: Vec<(u32, Plan)>,
    },
    /// The one at this position.
    Named(usize),
}

impl Default for Plan {
    fn default() -> Self {
        Plan::Copy(0)
    }
}

/// Where a field comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// The old field at this position.
    Field(usize, Plan),
    /// These bytes.
    Default(Vec<u8>),
}

/// A plan with the plans it names.
#[derive(Debug, Clone)]
pub(super) struct Plans {
    pub root: Plan,
    pub named: Vec<Plan>,
}

impl Plans {
    /// Whether all bytes stay as they are.
    pub(super) fn change_nothing(&self) -> bool {
        self.every(&self.root, &mut BTreeSet::new(), &mut |plan| match plan {
            Plan::Copy(_)
            | Plan::Prefixed
            | Plan::Opaque(_)
            | Plan::Optional(_)
            | Plan::List(_)
            | Plan::Array(..)
            | Plan::Sequence(_)
            | Plan::Named(_) => true,
            Plan::Widen { .. } | Plan::WidenFloat | Plan::Some(_) => false,
            Plan::Struct { old, new } => in_place(old, new),
            Plan::Enum { old_tag, new_tag, variants } => {
                old_tag == new_tag && (0u32..).zip(variants).all(|(tag, (new, _))| tag == *new)
            }
        })
    }

    /// The name of a type in it that nobody knows the length of.
    pub(super) fn opaque(&self) -> Option<String> {
        let mut found = None;
        self.every(&self.root, &mut BTreeSet::new(), &mut |plan| {
            if let Plan::Opaque(name) = plan {
                found = Some(name.clone());
            }
            found.is_none()
        });
        found
    }

    /// Whether something holds for every part, each named one looked at once.
    fn every(&self, plan: &Plan, seen: &mut BTreeSet<usize>, holds: &mut impl FnMut(&Plan) -> bool) -> bool {
        if !holds(plan) {
            return false;
        }
        match plan {
            Plan::Copy(_) | Plan::Prefixed | Plan::Opaque(_) | Plan::Widen { .. } | Plan::WidenFloat => true,
            Plan::Some(inner) | Plan::Optional(inner) | Plan::List(inner) | Plan::Array(inner, _) => {
                self.every(inner, seen, holds)
            }
            Plan::Sequence(plans) => plans.iter().all(|plan| self.every(plan, seen, holds)),
            Plan::Struct { old, new } => {
                old.iter().all(|plan| self.every(plan, seen, holds))
                    && new.iter().all(|source| match source {
                        Source::Field(_, plan) => self.every(plan, seen, holds),
                        Source::Default(_) => true,
                    })
            }
            Plan::Enum { variants, .. } => variants.iter().all(|(_, plan)| self.every(plan, seen, holds)),
            Plan::Named(position) => !seen.insert(*position) || self.every(&self.named[*position], seen, holds),
        }
    }

    /// Appends the new form of a value.
    pub(super) fn run(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let mut reader = Reader::new(value);
        self.step(&self.root, &mut reader, out, 0)?;
        reader.end()
    }

    /// Goes down into what is nested. Small, because as many of it may be on the stack as values are deep.
    fn step(&self, plan: &Plan, reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(reader.invalid("depth of a value", 0));
        }
        let depth = depth + 1;
        match plan {
            Plan::Copy(_) | Plan::Prefixed | Plan::Opaque(_) | Plan::Widen { .. } | Plan::WidenFloat => {
                leaf(plan, reader, out)
            }
            Plan::Some(inner) => {
                out.push(1);
                self.step(inner, reader, out, depth)
            }
            Plan::Optional(inner) => match flag(reader, out) {
                Ok(true) => self.step(inner, reader, out, depth),
                other => other.map(drop),
            },
            Plan::List(item) => self.items(item, reader, out, depth),
            Plan::Array(item, count) => (0..*count).try_for_each(|_| self.step(item, reader, out, depth)),
            Plan::Sequence(plans) => plans.iter().try_for_each(|plan| self.step(plan, reader, out, depth)),
            Plan::Struct { old, new } => self.fields(old, new, reader, out, depth),
            Plan::Enum { old_tag, new_tag, variants } => {
                let fields = variant(variants, *old_tag, *new_tag, reader, out)?;
                self.step(fields, reader, out, depth)
            }
            Plan::Named(position) => self.step(&self.named[*position], reader, out, depth),
        }
    }

    fn items(&self, item: &Plan, reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
        let count = count(reader, out)?;
        let before = reader.remaining();
        for index in 0..count {
            if index >= MAX_EMPTY_ITEMS && reader.remaining() == before {
                return Err(reader.invalid("number of items", 0));
            }
            self.step(item, reader, out, depth)?;
        }
        Ok(())
    }

    fn fields(
        &self,
        old: &[Plan],
        new: &[Source],
        reader: &mut Reader<'_>,
        out: &mut Vec<u8>,
        depth: u32,
    ) -> Result<(), DecodeError> {
        // In one go, because passing over values that are passed over again would take time without bound.
        if in_place(old, new) {
            for source in new {
                if let Source::Field(_, plan) = source {
                    self.step(plan, reader, out, depth)?;
                }
            }
            return Ok(());
        }
        // Where each begins; its end is found by passing over it.
        let mut places = Vec::with_capacity(old.len());
        let end = out.len();
        for plan in old {
            places.push(reader.clone());
            self.step(plan, reader, out, depth)?;
            out.truncate(end);
        }
        for source in new {
            match source {
                Source::Field(index, plan) => self.step(plan, &mut places[*index].clone(), out, depth)?,
                Source::Default(bytes) => out.extend_from_slice(bytes),
            }
        }
        Ok(())
    }
}

/// Whether all fields are where they were.
fn in_place(old: &[Plan], new: &[Source]) -> bool {
    let same = |(index, source): (usize, &Source)| matches!(source, Source::Field(from, _) if *from == index);
    old.len() == new.len() && new.iter().enumerate().all(same)
}

/// Handles a value with nothing inside.
#[inline(never)]
fn leaf(plan: &Plan, reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    match plan {
        Plan::Copy(length) => out.extend_from_slice(reader.raw(*length, "value")?),
        Plan::Prefixed => {
            let length = count(reader, out)?;
            out.extend_from_slice(reader.raw(length as usize, "text or bytes")?);
        }
        Plan::Widen { old, new, signed } => {
            let bytes = reader.raw(*old, "integer")?;
            let negative = *signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
            out.extend_from_slice(bytes);
            out.resize(out.len() + new - old, if negative { 0xff } else { 0 });
        }
        Plan::WidenFloat => {
            let number = f32::from_le_bytes(reader.fixed("number")?);
            out.extend_from_slice(&f64::from(number).to_le_bytes());
        }
        // A plan that changes anything has no opaque value, and the others are none of this function's.
        Plan::Opaque(_)
        | Plan::Some(_)
        | Plan::Optional(_)
        | Plan::List(_)
        | Plan::Array(..)
        | Plan::Sequence(_)
        | Plan::Struct { .. }
        | Plan::Enum { .. }
        | Plan::Named(_) => return Err(reader.invalid("value in a format of its own", 0)),
    }
    Ok(())
}

#[inline(never)]
fn flag(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
    let there = reader.flag("optional value")?;
    out.push(u8::from(there));
    Ok(there)
}

/// Reads the old tag and writes the new one; gives the fields' plan.
#[inline(never)]
fn variant<'p>(
    variants: &'p [(u32, Plan)],
    old_tag: usize,
    new_tag: usize,
    reader: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<&'p Plan, DecodeError> {
    let bytes = reader.raw(old_tag, "tag of an enum")?;
    let tag = bytes.iter().rev().fold(0, |tag, &byte| tag << 8 | usize::from(byte));
    let Some((new, fields)) = variants.get(tag) else { return Err(reader.invalid("tag of an enum", old_tag)) };
    out.extend_from_slice(&new.to_le_bytes()[..new_tag]);
    Ok(fields)
}

/// A count or length, which stays as it is.
fn count(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<u32, DecodeError> {
    let bytes = reader.fixed("length or count")?;
    out.extend_from_slice(&bytes);
    Ok(u32::from_le_bytes(bytes))
}
