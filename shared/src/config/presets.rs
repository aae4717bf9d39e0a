//! The presets in `configs/`, built into the binary so that it needs no files beside it.

use super::error::{ConfigError, nearest};

/// Every key, with its unit and reason as comments.
pub const DEFAULTS: &str = include_str!("../../../configs/defaults.toml");

/// Built-in presets: name and text.
pub const PRESETS: &[(&str, &str)] = &[
    ("quickstart", include_str!("../../../configs/quickstart.toml")),
    ("cartpole", include_str!("../../../configs/cartpole.toml")),
    ("dmc_proprio", include_str!("../../../configs/dmc_proprio.toml")),
    ("dmc_vision", include_str!("../../../configs/dmc_vision.toml")),
    ("atari", include_str!("../../../configs/atari.toml")),
    ("atari100k", include_str!("../../../configs/atari100k.toml")),
    ("crafter", include_str!("../../../configs/crafter.toml")),
    ("minigrid", include_str!("../../../configs/minigrid.toml")),
    ("procgen", include_str!("../../../configs/procgen.toml")),
    ("bsuite", include_str!("../../../configs/bsuite.toml")),
    ("tmaze", include_str!("../../../configs/tmaze.toml")),
    ("dummy", include_str!("../../../configs/dummy.toml")),
    ("size1m", include_str!("../../../configs/size1m.toml")),
    ("size12m", include_str!("../../../configs/size12m.toml")),
    ("size25m", include_str!("../../../configs/size25m.toml")),
    ("size50m", include_str!("../../../configs/size50m.toml")),
    ("size100m", include_str!("../../../configs/size100m.toml")),
    ("size200m", include_str!("../../../configs/size200m.toml")),
    ("size400m", include_str!("../../../configs/size400m.toml")),
];

/// Text of what `-c` names, and what to call it in messages: a path if it has a slash or ends in `.toml`, else a built-in preset.
pub(super) fn find(name: &str) -> Result<(String, String), ConfigError> {
    if name.contains('/') || name.ends_with(".toml") {
        let text = std::fs::read_to_string(name).map_err(|source| ConfigError::Read { path: name.into(), source })?;
        return Ok((format!("config `{name}`"), text));
    }
    match PRESETS.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok((format!("preset `{name}`"), text.to_string())),
        None => Err(ConfigError::UnknownPreset {
            name: name.into(),
            nearest: nearest(name, PRESETS.iter().map(|p| p.0)),
            known: PRESETS.iter().map(|p| p.0).collect::<Vec<_>>().join(", "),
        }),
    }
}
