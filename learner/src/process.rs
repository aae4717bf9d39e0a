//! The learner process: load, let actors in, train, save, say goodbye.

mod doors;
mod load;

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use shared::trace;
use shared::wire::{LinkReceiver, LinkSender, knock};

use crate::RunError;
use crate::batches::Batches;
use crate::checkpoint::Checkpoints;
use crate::error::wire;
use crate::ingest::ingest_all;
use crate::launch::{Notice, Order, RunLock};
use crate::predictions::{Predictions, draw_all};
use crate::publisher::{Publisher, publish_all};
use crate::replay::Damaged;
use crate::reporter::Reporter;
use crate::run::Run;
use crate::saver::{Saver, write_all};
use crate::train_loop::Trainer;

use doors::Doors;
use load::Loaded;

pub use load::{RunSpaces, import_steps, origin};

/// How long actors may take to send what they have when the run ends.
const FAREWELL: Duration = Duration::from_secs(15);
/// How long a learner that outlived its launcher may still be saving.
const HANDOVER: Duration = Duration::from_secs(30);
/// Chunks that may wait to be taken in; credits bound them to fewer.
const ARRIVALS: usize = 1 << 16;

/// What a learner process is started with.
#[derive(Clone, Debug)]
pub struct Args {
    /// Run folder.
    pub run: PathBuf,
    /// Name of the launcher's door.
    pub join: String,
    /// The run's secret.
    pub token: String,
    /// How long the run has gone on with earlier processes.
    pub before: Duration,
    /// What to do about damaged replay files.
    pub damaged: Damaged,
}

/// The whole life of a learner process. `gone` is raised when the launcher has gone.
pub fn run(args: &Args, gone: &Arc<AtomicBool>) -> Result<(), RunError> {
    let hello = Notice::Hello { token: args.token.clone() };
    let (notices, orders) = knock(&args.join, &hello).map_err(wire("joining the launcher"))?;
    let result = serve(args, &notices, orders, gone);
    let last = match &result {
        Ok(reason) => Notice::Done { reason: reason.clone() },
        Err(error) => Notice::Failed { message: chain(error) },
    };
    // A launcher that has gone cannot be told; the log has it.
    let _ = notices.send(&last);
    result.map(drop)
}

/// An error with its causes, in one line.
fn chain(error: &RunError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        // A transparent error repeats what it holds.
        if !text.contains(&error.to_string()) {
            let _ = write!(text, ": {error}");
        }
        cause = error.source();
    }
    if let Some(help) = miette::Diagnostic::help(error) {
        let _ = write!(text, " ({help})");
    }
    text
}

fn serve(
    args: &Args,
    notices: &LinkSender<Notice>,
    orders: LinkReceiver<Order>,
    gone: &Arc<AtomicBool>,
) -> Result<String, RunError> {
    trace::name_thread("train");
    let _lock = RunLock::take(&args.run, "learner.lock", HANDOVER)?;
    let Loaded { run, agent, pending, warnings } = load::load(args)?;
    let run = Arc::new(run);
    warnings.into_iter().for_each(|text| run.warn(text));
    // A run that has reached its end already makes no further update.
    run.check_target();
    notices.send(&Notice::Ready(Box::new(load::start_report(&run, &agent)?))).map_err(wire("telling the launcher"))?;
    let checkpoints = Checkpoints::new(&run.dir, run.config.checkpoint.keep);
    let batches = Batches::new(pending);
    let done = AtomicBool::new(false);
    let (run_ref, batches_ref) = (&*run, &batches);
    thread::scope(|scope| {
        let (arrive, arrivals) = bounded(ARRIVALS);
        let doors = Doors::open(&run, notices.clone(), orders, arrive, gone.clone());
        let (publish, published) = bounded(1);
        let (save, saves) = bounded(1);
        let (predict, predicted) = bounded(1);
        let reporter = Reporter::new(run_ref, notices.clone())?;
        let threads = [
            start(scope, "publisher", run_ref, batches_ref, move || publish_all(run_ref, &published)),
            start(scope, "drawing", run_ref, batches_ref, move || draw_all(run_ref, &predicted)),
            start(scope, "prefetch", run_ref, batches_ref, move || Ok(batches_ref.prefetch(run_ref)?)),
            start(scope, "checkpoints", run_ref, batches_ref, {
                let checkpoints = &checkpoints;
                move || write_all(run_ref, checkpoints, &saves)
            }),
        ];
        let done = &done;
        let reporter = start(scope, "reporter", run_ref, batches_ref, move || reporter.run(done));
        let ingest = start(scope, "ingest", run_ref, batches_ref, move || {
            ingest_all(run_ref, &arrivals);
            Ok(())
        });
        let mut trainer = Trainer {
            run: run_ref,
            publisher: Publisher::new(run.counters().version, publish),
            saver: Saver::new(save),
            predictions: Predictions::new(predict, agent.updates()),
            agent,
            batches: batches_ref,
            bad: Vec::new(),
        };
        let trained = trainer.publish().and_then(|()| trainer.train());
        if let Err(error) = &trained {
            run.stop(error.to_string());
        }
        // A launcher that has gone cannot be told.
        let _ = notices.send(&Notice::Stopping);
        see_actors_out(&run);
        doors.close();
        let _ = ingest.join();
        batches.close();
        let saved = trained.and_then(|()| trainer.finish());
        let joined = threads.map(join);
        done.store(true, Ordering::Release);
        let reported = join(reporter);
        let failed = run.take_failure().map_or(Ok(()), Err);
        failed.and(saved).and(joined.into_iter().collect::<Result<(), _>>()).and(reported)
    })?;
    Ok(run.reason())
}

type Handle<'scope> = ScopedJoinHandle<'scope, Result<(), RunError>>;

/// A thread whose failure ends the run.
fn start<'scope, 'env: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    name: &'static str,
    run: &'env Run,
    batches: &'env Batches,
    body: impl FnOnce() -> Result<(), RunError> + Send + 'scope,
) -> Handle<'scope> {
    let work = move || {
        trace::name_thread(name);
        let result = body();
        if let Err(error) = &result {
            tracing::error!("{name}: {error}");
            run.stop(format!("{name}: {error}"));
            batches.close();
        }
        result
    };
    // Its name is what `top -H` shows. A process that gets no thread ends, as it does where one is spawned without a name.
    let started = thread::Builder::new().name(name.into()).spawn_scoped(scope, work);
    started.unwrap_or_else(|error| panic!("cannot start the thread {name}: {error}"))
}

/// A panic ends the whole process before it gets here.
fn join(handle: Handle<'_>) -> Result<(), RunError> {
    handle.join().unwrap_or(Ok(()))
}

/// Tell all actors to stop, and wait until they have sent what they have. An evaluation is cut off.
fn see_actors_out(run: &Run) {
    let deadline = Instant::now() + FAREWELL;
    while (!run.links.all().is_empty() || run.evaluations.pid().is_some()) && Instant::now() < deadline {
        run.links.all().iter().for_each(|link| link.stop());
        thread::sleep(Duration::from_millis(20));
    }
    for link in run.links.all() {
        run.warn(format!("actor {} (process {}) did not end in time; steps it holds are lost", link.actor, link.pid));
        link.cut();
    }
}
