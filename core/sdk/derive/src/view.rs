//! The borrowed form of the type: the same shapes, with every field in its own borrowed form.

use crate::input::{Input, Kind, Shape, Style};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{GenericParam, Generics, parse_quote};

/// The type's generics, behind the lifetime of the bytes if there is anything to borrow.
fn generics(input: &Input) -> Generics {
    let mut generics = input.generics.clone();
    if input.has_fields() {
        generics.params.insert(0, parse_quote!('a));
    }
    generics
}

/// The view as a type, with its arguments.
pub fn path(input: &Input) -> TokenStream {
    let (name, generics) = (input.view_name(), generics(input));
    let (_, arguments, _) = generics.split_for_impl();
    quote!(#name #arguments)
}

pub fn definition(input: &Input) -> TokenStream {
    let (name, visibility, generics) = (input.view_name(), input.visibility, generics(input));
    let where_clause = &generics.where_clause;
    let doc = format!("Borrowed form of [`{}`]: the same fields, left in the encoded bytes.", input.name);
    let bodies = input.shapes.iter().map(|shape| body(input, shape));
    let (derives, impls) = traits(input, &generics);
    let item = match input.kind {
        Kind::Enum { .. } => quote!(#visibility enum #name #generics #where_clause { #(#bodies),* }),
        // A tuple struct has its where clause at the end.
        Kind::Struct => match input.shapes.first().map(|shape| shape.style) {
            Some(Style::Named) => quote!(#visibility struct #name #generics #where_clause #(#bodies)*),
            _ => quote!(#visibility struct #name #generics #(#bodies)* #where_clause;),
        },
    };
    quote! {
        #[doc = #doc]
        #[allow(missing_docs, dead_code)]
        #derives
        #item

        #impls
    }
}

fn body(input: &Input, shape: &Shape) -> TokenStream {
    let (variant, docs) = (shape.variant, &shape.docs);
    let fields = shape.fields.iter().map(|field| {
        let (docs, visibility, of) = (&field.docs, field.visibility, field.item(&input.record, "View"));
        let name = match &field.member {
            syn::Member::Named(name) => Some(quote!(#name:)),
            syn::Member::Unnamed(_) => None,
        };
        quote!(#(#docs)* #visibility #name #of<'a>)
    });
    match shape.style {
        Style::Named => quote!(#(#docs)* #variant { #(#fields),* }),
        Style::Tuple => quote!(#(#docs)* #variant (#(#fields),*)),
        Style::Unit => quote!(#(#docs)* #variant),
    }
}

/// `Clone`, `Debug` and `PartialEq`, which `Record` demands of a view. Derived ones would ask them of the type's
/// parameters, which need not have them, instead of the parameters' views, which do.
fn traits(input: &Input, generics: &Generics) -> (TokenStream, TokenStream) {
    if !input.has_fields() {
        return (quote!(#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]), quote!());
    }
    if !generics.params.iter().any(|parameter| matches!(parameter, GenericParam::Type(_))) {
        return (quote!(#[derive(Clone, Debug, PartialEq)]), quote!());
    }
    let name = input.view_name();
    let (impl_generics, arguments, where_clause) = generics.split_for_impl();
    let this = quote!(Self);
    let clone_arms = input.shapes.iter().map(|shape| {
        let (pattern, path) = (shape.pattern(&this), shape.path(&this));
        let fields = shape.fields.iter().map(|field| {
            let (member, value) = (&field.member, &field.binding);
            quote!(#member: ::core::clone::Clone::clone(#value))
        });
        quote!(#pattern => #path { #(#fields),* },)
    });
    let debug_arms = input.shapes.iter().map(|shape| {
        let pattern = shape.pattern(&this);
        let shown = shape.variant.unwrap_or(&name).to_string();
        let builder = if shape.style == Style::Named { quote!(debug_struct) } else { quote!(debug_tuple) };
        let fields = shape.fields.iter().map(|field| {
            let value = &field.binding;
            match &field.member {
                syn::Member::Named(name) => {
                    let name = name.to_string();
                    quote!(.field(#name, #value))
                }
                syn::Member::Unnamed(_) => quote!(.field(#value)),
            }
        });
        quote!(#pattern => f.#builder(#shown) #(#fields)* .finish(),)
    });
    let equal_arms = input.shapes.iter().map(|shape| {
        let (pattern, path) = (shape.pattern(&this), shape.path(&this));
        let members = shape.fields.iter().map(|field| &field.member);
        let others: Vec<_> = shape.fields.iter().map(|field| format_ident!("other_{}", field.binding)).collect();
        let values = shape.fields.iter().map(|field| &field.binding);
        quote!((#pattern, #path { #(#members: #others),* }) => true #(&& *#values == *#others)*,)
    });
    // With a single shape this arm would be unreachable.
    let unequal = (input.shapes.len() > 1).then(|| quote!(_ => false,));
    let impls = quote! {
        #[automatically_derived]
        impl #impl_generics ::core::clone::Clone for #name #arguments #where_clause {
            fn clone(&self) -> Self {
                match self { #(#clone_arms)* }
            }
        }

        #[automatically_derived]
        impl #impl_generics ::core::fmt::Debug for #name #arguments #where_clause {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self { #(#debug_arms)* }
            }
        }

        #[automatically_derived]
        impl #impl_generics ::core::cmp::PartialEq for #name #arguments #where_clause {
            fn eq(&self, other: &Self) -> bool {
                match (self, other) { #(#equal_arms)* #unequal }
            }
        }
    };
    (quote!(), impls)
}
