//! The gateway's certificate, and which clients' it wants to see.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info};

use super::stream::Tcp;
use crate::followed::{self, FollowedFiles};
use crate::metrics::Metrics;
use crate::pem::{self, PemError};

/// Where certificates are: PEM files, which are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The gateway's own, with those that vouch for it.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who vouches for clients. Without it clients show no certificate, with it they have to.
    pub client_ca: Option<PathBuf>,
}

/// How much later than now a certificate may begin: clocks differ.
const SOON: Duration = Duration::from_secs(60);

/// Why certificates can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("{path}: {problem}", path = .path.display())]
    Unusable { path: PathBuf, problem: String },
}

impl TlsError {
    /// Which file it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Pem(PemError::Unreadable(error)) => &error.path,
            Self::Pem(PemError::Missing { path, .. }) | Self::Unusable { path, .. } => path,
        }
    }
}

impl TlsFiles {
    /// Reads and checks all of them.
    pub fn read(&self) -> Result<Tls, TlsError> {
        let contents = self.paths().map(|path| followed::read(path)).collect::<Result<Vec<_>, _>>().map_err(PemError::from)?;
        Ok(Tls(Arc::new(RwLock::new(self.check(&contents)?))))
    }

    /// Puts every change in force for the connections that are made after it, for ever. Files that became unusable change
    /// nothing but the log and `metrics`.
    pub async fn follow(self, tls: Tls, metrics: Arc<Metrics>) {
        metrics.tls_expires.set(tls.expires());
        let mut files = FollowedFiles::new(self.paths().cloned());
        loop {
            let contents = files.next().await;
            let config = contents.map_err(|error| TlsError::Pem(error.into())).and_then(|contents| self.check(&contents));
            metrics.tls_stale.set(config.is_err().into());
            match config {
                Ok(config) => {
                    info!("the certificate {} is in force", self.certificate.display());
                    tls.replace(config);
                    metrics.tls_expires.set(tls.expires());
                }
                Err(error) => error!("the certificates stay as they are: {error}"),
            }
        }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca)
    }

    /// Of what the files hold, in the order of [`TlsFiles::paths`].
    fn check(&self, contents: &[String]) -> Result<InForce, TlsError> {
        let unusable = |path: &Path, error: &dyn std::error::Error| TlsError::Unusable { path: path.to_owned(), problem: error.to_string() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.certificate, &error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in pem::certificates(path, &contents[2])? {
                    roots.add(certificate).map_err(|error| unusable(path, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| unusable(path, &error))?)
            }
        };
        let (chain, key) = (pem::certificates(&self.certificate, &contents[0])?, pem::key(&self.key, &contents[1])?);
        let [begin, end] = validity(&chain).map_err(|error| unusable(&self.certificate, &error))?;
        let now = UnixTime::now();
        // Clients would refuse it. One that begins in a moment is as good as valid.
        let problem = if end < now {
            format!("the certificate is over since {}", date(end))
        } else if now.as_secs() + SOON.as_secs() < begin.as_secs() {
            format!("the certificate is not valid before {}", date(begin))
        } else {
            String::new()
        };
        if !problem.is_empty() {
            return Err(TlsError::Unusable { path: self.certificate.clone(), problem });
        }
        let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&self.key, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(InForce { config: Arc::new(config), end })
    }
}

/// From when to when the first of `chain` is valid.
fn validity(chain: &[CertificateDer<'_>]) -> Result<[UnixTime; 2], webpki::Error> {
    let certificate = chain.first().ok_or(webpki::Error::BadDer)?;
    let parsed = webpki::EndEntityCert::try_from(certificate)?;
    // It need not be one that vouches for itself: its time is looked at before anything else, and on the first and on the
    // last of all days that is what is wrong with it.
    let itself = [webpki::anchor_from_trusted_cert(certificate)?];
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let wrong_at = |seconds: u64| {
        let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        parsed.verify_for_usage(algorithms, &itself, &[], then, webpki::KeyUsage::server_auth(), None, None).err()
    };
    match (wrong_at(0), wrong_at(u64::MAX)) {
        (Some(webpki::Error::CertNotValidYet { not_before, .. }), Some(webpki::Error::CertExpired { not_after, .. })) => Ok([not_before, not_after]),
        (Some(error @ webpki::Error::InvalidCertValidity), _) => Err(error),
        _ => Err(webpki::Error::BadDerTime),
    }
}

/// For a log.
fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| "?".to_owned(), |time| time.to_string())
}

/// The certificates in force. Clones share them.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<InForce>>);

struct InForce {
    config: Arc<ServerConfig>,
    /// When the gateway's own certificate is over.
    end: UnixTime,
}

impl Tls {
    fn replace(&self, new: InForce) {
        *self.0.write().expect("no code panics while it holds this") = new;
    }

    fn in_force(&self) -> RwLockReadGuard<'_, InForce> {
        self.0.read().expect("no code panics while it holds this")
    }

    /// When the gateway's own certificate is over, in seconds since 1970.
    fn expires(&self) -> i64 {
        self.in_force().end.as_secs().try_into().unwrap_or(i64::MAX)
    }

    pub async fn handshake(&self, tcp: Tcp) -> io::Result<TlsStream<Tcp>> {
        let config = Arc::clone(&self.in_force().config);
        TlsAcceptor::from(config).accept(tcp).await
    }
}

/// What the first of `chain`, which was verified, calls its owner: the DNS names, in small letters, and URIs among its
/// alternative names. Its common name is not looked at, which no TLS library does any more.
pub fn names(chain: &[CertificateDer<'_>]) -> Arc<[String]> {
    let Some(Ok(certificate)) = chain.first().map(webpki::EndEntityCert::try_from) else { return Arc::default() };
    // An authority that checks only who owns a domain lets its customers choose URIs: one that looks like a DNS name is none.
    let uris = certificate.valid_uri_names().filter(|uri| uri.contains(':')).map(str::to_owned);
    uris.chain(certificate.valid_dns_names().map(str::to_ascii_lowercase)).collect()
}

/// Why a handshake failed, in a word of few.
pub fn reason(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::TimedOut {
        return "timeout";
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::NoCertificatesPresented) => "no_certificate",
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::UnknownIssuer => "unknown_authority",
            _ => "bad_certificate",
        },
        Some(rustls::Error::AlertReceived(_)) => "refused_by_client",
        Some(_) => "protocol",
        None => "hung_up",
    }
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_uri_is_never_taken_for_a_dns_name() {
        let uri = |text: &str| SanType::URI(Ia5String::try_from(text).unwrap());
        let mut params = CertificateParams::new(["Web.Example.org".to_owned()]).unwrap();
        params.subject_alt_names.extend([uri("db.example.org"), uri("spiffe://example.org/Db")]);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(*names(&[certificate.der().clone()]), ["spiffe://example.org/Db", "web.example.org"].map(str::to_owned));
    }
}
