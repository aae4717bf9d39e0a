//! Who may come in: the secret, the names under which the page is asked for, and the pages that may ask things of the run.
//!
//! There is always a secret, since whoever uses this machine reaches its loopback addresses: the user's own, or one made for the run.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::config::WebConfig;

use super::WebError;
use super::routes::Refusal;

/// Fewest characters of a secret.
const SHORTEST: usize = 16;
/// Sent with every answer: nothing from other hosts, no frames, no guessing of types, nothing kept.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// A secret that visitors must know.
pub enum Token {
    /// In a file that the config names.
    Named(String),
    /// Made for this run.
    Made(String),
}

impl Token {
    /// The secret that the config names a file of, or a new one; others than the users of this machine must know one of the former.
    pub fn of(config: &WebConfig) -> Result<Self, WebError> {
        if config.token_file.is_empty() {
            let address = (config.address, config.port).into();
            return if config.public() { Err(WebError::Open { address }) } else { Ok(Self::new()) };
        }
        let path = PathBuf::from(&config.token_file);
        let wrong = |message: String| WebError::Token { path: path.clone(), message };
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let secret = text.trim();
        if secret.len() < SHORTEST {
            return Err(wrong(format!("the secret has {} characters, too few", secret.len())));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if !secret.chars().all(plain) {
            return Err(wrong("the secret has other characters than letters, digits, - . _ ~".into()));
        }
        Ok(Self::Named(secret.into()))
    }

    /// 256 random bits.
    fn new() -> Self {
        let bytes: [u8; 32] = rand::random();
        Self::Made(blake3::Hash::from_bytes(bytes).to_hex().to_string())
    }

    /// Where the page at this address is opened. A secret of the user's is left to the user.
    pub fn url(&self, address: SocketAddr) -> String {
        match self {
            Self::Named(_) => format!("http://{address}/"),
            Self::Made(secret) => format!("http://{address}/?token={secret}"),
        }
    }
}

/// What is asked of a visitor.
pub struct Guard {
    /// Of the secret. Comparing two digests takes the same time whatever they are.
    digest: blake3::Hash,
    /// Whether the secret is this run's own, so that only users of this machine come here.
    made: bool,
    /// Browsers keep cookies by host, not by port: each run of a machine has its own name.
    cookie: String,
    public: bool,
    hosts: Vec<String>,
}

impl Guard {
    /// For a page at this port.
    pub fn new(config: &WebConfig, token: &Token, port: u16) -> Arc<Self> {
        let (Token::Named(secret) | Token::Made(secret)) = token;
        let (digest, made) = (blake3::hash(secret.as_bytes()), matches!(token, Token::Made(_)));
        let hosts = config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Arc::new(Self { digest, made, cookie: format!("lucid_{port}"), public: config.public(), hosts })
    }

    fn is(&self, said: &str) -> bool {
        blake3::hash(said.as_bytes()) == self.digest
    }

    /// None if it may pass; else what to answer.
    fn stop(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let Some(host) = host(headers).filter(|host| self.knows(host)) else {
            let message = "this page does not go by that name; see web.hosts in docs/web.md";
            return Some(Refusal(StatusCode::FORBIDDEN, message.into()).into_response());
        };
        let asks = ![Method::GET, Method::HEAD].contains(request.method());
        // A Prometheus of this machine reads its numbers without more ado.
        let numbers = self.made && !asks && request.uri().path() == "/metrics";
        if let Some(way) = self.introduce(request) {
            return Some(way);
        }
        if !numbers && !self.admits(headers) {
            return Some(self.refuse());
        }
        let foreign = "only the page itself may ask things of the run";
        (asks && !same_origin(headers, &host)).then(|| Refusal(StatusCode::FORBIDDEN, foreign.into()).into_response())
    }

    /// A name that another one could have pointed here is not enough: only names of this machine count.
    fn knows(&self, host: &Authority) -> bool {
        let name = host.host().to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let known = address.map_or(name == "localhost", |address| address.is_loopback() || self.public);
        known || self.hosts.contains(&name)
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let bearer = text(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        bearer.is_some_and(|said| self.is(said)) || pairs.any(|(name, said)| name == self.cookie && self.is(said))
    }

    /// Who comes to the page with the secret in its address gets it as a cookie, and an address without it.
    fn introduce(&self, request: &Request) -> Option<Response> {
        let said = request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("token="))?;
        (self.is(said) && request.uri().path() == "/" && request.method() == Method::GET).then(|| {
            let cookie = format!("{}={said}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
            let headers = [(header::LOCATION, "/".to_string()), (header::SET_COOKIE, cookie)];
            (StatusCode::SEE_OTHER, headers).into_response()
        })
    }

    fn refuse(&self) -> Response {
        let open = if self.made { "the address in page.url in the run folder" } else { "/?token=SECRET" };
        let message = format!("a secret is needed: open {open}, or send `Authorization: Bearer SECRET`");
        let mut answer = Refusal(StatusCode::UNAUTHORIZED, message).into_response();
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        answer
    }
}

/// Let pass who may; every answer says what a browser may do with it.
pub async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut answer = match guard.stop(&request) {
        Some(answer) => answer,
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The one name that was asked for.
fn host(headers: &HeaderMap) -> Option<Authority> {
    let mut all = headers.get_all(header::HOST).iter();
    let host = all.next()?.to_str().ok()?.parse().ok();
    if all.next().is_some() { None } else { host }
}

/// Whether no other page sent it: browsers name the page. Programs that are no browsers name none.
fn same_origin(headers: &HeaderMap, host: &Authority) -> bool {
    let site = text(headers, HeaderName::from_static("sec-fetch-site"));
    let origin = headers.get(header::ORIGIN).map(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        own.is_some_and(|own| own.eq_ignore_ascii_case(host.as_str()))
    });
    site.is_none_or(|site| site == "same-origin") && origin.unwrap_or(true)
}
