//! Environments that step on threads of their own, each at its own pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use shared::trace;

use super::{Action, Env, EnvError, Step};
use crate::guard;

/// Whether nobody waits for environments any more: one in another process that does not answer is then given up at once.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on nobody waits.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether nobody waits.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A step of an environment that has ended.
pub struct Ended {
    /// Index of the environment.
    pub env: usize,
    /// When it ended.
    pub at: Instant,
    /// What came of it.
    pub step: Result<Step, EnvError>,
}

/// Environments on threads of their own. All threads have ended when this has been dropped: a step that goes on ends first.
pub struct Apart {
    actions: Vec<Sender<Action>>,
    ended: Receiver<Ended>,
    threads: Vec<JoinHandle<()>>,
    interrupt: Interrupt,
}

impl Apart {
    /// A thread for each of the environments, which were made with `interrupt`; `task` is the name that errors carry.
    pub fn new(task: &str, envs: Vec<Box<dyn Env>>, interrupt: Interrupt) -> std::io::Result<Self> {
        let (tell, ended) = unbounded();
        let mut apart = Self { actions: Vec::new(), ended, threads: Vec::new(), interrupt };
        for (index, env) in envs.into_iter().enumerate() {
            let (send, actions) = unbounded();
            let stepper = Stepper { task: task.into(), index, env, actions, tell: tell.clone() };
            let thread = thread::Builder::new().name(format!("environment {index}"));
            apart.threads.push(thread.spawn(move || stepper.run())?);
            apart.actions.push(send);
        }
        Ok(apart)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.actions.len()
    }

    /// Let an environment take its next step; one that still steps takes it afterwards.
    pub fn begin(&self, env: usize, action: Action) {
        // A thread ends by itself only where nobody listens.
        let _ = self.actions[env].send(action);
    }

    /// The step that ended first among those that were not given yet; none if none ends within `patience`.
    pub fn ended(&self, patience: Duration) -> Option<Ended> {
        self.ended.recv_timeout(patience).ok()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.interrupt.set();
        self.actions.clear();
        // What went wrong in a thread was told as the outcome of its step.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// One of the threads.
struct Stepper {
    task: String,
    index: usize,
    env: Box<dyn Env>,
    actions: Receiver<Action>,
    tell: Sender<Ended>,
}

impl Stepper {
    fn run(mut self) {
        trace::name_thread(&format!("environment {}", self.index));
        while let Ok(action) = self.actions.recv() {
            let step = {
                let _span = trace::span("step");
                let (task, env) = (&self.task, self.index);
                guard::catch(|| self.env.step(&action))
                    .unwrap_or_else(|what| Err(EnvError::Panicked { task: task.clone(), env, what }))
            };
            if self.tell.send(Ended { env: self.index, at: Instant::now(), step }).is_err() {
                return;
            }
        }
    }
}
