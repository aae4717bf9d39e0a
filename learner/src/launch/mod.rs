//! The launcher: starts a run's processes, watches them, restarts actors, ends everything in order. It holds no tensors.

mod actors;
mod child;
mod control;
mod evaluator;
mod hosts;
mod learner;
mod lock;
mod requests;
mod resolve;
mod runner;
mod supervisor;
pub mod temporary;

pub use actors::is_here;
pub use child::{ENVIRONMENT, Process};
pub use control::{Notice, Order};
pub use hosts::{End, HostNotice, HostOrder, Who};
pub use lock::RunLock;
pub use resolve::{Request, Resolved, resolve};
pub use supervisor::supervise;

/// Environment variable with the launcher's process id, by which a child knows whether it still has its parent.
pub const PARENT_VAR: &str = "LUCID_PARENT";

/// Exit code of an actor that is not to be started again: its environment failed too often.
pub const HOPELESS: i32 = 3;
