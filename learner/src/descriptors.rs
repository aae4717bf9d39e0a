//! How many descriptors a process may have: each link to an actor is one, and so is each piece of shared memory.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Where systems set no limit, or one that programs must not count up to.
const ENOUGH: u64 = 1 << 20;

/// Allow this process, and those that it starts, as many as the system lets it. At first that is often 1,024, which some hundred actors
/// need. Without it a run goes on until they are needed.
pub fn allow_many() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limit.current.is_some_and(|now| now < most) {
        limit.current = Some(most);
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_allowed_as_there_may_be() {
        let most = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(512), maximum: most }).unwrap();
        allow_many();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most.unwrap_or(ENOUGH).min(ENOUGH)));
    }
}
