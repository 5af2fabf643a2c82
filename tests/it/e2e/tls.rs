//! TLS: what the gateway shows, and what it wants to see.

use std::path::Path;

use crate::support::{Authority, CertificateFiles, Gateway, HttpClient, eventually, redlockd};

/// The flags for a gateway with this certificate.
fn flags(files: &CertificateFiles) -> Vec<String> {
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    vec![flag("tls-cert-file", &files.certificate), flag("tls-key-file", &files.key), "--metrics-listen=127.0.0.1:0".to_owned()]
}

/// A gateway with this certificate, that lets in clients for whom `clients` vouches, all if there is none.
fn start(files: &CertificateFiles, clients: Option<&Authority>, more: &[&str]) -> Gateway {
    let mut flags = flags(files);
    flags.extend(clients.map(|authority| format!("--tls-client-ca-file={}", authority.file.display())));
    Gateway::start(&flags.iter().map(String::as_str).chain(["--node-timeout=5s"]).chain(more.iter().copied()).collect::<Vec<_>>())
}

/// What a client that shows `shown` is told before it can ask.
fn refusal(gateway: &Gateway, authority: &Authority, shown: Option<&CertificateFiles>) -> String {
    let mut client = HttpClient::over_tls(gateway.address(), authority.client(shown));
    client.ask("GET", "/livez", &[]).unwrap_err().to_string()
}

/// Waits until one handshake is counted as refused for `reason`.
fn refused_once(gateway: &Gateway, reason: &str) {
    let series = format!("redlockd_tls_refusals_total{{reason=\"{reason}\"}} 1\n");
    let metrics = || gateway.operations().ask("GET", "/metrics", &[]).unwrap().ok().body;
    eventually(&format!("{reason} is counted"), || metrics().contains(&series).then_some(()));
}

/// When the certificate in force is over, in seconds since 1970.
fn expiry(gateway: &Gateway) -> f64 {
    let metrics = gateway.operations().ask("GET", "/metrics", &[]).unwrap().ok().body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("redlockd_tls_certificate_expiry_timestamp_seconds "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_certificate_is_replaced_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(directory.path(), "old"), Authority::new(directory.path(), "new"));
    let files = old.issue(&["localhost"]);
    let gateway = start(&files, None, &[]);
    // rcgen's own: 4096-01-01.
    assert_eq!(expiry(&gateway), 67_090_118_400.0);
    let mut kept = HttpClient::over_tls(gateway.address(), old.client(None));
    kept.ask("POST", "/locks/a", &[]).unwrap().ok();
    std::fs::write(&files.key, "no key").unwrap();
    eventually("it says so", || gateway.log().contains("the certificates stay as they are").then_some(()));
    assert_eq!(gateway.operations().ask("GET", "/metrics", &[]).unwrap().ok().body.matches("redlockd_tls_stale 1\n").count(), 1);
    HttpClient::over_tls(gateway.address(), old.client(None)).ask("POST", "/locks/b", &[]).unwrap().ok();
    let next = new.issue_for(&["localhost"], 2020..2100);
    std::fs::rename(&next.certificate, &files.certificate).unwrap();
    std::fs::rename(&next.key, &files.key).unwrap();
    let believes_new = || HttpClient::over_tls(gateway.address(), new.client(None)).ask("GET", "/livez", &[]);
    eventually("the new one is in force", || believes_new().ok());
    // 2100-01-01.
    eventually("its end is told", || (expiry(&gateway) == 4_102_444_800.0).then_some(()));
    assert!(refusal(&gateway, &old, None).contains("UnknownIssuer"));
    kept.ask("POST", "/locks/c", &[]).unwrap().ok();
}

#[test]
fn every_client_certificate_that_is_no_good_has_its_error() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, foreign) = (Authority::new(directory.path(), "ours"), Authority::new(directory.path(), "foreign"));
    let gateway = start(&ours.issue(&["localhost"]), Some(&ours), &[]);
    for (shown, told, reason) in [
        (None, "CertificateRequired", "no_certificate"),
        (Some(foreign.issue(&["worker"])), "UnknownCA", "unknown_authority"),
        (Some(ours.issue_for(&["worker"], 2020..2021)), "CertificateExpired", "expired"),
    ] {
        let said = refusal(&gateway, &ours, shown.as_ref());
        assert!(said.contains(told), "{said}");
        refused_once(&gateway, reason);
    }
    let mut good = HttpClient::over_tls(gateway.address(), ours.client(Some(&ours.issue(&["worker"]))));
    good.ask("POST", "/locks/a", &[]).unwrap().ok();
    assert_eq!(good.ask("GET", "/nodes", &[]).unwrap().ok().json()["lets_in"], "certificates");
    // Nothing but the certificate says who it is, and that is not enough to take what another holds.
    assert_eq!(good.ask("GET", "/locks/a", &[]).unwrap().ok().json()["holder"]["owner"], "worker");
    assert_eq!(good.ask("DELETE", "/locks/a?force=true&reason=mine", &[]).unwrap().problem(), (403, "forbidden".into()));
}

#[test]
fn a_certificate_that_is_over_is_not_put_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let (files, over) = (authority.issue(&["localhost"]), authority.issue_for(&["localhost"], 2020..2021));
    let gateway = start(&files, None, &[]);
    std::fs::rename(&over.certificate, &files.certificate).unwrap();
    std::fs::rename(&over.key, &files.key).unwrap();
    eventually("it says so", || gateway.log().contains("the certificates stay as they are").then_some(()));
    assert!(gateway.log().contains("is over since 2021-01-01T00:00:00Z"), "{}", gateway.log());
    HttpClient::over_tls(gateway.address(), authority.client(None)).ask("POST", "/locks/a", &[]).unwrap().ok();
    let output = redlockd(directory.path()).arg("config").args(flags(&files)).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is over since 2021-01-01T00:00:00Z"), "{output:?}");
}

#[test]
fn a_certificate_that_begins_later_is_not_put_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let later = authority.issue_for(&["localhost"], 2090..2100);
    let output = redlockd(directory.path()).arg("config").args(flags(&later)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("tls_cert_file") && said.contains("is not valid before 2090-01-01T00:00:00Z"), "{said}");
}

#[test]
fn a_key_of_another_certificate_is_named_as_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let [one, other] = [(); 2].map(|()| authority.issue(&["localhost"]));
    let output = redlockd(directory.path()).arg("config").args(flags(&CertificateFiles { key: other.key, ..one })).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("tls_key_file"), "{said}");
}

#[test]
fn a_name_in_a_certificate_is_an_identity() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let roster = "[[certificate]]\nname = \"billing\"\nsan = \"spiffe://example.org/billing\"\nallow = [\"*:billing/\"]\n";
    let gateway = start(&authority.issue(&["localhost"]), Some(&authority), &["--tokens", roster]);
    let client = |names: &[&str]| HttpClient::over_tls(gateway.address(), authority.client(Some(&authority.issue(names))));
    let mut billing = client(&["billing.local", "spiffe://example.org/billing"]);
    assert_eq!(billing.ask("POST", "/locks/billing/42", &[]).unwrap().ok().text("owner"), "billing");
    assert_eq!(billing.ask("POST", "/locks/orders/42", &[]).unwrap().problem(), (403, "forbidden".into()));
    let stranger = client(&["spiffe://example.org/orders"]).ask("POST", "/locks/billing/43", &[]).unwrap();
    assert!(stranger.problem() == (401, "unauthorized".into()) && stranger.text("detail").contains("certificate"), "{stranger:?}");
    // A token that is shown decides, even a wrong one.
    let wrong = billing.ask("POST", "/locks/billing/43", &[("Authorization", "Bearer nobody")]).unwrap();
    assert_eq!(wrong.problem(), (401, "unauthorized".into()));
}

#[test]
fn whoever_does_not_speak_tls_is_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = start(&Authority::new(directory.path(), "ours").issue(&["localhost"]), None, &[]);
    assert!(gateway.client().ask("GET", "/livez", &[]).is_err());
    refused_once(&gateway, "protocol");
}
