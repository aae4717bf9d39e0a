//! Evaluation: episodes of one policy, on command or beside training, of which nothing goes to replay.
//!
//! [`Play`] plays them, for `lucid eval` and in the evaluation actor alike. That actor is a process of its own ([`run`]): it plays with
//! one snapshot from the first step of an evaluation to the last, and tells the learner, where [`serve`] speaks with it, what came of
//! it. A [`Record`] of each is a line in the run folder's `eval.jsonl`.

mod film;
mod play;
mod process;
mod record;
mod serve;
mod words;

/// The environment whose first episode is filmed, as it is called among pictures.
const FILMED: &str = "0";

pub use film::{Film, Filmed, can_film};
pub use play::{Plan, Play};
pub use process::{Args, run};
pub use record::{FILE, Record, Source};
pub use serve::{Evaluations, serve};
pub use words::{EVALUATION_ACTOR, FromEvaluator, ToEvaluator};
