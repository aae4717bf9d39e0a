//! Fetching, against a hub of the test's own.

mod hostile;
mod test_hub;

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;

use test_hub::{COMMIT, TestHub, digest};

use super::cache::Cache;
use super::hub::Hub;
use super::models::Model;
use super::{Event, FetchError, Located, Record, fetch, locate, verify};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// Cache and hub as one user has them.
struct User {
    dir: tempfile::TempDir,
    hub: TestHub,
    variables: Vec<(&'static str, OsString)>,
}

impl User {
    fn of(hub: TestHub) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let variables = vec![("HF_ENDPOINT", hub.endpoint.clone().into()), ("HF_HOME", dir.path().join("hf").into())];
        Self { dir, hub, variables }
    }

    fn cache(&self) -> Cache {
        Cache { dir: self.dir.path().join("new/lucid") }
    }

    fn folder(&self) -> PathBuf {
        self.cache().dir.join("owner--model")
    }

    fn fetch(&self) -> Result<PathBuf, FetchError> {
        self.fetch_telling(&mut |_| ())
    }

    fn fetch_telling(&self, progress: &mut dyn FnMut(Event)) -> Result<PathBuf, FetchError> {
        let get = |name: &str| self.variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
        fetch::into(&self.cache(), &Hub::from_variables(get), &model(), progress)
    }

    /// Files of the model's folder.
    fn names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(self.folder()).unwrap().map(name).collect();
        names.sort();
        names
    }

    /// What the hub was asked for since the last call.
    fn asked(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut self.hub.state.lock().asked)
    }

    /// Put the model's files where the hub's other clients put them.
    fn fill_hub_cache(&self) -> PathBuf {
        let folder = self.dir.path().join("hf/hub/models--owner--model");
        let snapshot = folder.join("snapshots").join(COMMIT);
        for dir in [&folder.join("refs"), &folder.join("blobs"), &snapshot] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(folder.join("refs/main"), COMMIT).unwrap();
        for (name, bytes) in &self.hub.state.lock().files {
            let blob = folder.join("blobs").join(digest(bytes));
            fs::write(&blob, bytes).unwrap();
            std::os::unix::fs::symlink(&blob, snapshot.join(name)).unwrap();
        }
        snapshot
    }
}

fn model() -> Model {
    Model::on_hub("owner/model").unwrap()
}

/// Some bytes, all different in their surroundings.
fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).take(n).collect()
}

fn plain() -> User {
    User::of(TestHub::with(&[(WEIGHTS, &bytes(1000)), (CONFIG, b"{}"), ("README.md", b"read"), ("tf_model.h5", b"tf")]))
}

fn asked(files: &[(&str, usize)]) -> Vec<(String, usize)> {
    files.iter().map(|(name, from)| (name.to_string(), *from)).collect()
}

fn record(path: &Path) -> Record {
    verify(path).unwrap()
}

#[test]
fn vit_fetch_brings_what_is_read_of_a_model() {
    let user = plain();
    let path = user.fetch().unwrap();
    assert_eq!(path, user.folder().join(WEIGHTS));
    assert_eq!(fs::read(&path).unwrap(), bytes(1000));
    assert_eq!(user.names(), [".lock", CONFIG, "fetched.json", WEIGHTS]);
    let record = record(&path);
    assert_eq!((record.name.as_str(), record.origin().as_str()), ("owner/model", "owner/model at c0ffee"));
    assert_eq!(record.files.keys().collect::<Vec<_>>(), [CONFIG, WEIGHTS]);
    assert_eq!(record.files[WEIGHTS].blake3, blake3::hash(&bytes(1000)).to_hex().as_str());
    assert_eq!(user.cache().locate(&model()), Located::Cached(path));
}

#[test]
fn vit_fetch_asks_for_nothing_that_is_there() {
    let mut user = plain();
    user.variables.push(("HF_TOKEN", "secret".into()));
    user.fetch().unwrap();
    assert_eq!(user.asked().len(), 2);
    assert_eq!(user.hub.state.lock().token.take().unwrap(), "Bearer secret");
    user.fetch_telling(&mut |event| panic!("{event:?}")).unwrap();
    assert_eq!(user.hub.state.lock().token, None, "no request at all");
}

#[test]
fn vit_fetch_goes_on_where_a_connection_broke() {
    let user = plain();
    user.hub.state.lock().cuts = vec![300, 450];
    let mut seen = Vec::new();
    let path = user.fetch_telling(&mut |event| seen.push(event)).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes(1000));
    assert_eq!(user.asked(), asked(&[(CONFIG, 0), (WEIGHTS, 0), (WEIGHTS, 300), (WEIGHTS, 750)]));
    assert_eq!(seen.last().unwrap(), &Event::Bytes { done: 1000, total: 1000 });
    assert!(seen.contains(&Event::File { name: WEIGHTS.into() }));
}

#[test]
fn vit_fetch_goes_on_where_an_earlier_one_was_cut() {
    let user = plain();
    user.hub.state.lock().cuts = vec![300, 0];
    let error = user.fetch().unwrap_err();
    assert!(matches!(&error, FetchError::Cut { file, done: 300, .. } if file == WEIGHTS), "{error}");
    assert_eq!(user.names(), [".lock", CONFIG, "model.safetensors.part"]);
    assert_eq!(user.cache().locate(&model()), Located::Missing);
    user.asked();
    let path = user.fetch().unwrap();
    assert_eq!(user.asked(), asked(&[(CONFIG, 0), (WEIGHTS, 300)]));
    assert_eq!(fs::read(path).unwrap(), bytes(1000));
    assert_eq!(user.names(), [".lock", CONFIG, "fetched.json", WEIGHTS], "nothing else is left behind");
}

#[test]
fn vit_fetch_takes_all_again_from_a_hub_without_ranges() {
    let user = plain();
    let mut state = user.hub.state.lock();
    (state.cuts, state.whole) = (vec![300], true);
    drop(state);
    assert_eq!(fs::read(user.fetch().unwrap()).unwrap(), bytes(1000));
}

#[test]
fn vit_fetch_uses_a_download_that_only_lacks_its_name() {
    let user = plain();
    fs::create_dir_all(user.folder()).unwrap();
    fs::write(user.folder().join("model.safetensors.part"), bytes(1000)).unwrap();
    user.fetch().unwrap();
    assert_eq!(user.asked(), asked(&[(CONFIG, 0)]));
}

#[test]
fn vit_fetch_refuses_other_bytes_than_announced() {
    let user = plain();
    user.hub.state.lock().lies.insert(WEIGHTS.into(), "00".repeat(32));
    let error = user.fetch().unwrap_err();
    assert!(matches!(&error, FetchError::Checksum { file, .. } if file == WEIGHTS), "{error}");
    assert!(error.to_string().contains(&digest(&bytes(1000))), "{error}");
    assert_eq!(user.names(), [".lock", CONFIG], "the bytes are gone: a new try starts anew");
}

#[test]
fn vit_fetch_throws_away_a_part_of_another_file() {
    let user = plain();
    fs::create_dir_all(user.folder()).unwrap();
    fs::write(user.folder().join("model.safetensors.part"), [7; 300]).unwrap();
    assert!(matches!(user.fetch().unwrap_err(), FetchError::Checksum { .. }));
    assert_eq!(fs::read(user.fetch().unwrap()).unwrap(), bytes(1000));
}

#[test]
fn vit_fetch_tells_why_the_hub_gives_nothing() {
    let user = plain();
    let with = |status| {
        user.hub.state.lock().status = Some(status);
        user.fetch().unwrap_err()
    };
    let refused = with(401);
    assert!(refused.to_string().contains("`owner/model` (status 401)"), "{refused}");
    let help = miette::Diagnostic::help(&refused).unwrap().to_string();
    assert!(help.contains("accept") && help.contains("/owner/model") && help.contains("HF_TOKEN"), "{help}");
    assert!(matches!(with(403), FetchError::Refused { status: 403, .. }));
    assert_eq!(with(404).to_string(), "the hub has no `owner/model@main`");
    assert!(with(503).to_string().ends_with("status 503"));
    assert_eq!(user.cache().locate(&model()), Located::Missing);
}

#[test]
fn vit_fetch_tells_when_the_hub_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut user = plain();
    user.variables[0].1 = endpoint.clone().into();
    let error = user.fetch().unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot reach the hub at {endpoint}: ")), "{error}");
}

#[test]
fn vit_fetch_tells_of_a_model_without_weights() {
    let user = User::of(TestHub::with(&[("README.md", b"read")]));
    assert!(matches!(user.fetch().unwrap_err(), FetchError::NoWeights { .. }));
    let index = br#"{"weight_map": {"a": "model-1.safetensors"}}"#;
    let user = User::of(TestHub::with(&[("model.safetensors.index.json", index)]));
    let error = user.fetch().unwrap_err().to_string();
    assert!(error.contains("names model-1.safetensors, which the hub does not have"), "{error}");
}

#[test]
fn vit_fetch_brings_all_parts_and_only_those_that_lack() {
    let index = br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}"#;
    let parts = (bytes(500), bytes(700));
    let index_name = "model.safetensors.index.json";
    let files: [(&str, &[u8]); 4] = [
        (index_name, index),
        ("m-1.safetensors", &parts.0),
        ("m-2.safetensors", &parts.1),
        ("m-3.safetensors", b"unused"),
    ];
    let user = User::of(TestHub::with(&files));
    user.hub.state.lock().cuts = vec![index.len(), 500, 100, 0];
    assert!(matches!(user.fetch().unwrap_err(), FetchError::Cut { done: 100, .. }));
    user.asked();
    let path = user.fetch().unwrap();
    assert_eq!(user.asked(), asked(&[(index_name, 0), ("m-2.safetensors", 100)]));
    assert_eq!(path, user.folder());
    assert_eq!(record(&path).files.into_keys().collect::<Vec<_>>(), ["m-1.safetensors", "m-2.safetensors", index_name]);
}

#[test]
fn vit_fetch_mends_a_damaged_cache() {
    let user = plain();
    let path = user.fetch().unwrap();
    fs::write(&path, bytes(999)).unwrap();
    let error = verify(&path).unwrap_err();
    assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
    let help = miette::Diagnostic::help(&error).unwrap().to_string();
    assert!(help.contains("`lucid vit fetch owner/model`"), "{help}");
    assert_eq!(fs::read(user.fetch().unwrap()).unwrap(), bytes(1000));
    fs::remove_file(user.folder().join(CONFIG)).unwrap();
    assert!(verify(&path).unwrap_err().to_string().contains(CONFIG));
    record(&user.fetch().unwrap());
    fs::write(user.folder().join("fetched.json"), "{").unwrap();
    assert!(verify(&path).unwrap_err().to_string().contains("fetched.json"));
    record(&user.fetch().unwrap());
}

#[test]
fn vit_fetch_offline_has_what_is_cached() {
    let mut user = plain();
    user.variables.push(("HF_HUB_OFFLINE", "1".into()));
    let error = user.fetch().unwrap_err().to_string();
    assert!(error.starts_with("HF_HUB_OFFLINE is set, and `owner/model` is neither in "), "{error}");
    user.variables.pop();
    let path = user.fetch().unwrap();
    user.variables.push(("HF_HUB_OFFLINE", "1".into()));
    user.asked();
    assert_eq!(user.fetch().unwrap(), path);
    fs::write(&path, b"other").unwrap();
    assert!(matches!(user.fetch().unwrap_err(), FetchError::Corrupt { .. }));
    assert_eq!(user.asked(), []);
}

#[test]
fn vit_fetch_offline_takes_what_other_clients_of_the_hub_left() {
    let mut user = plain();
    let snapshot = user.fill_hub_cache();
    user.variables.push(("HF_HUB_OFFLINE", "1".into()));
    let path = user.fetch().unwrap();
    assert_eq!(record(&path).revision, COMMIT);
    assert_eq!(fs::read(&path).unwrap(), bytes(1000));
    assert_eq!(user.asked(), []);
    // Without the weights it is no model.
    fs::remove_dir_all(user.folder()).unwrap();
    fs::remove_file(snapshot.join(WEIGHTS)).unwrap();
    assert!(matches!(user.fetch().unwrap_err(), FetchError::Offline { .. }));
}

#[test]
fn vit_fetch_downloads_no_large_file_that_other_clients_of_the_hub_have() {
    let user = plain();
    user.fill_hub_cache();
    let path = user.fetch().unwrap();
    assert_eq!(user.asked(), asked(&[(CONFIG, 0)]));
    assert_eq!(fs::read(path).unwrap(), bytes(1000));
}

#[test]
fn vit_fetch_waits_for_another_one() {
    let user = plain();
    let held = user.cache().lock(&model(), || panic!("nobody else")).unwrap();
    let (sender, waits) = channel();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            user.fetch_telling(&mut |event| {
                // After the first there is nobody left to tell.
                let _ = sender.send(event);
            })
        });
        assert_eq!(waits.recv().unwrap(), Event::Waiting);
        assert_eq!(user.asked(), []);
        drop(held);
        record(&other.join().unwrap().unwrap());
    });
}

#[test]
fn vit_fetch_refuses_another_trunk_as_dinov2_small() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/vit/hf_dinov2.safetensors");
    let user = User::of(TestHub::with(&[(WEIGHTS, &fs::read(fixture).unwrap())]));
    let model = Model { id: "owner/model".into(), ..Model::known("dinov2-small").unwrap() };
    let hub = Hub::from_variables(|name| (name == "HF_ENDPOINT").then(|| user.hub.endpoint.clone().into()));
    let folder = user.dir.path();
    let error = fetch::from_hub(&user.cache(), &hub, &model, folder, &mut |_| ()).unwrap_err();
    assert!(matches!(error, FetchError::Vit(_)), "{error}");
}

#[test]
fn vit_locate_takes_paths_names_and_models() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().to_str().unwrap();
    assert_eq!(locate(text).unwrap(), Located::Local(text.into()));
    let file = dir.path().join(WEIGHTS);
    fs::write(&file, b"").unwrap();
    assert_eq!(locate(text).unwrap(), Located::Local(file.clone()), "the one file with weights in a folder");
    assert_eq!(locate(file.to_str().unwrap()).unwrap(), Located::Local(file));
    for unknown in ["dinov9-huge", "some/file.safetensors", "/no/such"] {
        let error = locate(unknown).unwrap_err();
        assert!(error.to_string().contains(&format!("`{unknown}` is neither a file")), "{error}");
        assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("dinov2-small, dinov2-base"));
    }
}
