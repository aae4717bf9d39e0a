//! Wrappers: each changes one thing about the environment inside. A reset resets all of a wrapper's state.

mod action_repeat;
mod checked;
mod clip_action;
mod normalize_action;
mod resize;
mod time_limit;

pub use action_repeat::ActionRepeat;
pub use checked::Checked;
pub use clip_action::ClipAction;
pub use normalize_action::NormalizeAction;
pub use resize::Resize;
pub use time_limit::TimeLimit;

#[cfg(test)]
mod tests;
