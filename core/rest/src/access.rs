//! Who is let in.
//!
//! With a token configured, every request must show it. Without one the server listens on loopback (or was told explicitly to be open),
//! and then the danger is the browser of whoever works on this machine, which runs pages of strangers:
//! - *DNS rebinding*: a stranger's name that resolves to 127.0.0.1 makes the server same-origin with the stranger's page. So on
//!   loopback the `Host` of a request must be a name or address of loopback.
//! - *Requests across sites*: a page may send requests that need no preflight, uploads of forms among them. So what changes
//!   something is refused when the browser says that another site asked.

use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use std::net::{IpAddr, SocketAddr};

use crate::RestOptions;
use crate::error::ApiError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules for one server.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: Vec<String>,
    /// Whether only hosts of loopback are answered.
    loopback_only: bool,
    /// An origin that may do everything, if a particular one was configured.
    trusted_origin: Option<String>,
}

impl Access {
    pub(crate) fn new(options: &RestOptions, address: SocketAddr) -> Self {
        let open = options.tokens.is_empty();
        Self {
            tokens: options.tokens.clone(),
            loopback_only: open && address.ip().is_loopback() && !options.allow_unauthenticated,
            trusted_origin: (options.allow_origin != "*").then(|| options.allow_origin.clone()),
        }
    }

    /// # Errors
    /// 401 without the right token, 403 for what a stranger's page may have asked.
    pub(crate) fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        if !self.tokens.is_empty() {
            // A stranger's page does not know the token, so there is nothing else to check.
            return self.check_token(headers);
        }
        if self.loopback_only {
            check_host(headers)?;
        }
        if changes_something(method, path) { self.check_site(headers) } else { Ok(()) }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let unauthorized = |message: &str| Err(ApiError::new(StatusCode::UNAUTHORIZED, message));
        let Some(value) = headers.get(AUTHORIZATION) else {
            return unauthorized(
                "This cluster asks for a token: send the value of `security.rest.token` as `Authorization: Bearer …`.",
            );
        };
        let shown = value.as_bytes();
        let Some((scheme, token)) = shown.iter().position(|&byte| byte == b' ').map(|at| shown.split_at(at)) else {
            return unauthorized("The header `Authorization` has another form than `Bearer …`.");
        };
        // All are compared, so that the time tells nothing about which of them was close.
        let token = token.trim_ascii();
        let known = self.tokens.iter().fold(false, |known, own| known | same_secret(own.as_bytes(), token));
        if scheme.eq_ignore_ascii_case(b"bearer") && known {
            Ok(())
        } else {
            unauthorized("The token in the header `Authorization` is not the value of `security.rest.token`.")
        }
    }

    fn check_site(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        if origin.is_some() && origin == self.trusted_origin.as_deref() {
            return Ok(());
        }
        let allowed = match headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes()) {
            // `none`: the user typed the address.
            Some(site) => site == b"same-origin" || site == b"none",
            None if !headers.contains_key(ORIGIN) => true,
            None => origin.is_some_and(|origin| is_own_origin(origin, headers)),
        };
        if allowed {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "A page of another site asked for this, which is refused. Set `web.access-control-allow-origin` to the page's origin to allow it, \
             or `security.rest.token` to ask for a token instead.",
        ))
    }
}

fn check_host(headers: &HeaderMap) -> Result<(), ApiError> {
    // Only clients of HTTP/1.0 send none; browsers always do.
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    if authority.as_ref().is_some_and(|authority| is_loopback(authority.host())) {
        return Ok(());
    }
    let message = format!(
        "The header `Host` is {host:?}, but this cluster is open to its own machine only: use localhost or 127.0.0.1, \
         or set `security.rest.token`."
    );
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.ends_with(".localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the origin is the one this server is reached at.
fn is_own_origin(origin: &str, headers: &HeaderMap) -> bool {
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some() && authority.map(str::to_ascii_lowercase) == own.map(str::to_ascii_lowercase)
}

fn changes_something(method: &Method, path: &str) -> bool {
    // Making a plan runs the artifact.
    let by_get = path.trim_end_matches('/').ends_with("/yarn-cancel") || path.contains("/jars/");
    !matches!(*method, Method::GET | Method::HEAD) || by_get
}

/// Whether two secrets are the same, in a time that depends on their lengths only.
pub fn same_secret(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b));
    // Hidden from the optimiser, which could otherwise stop at the first difference.
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(token: Option<&str>, origin: &str) -> Access {
        let options = RestOptions {
            tokens: token.map(str::to_owned).into_iter().collect(),
            allow_origin: origin.to_owned(),
            ..RestOptions::default()
        };
        Access::new(&options, ([127, 0, 0, 1], 8081).into())
    }

    fn status(access: &Access, method: Method, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let checked = access.check(&method, path, &headers.collect());
        checked.err().map_or(200, |error| error.status.as_u16())
    }

    #[test]
    fn a_token_is_asked_for_on_every_path() {
        let access = access(Some("0123456789abcdef"), "*");
        let check = |headers: &[(&'static str, &str)], expect| {
            assert_eq!(status(&access, Method::GET, "/overview", headers), expect, "{headers:?}");
        };
        check(&[("authorization", "Bearer 0123456789abcdef")], 200);
        check(&[("authorization", "bearer  0123456789abcdef"), ("host", "cluster.example")], 200);
        check(&[], 401);
        check(&[("authorization", "Bearer 0123456789abcdeF")], 401);
        check(&[("authorization", "Bearer 0123456789abcde")], 401);
        check(&[("authorization", "Bearer 0123456789abcdef0")], 401);
        check(&[("authorization", "Bearer ")], 401);
        check(&[("authorization", "Bearer")], 401);
        check(&[("authorization", "Basic 0123456789abcdef")], 401);
        check(&[("authorization", "0123456789abcdef")], 401);
    }

    #[test]
    fn without_a_token_only_names_of_loopback_are_answered() {
        let access = access(None, "*");
        for (host, expect) in [
            ("localhost:8081", 200),
            ("LOCALHOST", 200),
            ("localhost.:8081", 200),
            ("weir.localhost:1", 200),
            ("127.0.0.1:8081", 200),
            ("127.1.2.3", 200),
            ("[::1]:8081", 200),
            ("evil.example:8081", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("192.168.0.1", 403),
            ("", 403),
        ] {
            assert_eq!(status(&access, Method::GET, "/overview", &[("host", host)]), expect, "{host}");
        }
        assert_eq!(status(&access, Method::GET, "/overview", &[]), 200);
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let open = access(None, "*");
        let check = |method: &Method, headers: &[(&'static str, &str)], expect| {
            let headers = [&[("host", "localhost:8081")], headers].concat();
            assert_eq!(status(&open, method.clone(), "/jars/upload", &headers), expect, "{method} {headers:?}");
        };
        for method in [Method::POST, Method::DELETE, Method::PATCH, Method::PUT] {
            check(&method, &[], 200);
            check(&method, &[("origin", "http://localhost:8081")], 200);
            check(&method, &[("origin", "http://localhost:9999")], 403);
            check(&method, &[("origin", "https://evil.example")], 403);
            check(&method, &[("origin", "null")], 403);
            check(&method, &[("sec-fetch-site", "same-origin")], 200);
            check(&method, &[("sec-fetch-site", "none")], 200);
            check(&method, &[("sec-fetch-site", "cross-site")], 403);
            check(&method, &[("sec-fetch-site", "same-site")], 403);
        }
        let cross = [("host", "localhost"), ("sec-fetch-site", "cross-site")];
        for path in ["/jobs/x/yarn-cancel", "/v1/jobs/x/yarn-cancel/", "/jars/x/plan", "/v1/jars/x/plan"] {
            assert_eq!(status(&open, Method::GET, path, &cross), 403, "{path}");
        }
        assert_eq!(status(&open, Method::GET, "/jobs/overview", &cross), 200);
        let trusting = access(None, "https://dashboard.example");
        let from = |origin| [("host", "localhost"), ("origin", origin), ("sec-fetch-site", "cross-site")];
        assert_eq!(status(&trusting, Method::POST, "/jars/upload", &from("https://dashboard.example")), 200);
        assert_eq!(status(&trusting, Method::POST, "/jars/upload", &from("https://evil.example")), 403);
    }
}
