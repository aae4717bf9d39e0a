//! Models that can be fetched: short names, and ids of the hub.

use super::FetchError;

/// Short names and their ids on the hub.
const KNOWN: [(&str, &str); 22] = [
    ("dinov2-small", "facebook/dinov2-small"),
    ("dinov2-base", "facebook/dinov2-base"),
    ("dinov2-large", "facebook/dinov2-large"),
    ("dinov2-giant", "facebook/dinov2-giant"),
    ("dinov2-with-registers-small", "facebook/dinov2-with-registers-small"),
    ("dinov2-with-registers-base", "facebook/dinov2-with-registers-base"),
    ("dinov2-with-registers-large", "facebook/dinov2-with-registers-large"),
    ("dinov2-with-registers-giant", "facebook/dinov2-with-registers-giant"),
    ("dinov3-vits16", "facebook/dinov3-vits16-pretrain-lvd1689m"),
    ("dinov3-vits16plus", "facebook/dinov3-vits16plus-pretrain-lvd1689m"),
    ("dinov3-vitb16", "facebook/dinov3-vitb16-pretrain-lvd1689m"),
    ("dinov3-vitl16", "facebook/dinov3-vitl16-pretrain-lvd1689m"),
    ("vit-base-16", "google/vit-base-patch16-224-in21k"),
    ("vit-large-16", "google/vit-large-patch16-224-in21k"),
    ("clip-vit-base-32", "openai/clip-vit-base-patch32"),
    ("clip-vit-base-16", "openai/clip-vit-base-patch16"),
    ("clip-vit-large-14", "openai/clip-vit-large-patch14"),
    ("siglip-base-16-224", "google/siglip-base-patch16-224"),
    ("siglip-so400m-14-384", "google/siglip-so400m-patch14-384"),
    ("mae-base", "facebook/vit-mae-base"),
    ("mae-large", "facebook/vit-mae-large"),
    ("mae-huge", "facebook/vit-mae-huge"),
];

/// Endings that make a name with one slash a path rather than a model.
const ENDINGS: [&str; 7] = [".safetensors", ".bin", ".pt", ".pth", ".onnx", ".json", ".npz"];

/// A model of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// As the user calls it.
    pub name: String,
    /// `owner/name`.
    pub id: String,
    /// Branch, tag or commit.
    pub revision: String,
}

impl Model {
    /// Of a short name.
    pub fn known(name: &str) -> Option<Self> {
        let (_, id) = KNOWN.iter().find(|(short, _)| *short == name)?;
        Some(Self { name: name.into(), id: (*id).into(), revision: "main".into() })
    }

    /// Of `owner/name` or `owner/name@revision`.
    pub fn on_hub(weights: &str) -> Option<Self> {
        let (id, revision) = weights.split_once('@').unwrap_or((weights, "main"));
        let (owner, name) = id.split_once('/')?;
        let good = is_word(owner) && is_word(name) && revision.split('/').all(is_word);
        let path = ENDINGS.iter().any(|ending| name.ends_with(ending));
        (good && !path).then(|| Self { name: weights.into(), id: id.into(), revision: revision.into() })
    }

    /// What the folder of its files is called. Names on the hub have no double hyphen, so that two models never share one.
    pub fn folder(&self) -> String {
        self.name.replace('/', "--")
    }
}

/// What the hub allows in a name: so no path out of a folder can be one.
fn is_word(word: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = word.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins && word.len() <= 96 && word.chars().all(letter) && !word.contains("--") && !word.contains("..")
}

pub(super) fn unknown(weights: &str) -> FetchError {
    FetchError::Unknown { weights: weights.into(), known: KNOWN.map(|(name, _)| name).join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vit_models_have_short_names_and_ids() {
        let known = Model::known("dinov3-vits16").unwrap();
        assert_eq!(known.id, "facebook/dinov3-vits16-pretrain-lvd1689m");
        assert_eq!(known.folder(), "dinov3-vits16");
        let model = Model::on_hub("timm/vit_small_patch14_dinov2.lvd142m").unwrap();
        assert_eq!(
            (model.revision.as_str(), model.folder().as_str()),
            ("main", "timm--vit_small_patch14_dinov2.lvd142m")
        );
        let old = Model::on_hub("o/n@refs/pr/7").unwrap();
        assert_eq!(
            (old.id.as_str(), old.revision.as_str(), old.folder().as_str()),
            ("o/n", "refs/pr/7", "o--n@refs--pr--7")
        );
        for (_, id) in KNOWN {
            assert_eq!(Model::on_hub(id).unwrap().id, id);
        }
    }

    #[test]
    fn vit_models_are_not_paths() {
        for path in
            ["a", "/a", "a/b/c", "./a", "../a", "a/..", "a/b.safetensors", "a/b@../../c", "a--b/c", "a/b@", "~/a"]
        {
            assert_eq!(Model::on_hub(path), None, "{path}");
        }
    }
}
