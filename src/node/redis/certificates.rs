//! Certificates for nodes behind TLS.

use std::fmt;
use std::path::Path;

use redis::{ClientTlsConfig, TlsCertificates};

use crate::followed;
use crate::pem::{self, PemError};

/// Who vouches for nodes, and what the gateway shows them.
#[derive(Clone)]
pub struct NodeCertificates(TlsCertificates);

impl NodeCertificates {
    /// Reads `ca`, without which those count whom the machine trusts, and of `client` a certificate and its key, if there are any.
    pub fn read(ca: Option<&Path>, client: Option<(&Path, &Path)>) -> Result<Self, PemError> {
        let certificates = |path: &Path| {
            let text = followed::read(path)?;
            pem::certificates(path, &text).map(|_| text.into_bytes())
        };
        let key = |path: &Path| {
            let text = followed::read(path)?;
            pem::key(path, &text).map(|_| text.into_bytes())
        };
        let client =
            client.map(|(certificate, of)| Ok::<_, PemError>(ClientTlsConfig { client_cert: certificates(certificate)?, client_key: key(of)? }));
        Ok(Self(TlsCertificates { client_tls: client.transpose()?, root_cert: ca.map(certificates).transpose()? }))
    }

    pub fn get(&self) -> &TlsCertificates {
        &self.0
    }
}

/// Without what they are made of.
impl fmt::Debug for NodeCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCertificates(…)")
    }
}
