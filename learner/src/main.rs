//! The `lucid` program.

fn main() -> miette::Result<()> {
    Ok(learner::cli::main()?)
}
