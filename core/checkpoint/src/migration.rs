//! Which changes of a type leave the state of its earlier versions readable, and how the old bytes become new ones.
//!
//! Both schemas are walked together. What comes out is a plan that knows how to pass over every old value and what of it goes where
//! in the new one; where nothing changes it says so, and bytes stay as they are.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use self::plan::{Plan, Plans, Source};
use crate::{DecodeError, Field, Schema, Variant};

/// How encoded values of one schema become those of another.
#[derive(Debug, Clone)]
pub struct Migration {
    /// `None`: they stay as they are.
    plans: Option<Plans>,
}

/// A change that leaves old values unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatible {
    /// Where in the value: names of fields with dots between them; empty for the value itself.
    pub path: String,
    /// What was written.
    pub found: String,
    /// What is to be read.
    pub expected: String,
    /// What can be done, or why it cannot.
    pub hint: String,
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, found, expected, hint } = self;
        if path.is_empty() {
            write!(f, "its values were {found} and are {expected} now: {hint}")
        } else {
            write!(f, "its field `{path}` was {found} and is {expected} now: {hint}")
        }
    }
}

impl std::error::Error for Incompatible {}

/// How values that were written with `from` are read with `to`; or the first change that cannot be.
pub fn migration(from: &Schema, to: &Schema) -> Result<Migration, Incompatible> {
    let mut compiler = Compiler::default();
    let root = compiler.compile(from, to)?;
    let plans = Plans { root, named: compiler.plans.into_iter().map(Option::unwrap_or_default).collect() };
    if plans.change_nothing() {
        return Ok(Migration { plans: None });
    }
    if let Some(name) = plans.opaque() {
        let hint = format!(
            "values of `{name}` have a format of their own, so what lies behind them cannot be found; derive `Record` for it, or \
             leave the type as it was"
        );
        return Err(Incompatible { path: String::new(), found: from.to_string(), expected: to.to_string(), hint });
    }
    Ok(Migration { plans: Some(plans) })
}

impl Migration {
    /// Whether bytes stay as they are.
    pub fn is_identity(&self) -> bool {
        self.plans.is_none()
    }

    /// Appends the new form of one old value, which must be all of `value`.
    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        match &self.plans {
            None => out.extend_from_slice(value),
            Some(plans) => plans.run(value, out)?,
        }
        Ok(())
    }
}

/// Types around the place that is looked at, outermost first.
type Scope<'s> = Vec<(&'s str, &'s Schema)>;

#[derive(Default)]
struct Compiler<'s> {
    /// Plans of structs and enums; `None` while they are being made.
    plans: Vec<Option<Plan>>,
    /// Their positions, by the places of both schemas.
    positions: HashMap<(*const Schema, *const Schema), usize>,
    from: Scope<'s>,
    to: Scope<'s>,
    path: Vec<String>,
}

impl<'s> Compiler<'s> {
    fn compile(&mut self, from: &'s Schema, to: &'s Schema) -> Result<Plan, Incompatible> {
        use Schema::*;
        Ok(match (from, to) {
            (Recursive(name), _) => return self.inside(name, true, |compiler, from| compiler.compile(from, to)),
            (_, Recursive(name)) => return self.inside(name, false, |compiler, to| compiler.compile(from, to)),
            (Unit, Unit) => Plan::Copy(0),
            (Bool, Bool) => Plan::Copy(1),
            (Char, Char) => Plan::Copy(4),
            (Unsigned(old), Unsigned(new)) | (Signed(old), Signed(new)) | (Float(old), Float(new)) if old == new => {
                Plan::Copy(usize::from(*old) / 8)
            }
            (Unsigned(old), Unsigned(new)) | (Unsigned(old), Signed(new)) if old < new => {
                Plan::Widen { old: usize::from(*old) / 8, new: usize::from(*new) / 8, signed: false }
            }
            (Signed(old), Signed(new)) if old < new => {
                Plan::Widen { old: usize::from(*old) / 8, new: usize::from(*new) / 8, signed: true }
            }
            (Float(32), Float(64)) => Plan::WidenFloat,
            (Text, Text) | (Bytes, Bytes) => Plan::Prefixed,
            // The same bytes.
            (Bytes, List(item)) | (List(item), Bytes) if **item == Unsigned(8) => Plan::Prefixed,
            (Framed(old), Framed(new)) if old == new => Plan::Prefixed,
            (Opaque(old), Opaque(new)) if old == new => Plan::Opaque(old.clone()),
            (Optional(old), Optional(new)) => Plan::Optional(Box::new(self.compile(old, new)?)),
            (old, Optional(new)) => Plan::Some(Box::new(self.compile(old, new)?)),
            (List(old), List(new)) => Plan::List(Box::new(self.compile(old, new)?)),
            (Array(old, count), Array(new, same)) if count == same => {
                Plan::Array(Box::new(self.compile(old, new)?), *count)
            }
            (Map(old_key, old), Map(new_key, new)) => {
                let key = self.at("key", |compiler| compiler.compile(old_key, new_key))?;
                let value = self.at("value", |compiler| compiler.compile(old, new))?;
                Plan::List(Box::new(Plan::Sequence(vec![key, value])))
            }
            (Tuple(old), Tuple(new)) if old.len() == new.len() => {
                let each = old.iter().zip(new).enumerate();
                let plans = each.map(|(index, (old, new))| self.at(&index.to_string(), |it| it.compile(old, new)));
                Plan::Sequence(plans.collect::<Result<_, _>>()?)
            }
            (Struct { name: old, fields }, Struct { name: new, fields: expected }) => {
                self.named((from, old), (to, new), |compiler| compiler.fields(fields, expected))?
            }
            (Enum { name: old, variants }, Enum { name: new, variants: expected }) => {
                self.named((from, old), (to, new), |compiler| compiler.variants(variants, expected))?
            }
            _ => return Err(self.refuse(from, to, hint(from, to))),
        })
    }

    /// Compiles what a name of an enclosing type stands for, as seen from there.
    fn inside(
        &mut self,
        name: &str,
        old: bool,
        compile: impl FnOnce(&mut Self, &'s Schema) -> Result<Plan, Incompatible>,
    ) -> Result<Plan, Incompatible> {
        let scope = if old { &mut self.from } else { &mut self.to };
        let Some(position) = scope.iter().rposition(|(open, _)| *open == name) else {
            let found = format!("`{name}`, which is nowhere described");
            let (path, expected) = (self.path.join("."), found.clone());
            return Err(Incompatible { path, found, expected, hint: "the schema is damaged".to_owned() });
        };
        let schema = scope[position].1;
        let inner = scope.split_off(position);
        let plan = compile(self, schema);
        let scope = if old { &mut self.from } else { &mut self.to };
        scope.extend(inner);
        plan
    }

    /// Compiles a pair of named types once, wherever they occur inside of themselves.
    fn named(
        &mut self,
        (from, old): (&'s Schema, &'s str),
        (to, new): (&'s Schema, &'s str),
        compile: impl FnOnce(&mut Self) -> Result<Plan, Incompatible>,
    ) -> Result<Plan, Incompatible> {
        let key = (std::ptr::from_ref(from), std::ptr::from_ref(to));
        if let Some(&position) = self.positions.get(&key) {
            return Ok(Plan::Named(position));
        }
        let position = self.plans.len();
        self.positions.insert(key, position);
        self.plans.push(None);
        self.from.push((old, from));
        self.to.push((new, to));
        let plan = compile(self);
        self.from.pop();
        self.to.pop();
        self.plans[position] = Some(plan?);
        Ok(Plan::Named(position))
    }

    fn fields(&mut self, old: &'s [Field], new: &'s [Field]) -> Result<Plan, Incompatible> {
        let find = |name: &str| old.iter().position(|field| field.name == name);
        let kept: Vec<_> = new.iter().map(|field| find(&field.name)).collect();
        let mut target = Vec::new();
        for (field, kept_as) in new.iter().zip(&kept) {
            let renamed =
                || field.former_names.iter().filter_map(|name| find(name)).find(|&index| !kept.contains(&Some(index)));
            let source = match (kept_as.or_else(renamed), &field.default) {
                (Some(index), _) => {
                    let plan = self.at(&field.name, |compiler| compiler.compile(&old[index].schema, &field.schema))?;
                    Source::Field(index, plan)
                }
                (None, Some(default)) => Source::Default(default.clone()),
                (None, None) => {
                    let hint = "a new field needs `#[record(default)]`, or `#[record(former_name = \"…\")]` if it had another name";
                    let path = self.path_to(&field.name);
                    let (found, expected) = ("not there".to_owned(), field.schema.to_string());
                    return Err(Incompatible { path, found, expected, hint: hint.to_owned() });
                }
            };
            target.push(source);
        }
        // Passing over a value is reading it as what it is.
        let passed = old.iter().map(|field| self.at(&field.name, |compiler| compiler.pass(&field.schema)));
        Ok(Plan::Struct { old: passed.collect::<Result<_, _>>()?, new: target })
    }

    /// The plan that reads values as what they are.
    fn pass(&mut self, schema: &'s Schema) -> Result<Plan, Incompatible> {
        let to = std::mem::replace(&mut self.to, self.from.clone());
        let plan = self.compile(schema, schema);
        self.to = to;
        plan
    }

    fn variants(&mut self, old: &'s [Variant], new: &'s [Variant]) -> Result<Plan, Incompatible> {
        let find = |name: &str| new.iter().position(|variant| variant.name == name);
        let mut variants = Vec::new();
        for variant in old {
            let renamed = || new.iter().position(|new| new.former_names.contains(&variant.name));
            let Some(index) = find(&variant.name).or_else(renamed) else {
                let hint = "values of it may have been written; keep the variant, or say what it is called now with \
                            `#[record(former_name = \"…\")]`";
                let path = self.path_to(&variant.name);
                let (found, expected) = ("a variant".to_owned(), "not there".to_owned());
                return Err(Incompatible { path, found, expected, hint: hint.to_owned() });
            };
            let plan = self.at(&variant.name, |compiler| compiler.fields(&variant.fields, &new[index].fields))?;
            variants.push((index as u32, plan));
        }
        Ok(Plan::Enum { old_tag: tag_length(old.len()), new_tag: tag_length(new.len()), variants })
    }

    fn at<T>(&mut self, name: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name.to_owned());
        let result = inside(self);
        self.path.pop();
        result
    }

    fn path_to(&self, name: &str) -> String {
        self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }

    fn refuse(&self, from: &Schema, to: &Schema, hint: &str) -> Incompatible {
        let (found, expected) = (from.to_string(), to.to_string());
        Incompatible { path: self.path.join("."), found, expected, hint: hint.to_owned() }
    }
}

/// Bytes of the tag of an enum.
fn tag_length(variants: usize) -> usize {
    if variants > 256 { 2 } else { 1 }
}

fn hint(from: &Schema, to: &Schema) -> &'static str {
    use Schema::*;
    match (from, to) {
        (Unsigned(_) | Signed(_) | Float(_), Unsigned(_) | Signed(_) | Float(_)) => {
            "numbers can only become wider ones of their kind, unsigned ones also wider signed ones"
        }
        (Opaque(_) | Framed(_), _) | (_, Opaque(_) | Framed(_)) => {
            "a format of its own can be read by the type that wrote it only"
        }
        _ => {
            "fields can be added with a default, removed, renamed, made wider or optional, and variants can be added; for anything \
             else give the state another name"
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schema::Unit => f.write_str("nothing"),
            Schema::Bool => f.write_str("bool"),
            Schema::Unsigned(bits) => write!(f, "u{bits}"),
            Schema::Signed(bits) => write!(f, "i{bits}"),
            Schema::Float(bits) => write!(f, "f{bits}"),
            Schema::Char => f.write_str("char"),
            Schema::Text => f.write_str("text"),
            Schema::Bytes => f.write_str("bytes"),
            Schema::Optional(inner) => write!(f, "optional {inner}"),
            Schema::List(item) => write!(f, "list of {item}"),
            Schema::Array(item, count) => write!(f, "array of {count} {item}"),
            Schema::Map(key, value) => write!(f, "map of {key} to {value}"),
            Schema::Tuple(items) => {
                let items: Vec<_> = items.iter().map(Schema::to_string).collect();
                write!(f, "({})", items.join(", "))
            }
            Schema::Struct { name, .. } => write!(f, "struct {name}"),
            Schema::Enum { name, .. } => write!(f, "enum {name}"),
            Schema::Recursive(name) => f.write_str(name),
            Schema::Framed(name) | Schema::Opaque(name) => write!(f, "{name} (a format of its own)"),
        }
    }
}
