//! Where the server listens, and where it refuses to.

use std::net::TcpListener;
use std::time::Duration;

use super::fake::options;
use crate::{RestError, RestOptions, RestServer};

fn any_port() -> RestOptions {
    RestOptions { ports: vec![0], ..options() }
}

#[tokio::test]
async fn loopback_is_served_without_a_token() {
    for host in ["localhost", "127.0.0.1"] {
        let server = RestServer::bind(RestOptions { bind_address: host.to_owned(), ..any_port() }).await.unwrap();
        assert!(server.address().ip().is_loopback() && server.address().port() != 0);
    }
}

#[tokio::test]
async fn other_addresses_are_not_served_without_a_token() {
    for host in ["0.0.0.0", "::"] {
        let open = RestOptions { bind_address: host.to_owned(), ..any_port() };
        let error = RestServer::bind(open.clone()).await.unwrap_err();
        assert!(matches!(error, RestError::Unauthenticated { .. }), "{error:?}");
        let message = error.to_string();
        for option in ["security.rest.token", "rest.bind-address", "security.rest.allow-unauthenticated"] {
            assert!(message.contains(option), "{message}");
        }
    }
    let open = RestOptions { bind_address: "0.0.0.0".to_owned(), ..any_port() };
    RestServer::bind(RestOptions { tokens: vec!["0123456789abcdef".to_owned()], ..open.clone() }).await.unwrap();
    RestServer::bind(RestOptions { allow_unauthenticated: true, ..open }).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named_or_passed_over() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let only = RestOptions { bind_address: "127.0.0.1".to_owned(), ports: vec![port], ..options() };
    let message = RestServer::bind(only.clone()).await.unwrap_err().to_string();
    assert!(message.contains(&format!("127.0.0.1:{port}")) && message.contains("rest.port"), "{message}");
    let next = RestServer::bind(RestOptions { ports: vec![port, 0], ..only }).await.unwrap();
    assert_ne!(next.address().port(), port);
}

#[tokio::test]
async fn options_that_cannot_be_are_named() {
    let check = async |options: RestOptions, expect: &str| {
        let message = RestServer::bind(options).await.unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    check(RestOptions { tokens: vec![String::new()], ..any_port() }, "security.rest.token").await;
    check(RestOptions { ports: Vec::new(), ..options() }, "rest.port").await;
    check(RestOptions { allow_origin: "a\nb".to_owned(), ..any_port() }, "web.access-control-allow-origin").await;
    // An address reserved for documentation is none of this machine's.
    let elsewhere = RestOptions { bind_address: "192.0.2.1".to_owned(), allow_unauthenticated: true, ..any_port() };
    check(elsewhere, "rest.bind-address").await;
}

#[test]
fn tokens_are_not_shown() {
    let options = RestOptions { tokens: vec!["0123456789abcdef".to_owned()], ..options() };
    assert!(!format!("{options:?}").contains("0123"));
    assert_eq!(options.header_timeout, Duration::from_secs(30));
}
