//! The Hugging Face hub: what a model consists of, and its files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::FetchError;
use super::hub_cache::HubCache;
use super::models::Model;

const ENDPOINT: &str = "https://huggingface.co";
/// For a connection: machines without a way out often drop packets silently.
const CONNECT: Duration = Duration::from_secs(4);
/// Between two pieces.
const STALL: Duration = Duration::from_secs(60);

/// How the hub is reached.
pub(super) struct Hub {
    pub endpoint: String,
    /// Whether the network is forbidden.
    pub offline: bool,
    pub cache: Option<HubCache>,
    token: Option<String>,
    agent: Agent,
}

impl Hub {
    /// As the hub's own variables say.
    pub fn of_user() -> Self {
        Self::from_variables(super::variable)
    }

    pub fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().trim().to_string());
        let below = |root: &str, rest: &str| get(root).map(|root| Path::new(&root).join(rest));
        let home = get("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| below("XDG_CACHE_HOME", "huggingface"));
        let home = home.or_else(|| below("HOME", ".cache/huggingface"));
        let cache = get("HF_HUB_CACHE").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join("hub")));
        let kept = || fs::read_to_string(home?.join("token")).ok().map(|token| token.trim().to_string());
        let offline = text("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
        Self {
            endpoint: text("HF_ENDPOINT").unwrap_or(ENDPOINT.into()).trim_end_matches('/').into(),
            offline: ["1", "true", "yes", "on"].contains(&offline.as_str()),
            cache: cache.map(HubCache),
            token: text("HF_TOKEN").or_else(kept).filter(|token| !token.is_empty()),
            agent: agent(),
        }
    }

    /// What a model consists of.
    pub fn list(&self, model: &Model) -> Result<Listing, FetchError> {
        let Model { id, revision, .. } = model;
        let url = format!("{}/api/models/{id}/revision/{}?blobs=true", self.endpoint, quoted(revision));
        let body = self.get(&url, 0, model, &format!("{id}@{revision}"))?.into_body();
        let info: Info = serde_json::from_reader(body.into_reader())
            .map_err(|e| FetchError::Answer { url, reason: format!("not the description of a model: {e}") })?;
        let file = |s: Sibling| (s.rfilename, Remote { size: s.size, sha256: s.lfs.map(|lfs| lfs.sha256) });
        Ok(Listing { commit: info.sha.unwrap_or_default(), files: info.siblings.into_iter().map(file).collect() })
    }

    /// A file of a commit, or of the model's revision if no commit is known, from a byte on.
    pub fn open(&self, model: &Model, commit: &str, file: &str, from: u64) -> Result<Response<Body>, FetchError> {
        let revision = if commit.is_empty() { &model.revision } else { commit };
        let url = format!("{}/{}/resolve/{}/{}", self.endpoint, model.id, quoted(revision), quoted(file));
        self.get(&url, from, model, &format!("{}/{file}", model.id))
    }

    fn get(&self, url: &str, from: u64, model: &Model, what: &str) -> Result<Response<Body>, FetchError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let endpoint = self.endpoint.clone();
        let response = request
            .call()
            .map_err(|e| FetchError::Unreachable { endpoint: endpoint.clone(), reason: e.to_string() })?;
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            status @ (401 | 403) => {
                Err(FetchError::Refused { model: model.id.clone(), status, page: format!("{endpoint}/{}", model.id) })
            }
            404 => Err(FetchError::NotFound { model: what.into(), endpoint }),
            status => Err(FetchError::Answer { url: url.into(), reason: format!("status {status}") }),
        }
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .user_agent(concat!("lucid/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        // A renamed model is redirected within the hub; large files lie elsewhere, where the token has no business.
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(STALL))
        .timeout_per_write(Some(STALL))
        .build()
        .new_agent()
}

/// A model's commit and files.
pub(super) struct Listing {
    /// Empty if the hub does not tell.
    pub commit: String,
    pub files: BTreeMap<String, Remote>,
}

/// What the hub tells of a file.
pub(super) struct Remote {
    pub size: Option<u64>,
    /// Of large files only.
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

/// A part of a path, so that nothing in it has a meaning in an address.
fn quoted(text: &str) -> String {
    let quoted = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(quoted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(set: &[(&str, &str)]) -> Hub {
        Hub::from_variables(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn vit_hub_heeds_the_variables_of_the_hub() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "kept\n").unwrap();
        let path = home.path().to_str().unwrap();
        let plain = hub(&[("HOME", "/nowhere")]);
        assert_eq!((plain.endpoint.as_str(), plain.offline, plain.token), (ENDPOINT, false, None));
        assert_eq!(plain.cache.unwrap().0, Path::new("/nowhere/.cache/huggingface/hub"));
        let set = hub(&[("HF_HOME", path), ("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!((set.endpoint.as_str(), set.offline, set.token.as_deref()), ("http://mirror", true, Some("kept")));
        assert_eq!(set.cache.unwrap().0, home.path().join("hub"));
        assert_eq!(hub(&[("HF_HOME", path), ("HF_TOKEN", "other")]).token.as_deref(), Some("other"));
    }

    #[test]
    fn vit_hub_quotes_revisions() {
        assert_eq!(quoted("refs/pr/7 ?#"), "refs%2Fpr%2F7%20%3F%23");
    }
}
