//! What there is to ask for.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{StatusCode, Uri};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use shared::config::{Config, Difference};
use shared::trace::span;
use tokio::sync::{Semaphore, broadcast};

use super::events::{self, Text};
use super::guard::{self, Guard};
use super::media::{self, Picture};
use super::records::{self, Piece};
use super::tail::Tail;
use super::{BLOCKING, prometheus};
use crate::control::{Hub, Request, Word};

/// Visitors who may be told of the run at a time.
const VISITORS: usize = 32;
/// Longest request, bytes.
const LONGEST: usize = 1 << 14;

/// Files of the page: address, type, text.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/actors.js", SCRIPT, include_str!("page/actors.js")),
    ("/chart.js", SCRIPT, include_str!("page/chart.js")),
    ("/media.js", SCRIPT, include_str!("page/media.js")),
    ("/picture.js", SCRIPT, include_str!("page/picture.js")),
    ("/runs.js", SCRIPT, include_str!("page/runs.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What answers are made of.
pub struct App {
    hub: Hub,
    dir: PathBuf,
    words: broadcast::WeakSender<Text>,
    visitors: Arc<Semaphore>,
    asks: Semaphore,
    tail: Mutex<Tail>,
}

impl App {
    /// Of the run in this folder.
    pub fn new(hub: Hub, dir: &FilePath, words: broadcast::WeakSender<Text>) -> std::io::Result<Arc<Self>> {
        let (visitors, asks) = (Arc::new(Semaphore::new(VISITORS)), Semaphore::new(BLOCKING / 2));
        // With its real name, so that the runs beside it are found.
        Ok(Arc::new(Self { hub, dir: dir.canonicalize()?, words, visitors, asks, tail: Mutex::default() }))
    }
}

/// Why there is no answer.
pub struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.1).into_response()
    }
}

impl Refusal {
    fn here(error: impl std::fmt::Display) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    fn busy(message: &str) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, message.into())
    }
}

type Reply = Result<Response, Refusal>;

/// Everything, behind the guard.
pub fn router(app: Arc<App>, guard: Arc<Guard>) -> Router {
    let page = FILES.iter().fold(Router::new(), |router, (path, _, _)| router.route(path, get(file)));
    page.route("/metrics", get(metrics))
        .route("/api/start", get(start))
        .route("/api/report", get(report))
        .route("/api/events", get(watch))
        .route("/api/records", get(own_records))
        .route("/api/config", get(config))
        .route("/api/runs", get(runs))
        .route("/api/runs/{name}/records", get(other_records))
        .route("/api/media", get(pictures))
        .route("/media/{file}", get(picture))
        .route("/api/ask", post(ask))
        .layer(DefaultBodyLimit::max(LONGEST))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .with_state(app)
}

async fn file(uri: Uri) -> Reply {
    let found = FILES.iter().find(|(path, _, _)| *path == uri.path());
    let (_, kind, text) = found.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "no such file".into()))?;
    Ok(([(header::CONTENT_TYPE, *kind)], *text).into_response())
}

async fn start(State(app): State<Arc<App>>) -> Reply {
    json(&app.hub.start().as_deref())
}

async fn report(State(app): State<Arc<App>>) -> Reply {
    json(&app.hub.last().as_deref())
}

async fn watch(State(app): State<Arc<App>>) -> Reply {
    let place = app.visitors.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::busy("too many pages of this run are open"))?;
    let words = app.words.upgrade().ok_or_else(|| Refusal::busy("the run has ended"))?;
    let live = words.subscribe();
    let start = app.hub.start().map(|start| Word::Start(Box::new((*start).clone())));
    let last = app.hub.last().map(|report| Word::Report(Box::new((*report).clone())));
    Ok(events::stream(start.iter().chain(&last).filter_map(events::text).collect(), live, place))
}

/// From which byte on.
#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn own_records(State(app): State<Arc<App>>, Query(Since { since }): Query<Since>) -> Reply {
    lines(app.dir.clone(), since).await
}

async fn other_records(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(Since { since }): Query<Since>,
) -> Reply {
    let dir = records::beside(&app.dir, &name);
    lines(dir.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "no such run beside this one".into()))?, since).await
}

/// Lines of records; the header `lucid-next` has the offset to ask for next.
async fn lines(dir: PathBuf, since: u64) -> Reply {
    let Piece { lines, next } =
        apart("read records", move || records::piece(&dir, since)).await?.map_err(Refusal::here)?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_string()),
        (HeaderName::from_static("lucid-next"), next.to_string()),
    ];
    Ok((headers, lines).into_response())
}

/// Options of the run.
#[derive(Serialize)]
struct Options {
    run: String,
    config: String,
    differences: Vec<Difference>,
}

async fn config(State(app): State<Arc<App>>) -> Reply {
    let path = app.dir.join("config.toml").to_string_lossy().into_owned();
    let loaded =
        apart("read the config", move || Config::load(&[path], &[] as &[&str])).await?.map_err(Refusal::here)?;
    let (config, differences) = (loaded.to_toml(), loaded.differences());
    let run = app.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (config, differences) = (config.map_err(Refusal::here)?, differences.map_err(Refusal::here)?);
    json(&Options { run, config, differences })
}

async fn runs(State(app): State<Arc<App>>) -> Reply {
    json(&apart("look for runs", move || records::runs(&app.dir)).await?)
}

async fn pictures(State(app): State<Arc<App>>) -> Reply {
    json(&apart("look for pictures", move || media::list(&app.dir)).await?)
}

async fn picture(State(app): State<Arc<App>>, Path(file): Path<String>) -> Reply {
    let kind = Picture::content_type(&file);
    let bytes = apart("read a picture", move || media::read(&app.dir, &file)).await?.map_err(Refusal::here)?;
    let bytes = bytes.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "no such picture of this run".into()))?;
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

async fn metrics(State(app): State<Arc<App>>) -> Reply {
    let text = apart("metrics", move || {
        let mut tail = app.tail.lock();
        tail.read(&app.dir).map_err(Refusal::here)?;
        prometheus::text(app.hub.last(), &tail).map_err(Refusal::here)
    });
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text.await??).into_response())
}

async fn ask(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Reply {
    let wrong = |message: &str| Refusal(StatusCode::BAD_REQUEST, message.into());
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json".into()));
    }
    let request = match serde_json::from_slice(&body) {
        Ok(Request::Watch) => return Err(wrong("words about the run are at /api/events")),
        Ok(request) => request,
        Err(error) => return Err(wrong(&format!("not understood: {error}"))),
    };
    let _place = app.asks.try_acquire().map_err(|_| Refusal::busy("too many requests wait for the run"))?;
    let hub = app.hub.clone();
    json(&apart("wait for an answer", move || hub.ask(request)).await?)
}

/// On a thread that may wait, as a span of this name.
async fn apart<T: Send + 'static>(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let spanned = move || {
        let _span = span(name);
        work()
    };
    tokio::task::spawn_blocking(spanned).await.map_err(Refusal::here)
}

fn json(value: &impl Serialize) -> Reply {
    let bytes = serde_json::to_vec(value).map_err(Refusal::here)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}
