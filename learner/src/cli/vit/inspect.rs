//! `lucid vit inspect`.

use shared::vit::{Positions, VitSpec};

use super::Model;
use crate::RunError;
use crate::vit::{Inspection, inspect};

/// Names shown of a long list.
const SHOWN: usize = 8;

/// Print what a file holds; an error if it cannot be used.
pub fn run(model: &Model) -> Result<(), RunError> {
    let path = model.path()?;
    let found = inspect(&path, &model.hints()?)?;
    println!("{}: names of {}{}", path.display(), found.names, below(&found.prefix));
    println!("{} tensors: {} of the trunk, {} of other parts", found.tensors, found.used, found.ignored.len());
    list("of other parts", &found.ignored);
    list("missing", &found.missing);
    list("unexpected", &found.unexpected);
    let Inspection { trunk, .. } = found;
    let (spec, parameters) = trunk?;
    describe(&spec, parameters);
    Ok(())
}

fn below(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!(" below `{prefix}`") }
}

fn list(what: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let rest = names.len().saturating_sub(SHOWN);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    println!("  {what}: {}{more}", names[..names.len() - rest].join(", "));
}

fn describe(spec: &VitSpec, parameters: usize) {
    let mlp = if spec.gated { "gated MLP" } else { "MLP" };
    println!(
        "ViT of {} blocks, width {}, {} heads, {mlp} {} ({:?}), patches of {} pixels: {:.1} million parameters",
        spec.depth,
        spec.width,
        spec.heads,
        spec.mlp,
        spec.activation,
        spec.patch,
        parameters as f64 / 1e6
    );
    let class = if spec.class_token { "a class token" } else { "no class token" };
    let places = match spec.positions {
        Positions::Learned { grid, .. } => {
            let side = grid * spec.patch;
            format!("position embeddings for {side} x {side} pixels, resized for other sizes")
        }
        Positions::Rotary { .. } => "rotary positions, for any size".into(),
    };
    println!("{class}, {} registers; {places}", spec.registers);
    println!("pixels from 0 to 1 become (x - {:?}) / {:?}", spec.pixels.mean, spec.pixels.std);
}
