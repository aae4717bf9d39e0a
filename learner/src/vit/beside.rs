//! The configuration files that libraries keep beside their weights.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::vit::{Activation, Pixels, VitError};

use super::load::LoadError;

/// Longest configuration, in bytes; the usual ones have a few thousand, and those with labels of classes some ten thousand.
const LONGEST: u64 = 4 << 20;

/// What is read of Hugging Face's `config.json` and `preprocessor_config.json`, and of timm's `config.json`.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub num_attention_heads: Option<usize>,
    pub layer_norm_eps: Option<f32>,
    pub rope_theta: Option<f32>,
    hidden_act: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

/// `config.json`, or its part for images.
#[derive(Default, Deserialize)]
struct Model {
    num_attention_heads: Option<usize>,
    layer_norm_eps: Option<f32>,
    rope_theta: Option<f32>,
    hidden_act: Option<String>,
    vision_config: Option<Box<Model>>,
    pretrained_cfg: Option<Timm>,
    architecture: Option<String>,
}

#[derive(Deserialize)]
struct Timm {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

#[derive(Default, Deserialize)]
struct Preprocessor {
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

impl Beside {
    /// Of a weights file or folder; files that are not there tell nothing.
    pub fn read(weights: &Path, config: Option<&Path>) -> Result<Self, LoadError> {
        let folder = if weights.is_dir() { weights.into() } else { weights.with_file_name("") };
        let config = config.map_or_else(|| folder.join("config.json"), Path::to_path_buf);
        let preprocessor: Preprocessor = parse(config.with_file_name("preprocessor_config.json"))?;
        let whole: Model = parse(config)?;
        let statistics = whole.pretrained_cfg.map(|timm| (timm.mean, timm.std)).unwrap_or_default();
        let by_name = whole.architecture.as_deref().and_then(activation_of_architecture).map(str::to_string);
        let (heads, eps, theta, act) =
            (whole.num_attention_heads, whole.layer_norm_eps, whole.rope_theta, whole.hidden_act);
        let part = whole.vision_config.map_or_else(Model::default, |part| *part);
        Ok(Self {
            num_attention_heads: part.num_attention_heads.or(heads),
            layer_norm_eps: part.layer_norm_eps.or(eps),
            rope_theta: part.rope_theta.or(theta),
            hidden_act: part.hidden_act.or(act).or(by_name),
            mean: preprocessor.image_mean.or(statistics.0),
            std: preprocessor.image_std.or(statistics.1),
        })
    }

    /// The nonlinearity, if the file tells it.
    pub fn activation(&self) -> Result<Option<Activation>, VitError> {
        Ok(Some(match self.hidden_act.as_deref() {
            None => return Ok(None),
            Some("gelu") => Activation::Gelu,
            Some("gelu_pytorch_tanh" | "gelu_new") => Activation::GeluTanh,
            Some("quick_gelu") => Activation::QuickGelu,
            Some("silu" | "swish") => Activation::Silu,
            Some("relu") => Activation::Relu,
            Some(other) => return Err(VitError::Spec(format!("config.json has an unknown hidden_act `{other}`"))),
        }))
    }

    /// Statistics of pixels, if a file tells them.
    pub fn pixels(&self) -> Option<Pixels> {
        Some(Pixels { mean: self.mean?, std: self.std? })
    }
}

/// timm tells the nonlinearity only by the model's name.
fn activation_of_architecture(name: &str) -> Option<&'static str> {
    match name {
        name if name.contains("quickgelu") => Some("quick_gelu"),
        name if name.contains("siglip") => Some("gelu_pytorch_tanh"),
        _ => None,
    }
}

/// A file's content; that of an empty one if it is not there.
fn parse<T: DeserializeOwned + Default>(path: PathBuf) -> Result<T, LoadError> {
    let read = match std::fs::metadata(&path) {
        Ok(found) if !found.is_file() || found.len() > LONGEST => Err("this is no file of some kilobytes".into()),
        Ok(_) => std::fs::read(&path).map_err(|e| e.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => Err(error.to_string()),
    };
    let parsed = read.and_then(|text| serde_json::from_slice(&text).map_err(|e| format!("{e:.200}")));
    parsed.map_err(|reason| LoadError::Config { path, reason })
}
