//! Who may take part: a run's own authority, its certificate for the gate, and one for each host that is admitted.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

use super::HostError;

/// What one end proves itself with, and whom it believes; all as PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Certificate of the run's authority.
    pub authority: String,
    /// Its own certificate.
    pub certificate: String,
    /// The key of that.
    pub key: String,
}

/// What a host is admitted with: a file that `lucid host token` writes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Where the gate listens, as the host reaches it: `learner.example:7447`; empty if the host is to be told.
    pub join: String,
    /// What the host is called.
    pub name: String,
    /// What the gate asks for.
    pub secret: String,
    /// For an encrypted way.
    pub identity: Identity,
}

/// The authority of a run, kept in its folder for its owner only.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    /// What the gate asks for.
    pub secret: String,
}

const FOLDER: &str = "hosts";

#[derive(Serialize, Deserialize)]
struct Kept {
    certificate: String,
    key: String,
    secret: String,
}

impl Authority {
    /// Of this run; made when it is asked for the first time.
    pub fn of_run(run: &Path) -> Result<Self, HostError> {
        let path = run.join(FOLDER).join("authority.toml");
        let kept = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| damaged(&path, &error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_once(&path, &to_toml(&make()?)?)?;
                // Perhaps another process was faster.
                let text =
                    fs::read_to_string(&path).map_err(|source| HostError::File { path: path.clone(), source })?;
                toml::from_str(&text).map_err(|error| damaged(&path, &error))?
            }
            Err(error) => return Err(HostError::File { path, source: error }),
        };
        let Kept { certificate, key, secret } = kept;
        let pair = KeyPair::from_pem(&key).map_err(|error| damaged(&path, &error))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair).map_err(|error| damaged(&path, &error))?;
        Ok(Self { certificate, issuer, secret })
    }

    /// A certificate for the gate, and the key to it.
    pub fn gate(&self) -> Result<Identity, HostError> {
        self.identity("gate", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for one end only: a host cannot pass for the gate.
    fn identity(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Result<Identity, HostError> {
        let mut params = CertificateParams::new(vec![name.to_string()]).map_err(unmade)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(unmade)?;
        let certificate: Certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?;
        let authority = self.certificate.clone();
        Ok(Identity { authority, certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// What a host of this name is admitted with.
    pub fn token(&self, name: &str, join: &str) -> Result<Token, HostError> {
        let identity = self.identity(name, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Token { join: join.into(), name: name.into(), secret: self.secret.clone(), identity })
    }
}

fn make() -> Result<Kept, HostError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority of a Lucid run");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().map_err(unmade)?;
    let certificate = params.self_signed(&key).map_err(unmade)?;
    let secret: [u8; 32] = rand::random();
    Ok(Kept {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        secret: blake3::Hash::from_bytes(secret).to_hex().to_string(),
    })
}

impl Token {
    /// From a file.
    pub fn read(path: &Path) -> Result<Self, HostError> {
        let text = fs::read_to_string(path).map_err(|source| HostError::File { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// From text that came from `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, HostError> {
        toml::from_str(text).map_err(|error| damaged(path, &error))
    }

    /// As text.
    pub fn text(&self) -> Result<String, HostError> {
        to_toml(self)
    }

    /// To a file that only its owner can read.
    pub fn write(&self, path: &Path) -> Result<(), HostError> {
        write_secret(path, &self.text()?).map_err(|error| match error {
            HostError::File { path, source } if source.kind() == ErrorKind::AlreadyExists => {
                HostError::TokenThere { path }
            }
            error => error,
        })
    }
}

fn to_toml<T: Serialize>(value: &T) -> Result<String, HostError> {
    toml::to_string(value).map_err(|error| HostError::Secrets { message: error.to_string() })
}

fn write_secret(path: &Path, text: &str) -> Result<(), HostError> {
    let failed = |source| HostError::File { path: path.into(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// As a whole or not at all; a file that is there already stays.
fn write_once(path: &Path, text: &str) -> Result<(), HostError> {
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    write_secret(&aside, text)?;
    let linked = fs::hard_link(&aside, path);
    let _ = fs::remove_file(&aside);
    match linked {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(HostError::File { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

fn unmade(error: rcgen::Error) -> HostError {
    HostError::Secrets { message: error.to_string() }
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> HostError {
    HostError::Token { path: PathBuf::from(path), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_authority_is_made_once_and_its_files_are_for_its_owner() {
        let run = tempfile::tempdir().unwrap();
        let first = Authority::of_run(run.path()).unwrap().token("far", "here:1").unwrap();
        let again = Authority::of_run(run.path()).unwrap().token("far", "here:1").unwrap();
        assert_eq!((&first.secret, &first.identity.authority), (&again.secret, &again.identity.authority));
        assert_ne!(first.identity.key, again.identity.key, "each host has a key of its own");
        let path = run.path().join("far.token");
        first.write(&path).unwrap();
        assert!(Token::read(&path).unwrap() == first);
        for file in [path, run.path().join("hosts/authority.toml")] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_is_no_token_is_named() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("far.token");
        fs::write(&path, "join = 3").unwrap();
        let error = Token::read(&path).err().unwrap().to_string();
        assert!(error.contains("far.token") && error.contains("join"), "{error}");
    }
}
