//! `#[derive(Record)]`: the wire layout of a job author's own types.
//!
//! Generates code only; the layout's rules and every function the generated code calls live in the `record` module of
//! `weir-dataflow`, which the crate `weir` re-exports. The layout is specified in `docs/record-format.md`.

mod expand;
mod input;
mod view;

use proc_macro::TokenStream;

/// Makes a struct or an enum a `Record`: a value that can travel between tasks and be kept in state.
///
/// Fields are encoded in the order of their declaration, an enum after the number of its variant; so reordering fields
/// or variants changes the layout. Every field's type must be a record itself. Type parameters are bound by `Record`.
///
/// For a type `Bid` it also generates `BidView<'a>`, which has the same fields in their borrowed form: `&'a str` for a
/// `String` or `Text`, `SeqView<'a, T>` for a `Vec<T>`, `PointView<'a>` for another derived type `Point`. A view of a
/// type without any fields has no lifetime: `SideView`.
///
/// State that was written by an earlier version of the type is read by a later one if its fields allow it: `#[record(default)]` or
/// `#[record(default = value)]` on a field says what it is where it was not written; `#[record(former_name = "old")]` on a field
/// or variant says what it was called.
///
/// `#[record(crate = "path")]` on the type names the module to use instead of `::weir::record`.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(tokens: TokenStream) -> TokenStream {
    match syn::parse(tokens).and_then(|input| expand::record(&input)) {
        Ok(code) => code.into(),
        Err(error) => error.into_compile_error().into(),
    }
}
