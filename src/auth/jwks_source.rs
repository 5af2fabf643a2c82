//! Where an issuer's keys come from, and how a change of them is noticed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::sleep;
use tracing::{error, info};

use super::jwks::{KeySet, KeySetError};
use super::jwt::Issuer;
use crate::followed::{self, FileError, FollowedFiles};
use crate::http_client::{FetchError, HttpUrl, fetch};

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    File(PathBuf),
    Url(HttpUrl),
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error(transparent)]
    Unreadable(#[from] FileError),
    #[error(transparent)]
    Unreachable(#[from] FetchError),
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}

/// How often an issuer is asked. It may take back a key sooner than a token expires.
const INTERVAL: Duration = Duration::from_secs(300);
/// How soon it is asked again when it gave no keys, or when a token names one that is not known.
const SOON: Duration = Duration::from_secs(5);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

impl JwksSource {
    /// Whether what can be looked at now is in order. An issuer is not asked: it may be away while a gateway starts.
    pub fn check(&self) -> Result<(), JwksError> {
        match self {
            Self::File(path) => Ok(KeySet::parse(&followed::read(path)?).map(drop)?),
            Self::Url(_) => Ok(()),
        }
    }

    /// Puts the keys in force that can be had now, so that a gateway that says that it is ready knows whom its issuer knows.
    pub async fn begin(&self, issuer: &Issuer, stale: &IntGauge) {
        let text = match self {
            Self::File(path) => followed::read(path).map_err(JwksError::from),
            Self::Url(url) => fetch(url, FETCH_TIMEOUT).await.map_err(JwksError::from),
        };
        put_in_force(issuer, stale, text);
    }

    /// Puts every change of the keys in force, for ever. Keys that can't be had change nothing but the log and `stale`.
    pub async fn follow(self, issuer: Arc<Issuer>, stale: IntGauge) {
        match self {
            Self::File(path) => {
                let mut file = FollowedFiles::new([path]);
                loop {
                    let contents = file.next().await;
                    put_in_force(&issuer, &stale, contents.map_err(JwksError::from).map(|text| text.concat()));
                }
            }
            Self::Url(url) => {
                let mut is_there = issuer.has_keys();
                loop {
                    // Not sooner, whatever tokens name: anybody can make one with a key that does not exist.
                    sleep(SOON).await;
                    if is_there {
                        tokio::select! {
                            () = sleep(INTERVAL - SOON) => {}
                            () = issuer.unknown_key.notified() => {}
                        }
                    }
                    is_there = put_in_force(&issuer, &stale, fetch(&url, FETCH_TIMEOUT).await.map_err(JwksError::from));
                }
            }
        }
    }
}

fn put_in_force(issuer: &Issuer, stale: &IntGauge, text: Result<String, JwksError>) -> bool {
    let keys = text.and_then(|text| Ok(KeySet::parse(&text)?));
    stale.set(keys.is_err().into());
    match keys {
        Ok(keys) => {
            info!(keys = keys.len(), "the keys of the issuer are in force");
            issuer.replace(keys);
            true
        }
        Err(error) => {
            error!("the keys of the issuer stay as they are: {error}");
            false
        }
    }
}
