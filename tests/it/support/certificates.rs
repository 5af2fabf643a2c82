//! Certificates of a test's own.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Vouches for servers and clients.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its own certificate.
    pub file: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Writes its certificate into `directory`. All authorities of one `name` differ.
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A certificate for `names`, DNS names or URIs, beside its own.
    pub fn issue(&self, names: &[&str]) -> CertificateFiles {
        self.issue_with(names, |_| {})
    }

    /// One that is good in these years.
    pub fn issue_for(&self, names: &[&str], years: Range<i32>) -> CertificateFiles {
        self.issue_with(names, |params| {
            params.not_before = date_time_ymd(years.start, 1, 1);
            params.not_after = date_time_ymd(years.end, 1, 1);
        })
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> CertificateFiles {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.iter().map(|name| alternative_name(name)).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let directory = tempfile::tempdir_in(self.file.parent().unwrap()).unwrap().keep();
        let files = CertificateFiles { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A client that believes whom this authority vouches for, and shows `shown`.
    pub fn client(&self, shown: Option<&CertificateFiles>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.file).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap()
            }
        })
    }
}

fn alternative_name(name: &str) -> SanType {
    if name.contains("://") { SanType::URI(name.try_into().unwrap()) } else { SanType::DnsName(name.try_into().unwrap()) }
}
