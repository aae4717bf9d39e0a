//! What people ask of the learner while it trains: what the train thread must do waits here until it comes by.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use shared::config::Config;
use shared::wire::LinkSender;

use crate::control::Answer;
use crate::launch::Notice;

/// A request to the learner, by way of the launcher.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Ask {
    /// Make no update and let no actor step.
    Pause,
    /// Go on.
    Resume,
    /// Write a checkpoint.
    Checkpoint,
    /// Go on with these options, which differ from those so far only where a run allows it.
    Options(String),
}

/// Where the answer to one request goes.
pub struct Reply {
    number: u64,
    notices: LinkSender<Notice>,
}

impl Reply {
    /// To the launcher's request of this number.
    pub fn new(number: u64, notices: LinkSender<Notice>) -> Self {
        Self { number, notices }
    }

    /// It has taken effect.
    pub fn done(self, what: String) {
        self.say(Answer::Done(what));
    }

    /// It has not.
    pub fn refused(self, why: String) {
        self.say(Answer::Refused(why));
    }

    fn say(self, answer: Answer) {
        // A launcher that has gone cannot be told.
        let _ = self.notices.send(&Notice::Answered { number: self.number, answer });
    }
}

/// What the train thread is to do between two updates.
pub enum Task {
    /// Say that no update is being made.
    Rest(Reply),
    /// Take a checkpoint.
    Checkpoint(Reply),
}

/// Tasks for the train thread.
#[derive(Default)]
pub struct Desk {
    tasks: Mutex<Vec<Task>>,
    waiting: AtomicBool,
}

impl Desk {
    /// Leave a task.
    pub fn leave(&self, task: Task) {
        self.tasks.lock().push(task);
        self.waiting.store(true, Ordering::Release);
    }

    /// Whether there are tasks.
    pub fn has_tasks(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Take all tasks, in their order.
    pub fn take(&self) -> Vec<Task> {
        let mut tasks = self.tasks.lock();
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut *tasks)
    }
}

/// Options that may change while a run goes on, as defaults.toml marks them.
pub const LIVE: [&str; 6] =
    ["run.steps", "run.minutes", "run.train_ratio", "checkpoint.every", "log.every", "log.report_every"];

/// The options of a run with one changed, or why it may not.
pub fn changed(options: &Config, key: &str, value: &str) -> Result<Config, String> {
    if key == "actor.count" {
        return Err("actor.count is changed by `lucid scale RUN N`".into());
    }
    let new = options.with(key, value).map_err(|e| e.to_string())?;
    if !LIVE.contains(&key) {
        return Err(format!(
            "{key} cannot change while a run goes on: parameters, experience or processes are made with it. What can: {}",
            LIVE.join(", ")
        ));
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Config {
        Config::load(&["dummy"], &[] as &[&str]).unwrap()
    }

    #[test]
    fn only_live_options_change_and_values_are_checked() {
        assert_eq!(changed(&options(), "run.train_ratio", "8").unwrap().run.train_ratio, 8.0);
        let refused = |key: &str, value: &str| changed(&options(), key, value).unwrap_err();
        assert!(refused("agent.opt.lr", "0.1").contains("cannot change"));
        assert!(refused("run.train_ratoi", "8").contains("train_ratio"), "{}", refused("run.train_ratoi", "8"));
        assert!(refused("run.train_ratio", "-1").contains("train_ratio"));
        assert!(refused("run.steps", "many").contains("steps"));
        assert!(refused("actor.count", "8").contains("lucid scale"));
    }

    #[test]
    fn defaults_toml_marks_the_options_that_are_live() {
        let text = include_str!("../../configs/defaults.toml");
        let mut section = String::new();
        let mut marked = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_string();
            } else if line.contains("(live)")
                && let Some((key, _)) = line.split_once('=')
            {
                marked.push(format!("{section}.{}", key.trim()));
            }
        }
        assert_eq!(marked, LIVE);
    }
}
