//! Certificates and private keys, as PEM files hold them.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::followed::FileError;

/// Why a file is no use. Says nothing of what a key is made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error(transparent)]
    Unreadable(#[from] FileError),
    #[error("{path}: there is no {what} in it, in the PEM format", path = .path.display())]
    Missing { path: PathBuf, what: &'static str },
}

/// All certificates of `pem`, which `path` holds; at least one.
pub fn certificates(path: &Path, pem: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if found.is_empty() { Err(PemError::Missing { path: path.to_owned(), what: "certificate" }) } else { Ok(found) }
}

/// The first private key of `pem`, which `path` holds.
pub fn key(path: &Path, pem: &str) -> Result<PrivateKeyDer<'static>, PemError> {
    // What the parser would say might quote the key.
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| PemError::Missing { path: path.to_owned(), what: "private key without a password" })
}
