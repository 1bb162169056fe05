//! The implementation of `Record`.

use crate::input::{Field, Input, Kind, Shape};
use crate::view;
use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{DeriveInput, Result};

pub fn record(input: &DeriveInput) -> Result<TokenStream> {
    let input = Input::new(input)?;
    let Input { name, generics, record, .. } = &input;
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let view = view::definition(&input);
    let view_type = view::path(&input);
    let (constants, encoding, decoding) = (constants(&input), encoding(&input), decoding(&input));
    let schema = schema(&input);
    Ok(quote! {
        #view

        #[automatically_derived]
        impl #impl_generics #record::Record for #name #type_generics #where_clause {
            type View<'a> = #view_type;
            #constants
            #encoding
            #decoding
            #schema
        }
    })
}

fn constants(input: &Input) -> TokenStream {
    let record = &input.record;
    let lengths = input.shapes.iter().map(|shape| {
        let fields = shape.fields.iter().map(|field| field.item(record, "FIXED_LEN"));
        quote!(#record::layout::sum(&[#(#fields),*]))
    });
    match input.kind {
        Kind::Struct => {
            let plain = input.shapes.iter().flat_map(|shape| &shape.fields).map(|field| field.item(record, "PLAIN"));
            quote! {
                const FIXED_LEN: ::core::option::Option<usize> = #(#lengths)*;
                const PLAIN: bool = #record::layout::all(&[#(#plain),*]);
            }
        }
        Kind::Enum { .. } => {
            let tag_len = input.kind.tag_len();
            quote! {
                const FIXED_LEN: ::core::option::Option<usize> =
                    #record::layout::same(#tag_len, &[#(#lengths),*]);
            }
        }
    }
}

/// A `match` on self with an arm for each shape.
fn match_self(input: &Input, arm: impl Fn(usize, &Shape) -> TokenStream) -> TokenStream {
    let arms = input.shapes.iter().enumerate().map(|(index, shape)| {
        let pattern = shape.pattern(&quote!(Self));
        let body = arm(index, shape);
        quote!(#pattern => #body)
    });
    quote!(match self { #(#arms)* })
}

/// A statement for each field.
fn each(shape: &Shape, statement: impl Fn(&Field) -> TokenStream) -> TokenStream {
    shape.fields.iter().map(statement).collect()
}

fn encoding(input: &Input) -> TokenStream {
    let record = &input.record;
    let tag_len = input.kind.tag_len();
    let encoded_len = match_self(input, |_, shape| {
        let fields = each(shape, |field| {
            let (function, value) = (field.item(record, "encoded_len"), &field.binding);
            quote!(+ #function(#value))
        });
        quote!({ #tag_len #fields })
    });
    let encode = match_self(input, |index, shape| {
        let tag = input.kind.tag(index).map(|tag| quote!(#record::Record::encode(&#tag, out);));
        let fields = each(shape, |field| {
            let (function, value) = (field.item(record, "encode"), &field.binding);
            quote!(#function(#value, out);)
        });
        quote!({ #tag #fields })
    });
    let encode_fixed = match_self(input, |index, shape| {
        let tag = input.kind.tag(index).map(|tag| quote!(let out = #record::layout::put_fixed(&#tag, out);));
        let fields = each(shape, |field| {
            let value = &field.binding;
            quote!(let out = #record::layout::put_fixed(#value, out);)
        });
        quote!({ #tag #fields let _ = out; })
    });
    let detach = match_self(input, |_, shape| {
        let fields = each(shape, |field| {
            let (function, value) = (field.item(record, "detach"), &field.binding);
            quote!(#function(#value);)
        });
        quote!({ #fields })
    });
    quote! {
        #[inline]
        fn encoded_len(&self) -> usize {
            if let ::core::option::Option::Some(len) = <Self as #record::Record>::FIXED_LEN {
                return len;
            }
            #encoded_len
        }

        #[inline]
        fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
            if <Self as #record::Record>::FIXED_LEN.is_some() {
                return #record::layout::append_fixed(self, out);
            }
            #encode
        }

        #[inline]
        fn encode_fixed(&self, out: &mut [u8]) {
            #encode_fixed
        }

        fn detach(&mut self) {
            #detach
        }
    }
}

fn decoding(input: &Input) -> TokenStream {
    let record = &input.record;
    let decode = construct(input, &quote!(Self), "decode");
    let view = construct(input, &input.view_name(), "view");
    let error = quote!(#record::DecodeError);
    quote! {
        #[inline]
        fn decode(input: &mut #record::Decoder<'_>) -> ::core::result::Result<Self, #error> {
            #decode
        }

        #[inline]
        fn view<'a>(input: &mut #record::Decoder<'a>) -> ::core::result::Result<Self::View<'a>, #error> {
            #view
        }
    }
}

fn schema(input: &Input) -> TokenStream {
    let (record, name) = (&input.record, input.name.unraw().to_string());
    let fields = |shape: &Shape| {
        let fields = shape.fields.iter().map(|field| {
            let (ty, former) = (field.ty, &field.former_names);
            let name = match &field.member {
                syn::Member::Named(name) => name.unraw().to_string(),
                syn::Member::Unnamed(index) => index.index.to_string(),
            };
            let default = match &field.default {
                None => quote!(::core::option::Option::None),
                Some(None) => quote!(::core::option::Option::Some(<#ty as ::core::default::Default>::default)),
                Some(Some(value)) => quote!(::core::option::Option::Some(|| -> #ty { #value })),
            };
            quote!(#record::layout::field::<#ty>(builder, #name, &[#(#former),*], #default))
        });
        quote!(::std::vec![#(#fields),*])
    };
    let body = match input.kind {
        Kind::Struct => {
            let fields = input.shapes.iter().map(fields);
            quote!(builder.structure::<Self>(#name, |builder| { let _ = &builder; #(#fields)* }))
        }
        Kind::Enum { .. } => {
            let variants = input.shapes.iter().map(|shape| {
                let (name, former) = (shape.variant.map(|name| name.unraw().to_string()), &shape.former_names);
                let fields = fields(shape);
                quote! {
                    #record::SchemaVariant {
                        name: ::std::string::String::from(#name),
                        former_names: ::std::vec![#(::std::string::String::from(#former)),*],
                        fields: #fields,
                    }
                }
            });
            quote! {
                builder.enumeration::<Self>(#name, |builder| { let _ = &builder; ::std::vec![#(#variants),*] })
            }
        }
    };
    quote! {
        fn schema(builder: &mut #record::SchemaBuilder) -> #record::Schema {
            #body
        }
    }
}

/// Reads a value of the type called `name`, each field with `function`.
fn construct(input: &Input, name: &impl quote::ToTokens, function: &str) -> TokenStream {
    let record = &input.record;
    let mut values = input.shapes.iter().map(|shape| {
        let path = shape.path(name);
        let fields = shape.fields.iter().map(|field| {
            let (member, function) = (&field.member, field.item(record, function));
            quote!(#member: #function(input)?)
        });
        quote!(::core::result::Result::Ok(#path { #(#fields),* }))
    });
    let Kind::Enum { wide_tag } = input.kind else {
        return quote!({ let _ = &input; #(#values)* });
    };
    let tag_type = if wide_tag { quote!(u16) } else { quote!(u8) };
    let tags = (0..input.shapes.len()).filter_map(|index| input.kind.tag(index));
    let (type_name, count) = (input.name.to_string(), input.shapes.len());
    let arms = tags.zip(values.by_ref()).map(|(tag, value)| quote!(#tag => #value,));
    // All tags of the type may be in use.
    let unknown = (count < 1 << (8 * input.kind.tag_len())).then(|| {
        quote! {
            tag => ::core::result::Result::Err(
                #record::layout::unknown_tag(at, #type_name, #count, ::core::convert::Into::into(tag)),
            ),
        }
    });
    quote! {
        let at = input.offset();
        match <#tag_type as #record::Record>::decode(input)? {
            #(#arms)*
            #unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn check_error(input: DeriveInput, expect: &str) {
        let error = record(&input).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    }

    #[test]
    fn what_cannot_be_a_record_is_explained() {
        check_error(parse_quote!(union Either { a: u32, b: f32 }), "a union cannot be a record");
        check_error(
            parse_quote!(
                enum Never {}
            ),
            "without variants",
        );
        check_error(
            parse_quote!(
                struct Line<'a> {
                    text: &'a str,
                }
            ),
            "owns its data",
        );
        check_error(
            parse_quote!(
                #[record(view = false)]
                struct Line {
                    text: String,
                }
            ),
            "unknown option",
        );
        check_error(
            parse_quote!(
                struct Line {
                    #[record(crate = "x")]
                    text: String,
                }
            ),
            "unknown option; a field has `default`, `default = value` and `former_name = \"name\"`",
        );
        check_error(
            parse_quote!(
                struct Line {
                    #[record(default = )]
                    text: String,
                }
            ),
            "expected a value after `default =`",
        );
        check_error(
            parse_quote!(
                enum Side {
                    #[record(default)]
                    Buy,
                }
            ),
            "unknown option; a variant has `former_name = \"name\"`",
        );
    }

    #[test]
    fn the_module_can_be_chosen() {
        let code = |input| record(&input).unwrap().to_string();
        assert!(
            code(parse_quote!(
                struct A;
            ))
            .contains(":: weir :: record :: Record for A")
        );
        let elsewhere = code(parse_quote!(
            #[record(crate = "mine::record")]
            struct A(u8);
        ));
        assert!(elsewhere.contains("mine :: record :: Record for A") && !elsewhere.contains("weir"));
    }
}
