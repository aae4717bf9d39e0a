//! What would hinder training, and what to do about it.

use serde::Serialize;
use shared::env::{FLAGS, Space};

use super::trace::Trace;

/// Numbers beyond this are beyond what the agent's compression (symlog) tells apart well.
const LARGE: f32 = 1e6;
/// Episodes of one length that are no coincidence.
const ALIKE: usize = 3;

/// Something that hinders.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Whether training would be impossible or wrong; otherwise something to think about.
    pub fault: bool,
    /// What was seen.
    pub what: String,
    /// What to do.
    pub help: String,
}

fn fault(what: impl Into<String>, help: &str) -> Finding {
    Finding { fault: true, what: what.into(), help: help.into() }
}

fn note(what: impl Into<String>, help: &str) -> Finding {
    Finding { fault: false, ..fault(what, help) }
}

/// Of a trace, and of shorter ones: the same again, with another seed of the environment, with other actions.
pub fn of(trace: &Trace, [again, other_env, other_actions]: [&Trace; 3]) -> Vec<Finding> {
    let mut found: Vec<Finding> = broken(trace).into_iter().collect();
    found.extend(repeated(trace, again));
    if found.is_empty() {
        // Of an environment that does not repeat itself these say nothing.
        found.extend(unmoved(trace, other_env, other_actions));
    }
    found.extend(rewards(trace));
    found.extend(ends(trace));
    let observed = trace.obs_space.iter().filter(|(key, _)| !FLAGS.contains(&key.as_str()));
    found.extend(observed.flat_map(|(key, space)| entry(key, space, trace)));
    found
}

fn broken(trace: &Trace) -> Option<Finding> {
    let error = trace.error.as_ref()?;
    let what = format!("after {} steps: {error}", trace.outcomes.len());
    Some(fault(what, "the environment must keep to its spaces; an actor that meets this ends"))
}

fn repeated(trace: &Trace, again: &Trace) -> Option<Finding> {
    let at = trace.differs_at(again)?;
    let what = format!("not deterministic: the same seed and actions give another step {at}");
    Some(fault(what, "draw everything from the seed given at the first reset; else no run can be repeated"))
}

fn unmoved(trace: &Trace, other_env: &Trace, other_actions: &Trace) -> Vec<Finding> {
    let mut found = vec![];
    if trace.differs_at(other_actions).is_none() {
        found.push(fault("actions change nothing", "check that the environment reads its action"));
    }
    if trace.differs_at(other_env).is_none() {
        let help = "all environments of a run start alike: more actors bring only what the policy's samples differ in";
        found.push(note("the seed changes nothing", help));
    }
    found
}

fn rewards(trace: &Trace) -> Option<Finding> {
    let help = "random play never meets the reward: expect a long time without progress, or shape the reward";
    let nothing = trace.rewarded() == 0.0 && !trace.outcomes.is_empty();
    nothing.then(|| note(format!("every reward of {} steps is 0", trace.outcomes.len()), help))
}

fn ends(trace: &Trace) -> Option<Finding> {
    let episodes = trace.episodes();
    let Some([shortest, longest]) = episodes.length else {
        let what = format!("no episode ended within {} steps", trace.outcomes.len());
        return Some(note(what, "check with more --steps, or set env.time_limit: returns are known when episodes end"));
    };
    let alike = shortest == longest && episodes.count >= ALIKE && episodes.terminal == episodes.count;
    let what = format!("all {} episodes end after {longest} steps, each by the task (is_terminal)", episodes.count);
    let help =
        "if that is a time limit, the environment should say truncated: after an end by the task no value is expected";
    alike.then(|| note(what, help))
}

fn entry(key: &str, space: &Space, trace: &Trace) -> Vec<Finding> {
    let Some([low, high]) = trace.range(key) else { return vec![] };
    let mut found = vec![];
    if low == high && space.elements() > 0 && trace.outcomes.len() > 1 {
        found.push(note(
            format!("`{key}` is {low} in every step"),
            "leave out what tells nothing, or check how it is made",
        ));
    } else if space.is_image() && high <= 1.0 {
        let help = "pixels are bytes from 0 to 255; were floats from 0 to 1 made bytes?";
        found.push(fault(format!("image `{key}` has no value above 1"), help));
    }
    if !space.is_discrete() && !space.is_image() && low.abs().max(high.abs()) > LARGE {
        let what = format!("`{key}` reaches from {low} to {high}");
        found.push(note(what, "scale it: of numbers so large the agent sees little but their size"));
    }
    found
}
