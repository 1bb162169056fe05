//! What a derive is asked about, in the form the generators need: a struct is a type with one shape, an enum one with
//! several behind a tag.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, GenericParam, Generics, Ident, LitStr, Member, Path, Result, Token,
    Type, Visibility, parse_quote,
};

pub struct Input<'i> {
    pub name: &'i Ident,
    pub visibility: &'i Visibility,
    /// With every type parameter bound by `Record`.
    pub generics: Generics,
    /// The module that holds `Record`.
    pub record: Path,
    pub kind: Kind,
    pub shapes: Vec<Shape<'i>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Struct,
    /// An enum, with the type of its tag: `u8` up to 256 variants, `u16` beyond.
    Enum {
        wide_tag: bool,
    },
}

/// The fields of a struct or of a variant.
pub struct Shape<'i> {
    /// `None` for a struct.
    pub variant: Option<&'i Ident>,
    pub docs: Vec<&'i Attribute>,
    /// Names the variant had before.
    pub former_names: Vec<String>,
    pub style: Style,
    pub fields: Vec<Field<'i>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Named,
    Tuple,
    Unit,
}

pub struct Field<'i> {
    pub member: Member,
    /// What the generated code calls it.
    pub binding: Ident,
    pub ty: &'i Type,
    pub visibility: &'i Visibility,
    pub docs: Vec<&'i Attribute>,
    /// Names it had before.
    pub former_names: Vec<String>,
    /// Whether it has a value where state was written without it, and which, if that is not the type's.
    pub default: Option<Option<TokenStream>>,
}

impl<'i> Input<'i> {
    pub fn new(input: &'i DeriveInput) -> Result<Self> {
        let record = record_module(&input.attrs)?;
        let (kind, shapes) = match &input.data {
            Data::Struct(data) => (Kind::Struct, vec![Shape::new(None, &[], &data.fields)?]),
            Data::Enum(data) if data.variants.is_empty() => {
                return Err(Error::new(input.ident.span(), "an enum without variants has no values to encode"));
            }
            Data::Enum(data) if data.variants.len() > 1 << 16 => {
                return Err(Error::new(input.ident.span(), "a record enum has at most 65536 variants"));
            }
            Data::Enum(data) => {
                let shapes = data
                    .variants
                    .iter()
                    .map(|variant| Shape::new(Some(&variant.ident), &variant.attrs, &variant.fields));
                (Kind::Enum { wide_tag: data.variants.len() > 256 }, shapes.collect::<Result<_>>()?)
            }
            Data::Union(data) => {
                let message = "a union cannot be a record: nothing tells which of its fields is valid";
                return Err(Error::new(data.union_token.span(), message));
            }
        };
        let generics = bound_generics(&input.generics, &record)?;
        Ok(Input { name: &input.ident, visibility: &input.vis, generics, record, kind, shapes })
    }

    pub fn view_name(&self) -> Ident {
        format_ident!("{}View", self.name)
    }

    /// Whether any shape has a field: otherwise there is nothing to borrow.
    pub fn has_fields(&self) -> bool {
        self.shapes.iter().any(|shape| !shape.fields.is_empty())
    }
}

impl Kind {
    /// The tag of the variant at `index`, as a literal of the tag's type; nothing for a struct.
    pub fn tag(self, index: usize) -> Option<TokenStream> {
        match self {
            Kind::Struct => None,
            Kind::Enum { wide_tag: false } => {
                let tag = proc_macro2::Literal::u8_suffixed(index as u8);
                Some(quote!(#tag))
            }
            Kind::Enum { wide_tag: true } => {
                let tag = proc_macro2::Literal::u16_suffixed(index as u16);
                Some(quote!(#tag))
            }
        }
    }

    pub fn tag_len(self) -> usize {
        match self {
            Kind::Struct => 0,
            Kind::Enum { wide_tag } => 1 + usize::from(wide_tag),
        }
    }
}

impl<'i> Shape<'i> {
    fn new(variant: Option<&'i Ident>, attributes: &'i [Attribute], fields: &'i Fields) -> Result<Self> {
        let style = match fields {
            Fields::Named(_) => Style::Named,
            Fields::Unnamed(_) => Style::Tuple,
            Fields::Unit => Style::Unit,
        };
        let fields = fields.members().zip(fields).enumerate().map(|(at, (member, field))| {
            let Evolution { former_names, default } = Evolution::of_field(&field.attrs)?;
            Ok(Field {
                member,
                binding: format_ident!("field{at}", span = Span::mixed_site()),
                ty: &field.ty,
                visibility: &field.vis,
                docs: docs(&field.attrs),
                former_names,
                default,
            })
        });
        let Evolution { former_names, .. } = Evolution::of_variant(attributes)?;
        Ok(Shape { variant, docs: docs(attributes), former_names, style, fields: fields.collect::<Result<_>>()? })
    }

    /// What the shape is called in an expression or pattern, for the type called `name`.
    pub fn path(&self, name: &impl ToTokens) -> TokenStream {
        match self.variant {
            Some(variant) => quote!(#name::#variant),
            None => quote!(#name),
        }
    }

    /// A pattern that binds every field. Braces fit tuple and unit shapes as well.
    pub fn pattern(&self, name: &impl ToTokens) -> TokenStream {
        let path = self.path(name);
        let members = self.fields.iter().map(|field| &field.member);
        let bindings = self.fields.iter().map(|field| &field.binding);
        quote!(#path { #(#members: #bindings),* })
    }
}

impl Field<'_> {
    /// `<Type as Record>::item`, all of it placed at the field so that a missing implementation is reported there.
    pub fn item(&self, record: &Path, item: &str) -> TokenStream {
        let (ty, span) = (self.ty, self.ty.span());
        let item = Ident::new(item, span);
        quote_spanned!(span=> <#ty as #record::Record>::#item)
    }
}

fn docs(attributes: &[Attribute]) -> Vec<&Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).collect()
}

fn record_module(attributes: &[Attribute]) -> Result<Path> {
    let mut module = parse_quote!(::weir::record);
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("record")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("unknown option; the only one is `crate = \"path\"`"));
            }
            module = meta.value()?.parse::<LitStr>()?.parse()?;
            Ok(())
        })?;
    }
    Ok(module)
}

/// How a field or variant relates to those of earlier versions of the type.
#[derive(Default)]
struct Evolution {
    former_names: Vec<String>,
    default: Option<Option<TokenStream>>,
}

impl Evolution {
    fn of_field(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("record")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("former_name") {
                    found.former_names.push(meta.value()?.parse::<LitStr>()?.value());
                } else if meta.path.is_ident("default") {
                    let value = if meta.input.peek(Token![=]) { Some(value(meta.value()?)?) } else { None };
                    found.default = Some(value);
                } else {
                    let message =
                        "unknown option; a field has `default`, `default = value` and `former_name = \"name\"`";
                    return Err(meta.error(message));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    fn of_variant(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("record")) {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("former_name") {
                    return Err(meta.error("unknown option; a variant has `former_name = \"name\"`"));
                }
                found.former_names.push(meta.value()?.parse::<LitStr>()?.value());
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// Whatever stands before the next comma: any expression, as the compiler will read it.
fn value(input: ParseStream) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    if tokens.is_empty() { Err(input.error("expected a value after `default =`")) } else { Ok(tokens) }
}

fn bound_generics(generics: &Generics, record: &Path) -> Result<Generics> {
    let mut bound = generics.clone();
    for parameter in &generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) => {
                let message = "a record owns its data, because it outlives the buffer it was decoded from: \
                               use String, Text or Bytes; the borrowed form is generated";
                return Err(Error::new(lifetime.span(), message));
            }
            GenericParam::Type(parameter) => {
                let name = &parameter.ident;
                bound.make_where_clause().predicates.push(parse_quote!(#name: #record::Record));
            }
            GenericParam::Const(_) => {}
        }
    }
    Ok(bound)
}
