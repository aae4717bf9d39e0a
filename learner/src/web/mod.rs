//! The page about a run, its numbers for Prometheus, and requests from a browser; served by the launcher.
//!
//! The page is plain files in `page/`, built into the binary; it asks for nothing from elsewhere. Whoever is let in (`guard.rs`)
//! may ask for what the control socket takes; whoever may read the run folder of its owner finds there where, and with what secret.

mod events;
mod guard;
mod media;
mod prometheus;
mod records;
mod routes;
mod tail;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use shared::config::WebConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::control::Hub;

/// Requests that may wait for the launcher or read files at a time.
const BLOCKING: usize = 16;
/// How long visitors may take to read the last words when the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// The file in a run folder that says where the page is opened, readable by its owner only; it is there while the page is.
pub const URL_FILE: &str = "page.url";

/// The server of a run's page; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    url: String,
    file: PathBuf,
    stop: Option<watch::Sender<()>>,
    quiet: Option<crossbeam::channel::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Why the page is not served.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum WebError {
    /// The address or port is taken, or not this machine's.
    #[error("the page about the run cannot be served at {address}: {source}")]
    #[diagnostic(help("`--set web.port=0` takes a free port, `--set web.enabled=false` does without the page"))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Others may reach the page, and no secret keeps them out.
    #[error("the page about the run would be open to everyone who reaches {address}")]
    #[diagnostic(help("name a file with a secret: `--set web.token_file=PATH`"))]
    Open {
        /// Where.
        address: SocketAddr,
    },
    /// The file with the secret.
    #[error("`web.token_file`: {}: {message}", path.display())]
    #[diagnostic(help("write at least 16 letters, digits, - . _ ~ into it, such as `openssl rand -hex 24` gives"))]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The file that says where the page is.
    #[error("{} cannot be written: {source}", path.display())]
    #[diagnostic(help("`--set web.enabled=false` does without the page"))]
    Url {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A thread, or what it needs.
    #[error("the page about the run cannot be served: {0}")]
    Start(#[source] std::io::Error),
}

impl Server {
    /// Serve the run in this folder, until dropped.
    pub fn open(config: &WebConfig, run_dir: &Path, hub: Hub) -> Result<Self, WebError> {
        let wanted = SocketAddr::new(config.address, config.port);
        let failed = |source| WebError::Listen { address: wanted, source };
        let token = guard::Token::of(config)?;
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (guard, url) = (guard::Guard::new(config, &token, address.port()), token.url(address));
        let (told, (words, bridged)) = (hub.watch(), events::channel());
        let app = routes::App::new(hub, run_dir, bridged).map_err(WebError::Start)?;
        let runtime = Builder::new_current_thread()
            .thread_name("web answers")
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING)
            .build();
        let (runtime, router) = (runtime.map_err(WebError::Start)?, routes::router(app, guard));
        let (stop, stopped) = watch::channel(());
        let (quiet, quieted) = crossbeam::channel::bounded(0);
        let file = run_dir.join(URL_FILE);
        note(&file, &url).map_err(|source| WebError::Url { path: file.clone(), source })?;
        let mut server = Self { address, url, file, stop: Some(stop), quiet: Some(quiet), threads: Vec::new() };
        server.spawn("web", move || serve(runtime, listener, router, stopped))?;
        server.spawn("web words", move || events::bridge(&told, &words, &quieted))?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a browser opens it, with the secret if that was made for the run: for eyes and files of the run's owner only.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), WebError> {
        let thread = thread::Builder::new().name(name.into()).spawn(work).map_err(WebError::Start)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop((self.quiet.take(), self.stop.take()));
        // The next launcher removes one that stays.
        let _ = std::fs::remove_file(&self.file);
        for thread in self.threads.drain(..) {
            // It has told of its panic on its own.
            let _ = thread.join();
        }
    }
}

/// Write a file that only its owner reads, in place of a dead launcher's.
fn note(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}

/// Until the other end of `stopped` is gone, and a moment longer for visitors who still read.
fn serve(runtime: Runtime, listener: TcpListener, router: axum::Router, mut stopped: watch::Receiver<()>) {
    let mut until = stopped.clone();
    runtime.block_on(async move {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!("the page about the run is not served: {error}"),
        };
        let serving =
            axum::serve(listener, router).with_graceful_shutdown(async move { while until.changed().await.is_ok() {} });
        let serving = tokio::spawn(serving.into_future());
        while stopped.changed().await.is_ok() {}
        // Who has not read by then is cut off.
        let _ = tokio::time::timeout(GRACE, serving).await;
    });
    runtime.shutdown_timeout(GRACE);
}
