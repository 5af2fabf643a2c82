//! Flags, environment, file, and the subcommands.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{PATIENT, machine_to_itself, redis_servers};
use crate::support::{Gateway, RedisServer, eventually, redlockd};

/// What the program said on standard error when it refused.
fn refusal(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{said}");
    said
}

/// What it said on standard output when it was content.
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn with_file(directory: &Path, text: &str) -> Command {
    std::fs::write(directory.join("redlockd.toml"), text).unwrap();
    let mut command = redlockd(directory);
    command.env("REDLOCKD_CONFIG", "redlockd.toml");
    command
}

/// The line of `redlockd config` about a setting.
fn setting<'a>(config: &'a str, name: &str) -> &'a str {
    config.lines().find(|line| line.split(" =").next() == Some(name)).unwrap_or_else(|| panic!("no {name} in {config}"))
}

#[test]
fn an_impossible_value_stops_the_start_with_the_name_of_its_setting() {
    let directory = scratch();
    for (name, flags) in [
        ("max_ttl", &["--max-ttl=soon"][..]),
        ("max_ttl", &["--max-ttl=1ms"]),
        ("max_ttl", &["--max-ttl=25h"]),
        ("default_ttl", &["--default-ttl=10m"]),
        ("default_ttl", &["--default-ttl=1m", "--max-ttl=30s"]),
        ("clock_window", &["--clock-window=0s"]),
        ("clock_jump_margin", &["--clock-jump-margin=5m"]),
        ("clock_jump_margin", &["--clock-jump-margin=29s"]),
        ("node_timeout", &["--node-timeout=1h"]),
        ("node_concurrency", &["--node-concurrency=0"]),
        ("listen", &["--listen=nowhere"]),
        ("listen", &["--listen=0.0.0.0:0"]),
        ("jwks", &["--jwks=/nowhere", "--jwt-issuer=i", "--jwt-audience=a"]),
        ("jwks", &["--jwks=/etc/hostname", "--jwt-issuer=i", "--jwt-audience=a"]),
        ("jwks", &["--jwks=ftp://issuer/keys", "--jwt-issuer=i", "--jwt-audience=a"]),
        ("jwt_issuer", &["--jwt-issuer=i"]),
        ("jwt_audience", &["--jwt-audience=a"]),
        ("tls_cert_file", &["--tls-cert-file=there"]),
        ("tls_key_file", &["--tls-key-file=there"]),
        ("tls_client_ca_file", &["--tls-client-ca-file=there"]),
        ("tls_cert_file", &["--tls-cert-file=/nowhere", "--tls-key-file=/nowhere"]),
        ("tls_cert_file", &["--tls-cert-file=/etc/hostname", "--tls-key-file=/etc/hostname"]),
        ("max_connections", &["--max-connections=0"]),
        ("max_requests", &["--max-requests=0"]),
        ("rate_limit", &["--rate-limit=1000001"]),
        ("node_tls_ca_file", &["--node=rediss://h", "--node-tls-ca-file=/etc/hostname"]),
        ("node_tls_cert_file", &["--node=rediss://h", "--node-tls-cert-file=there"]),
        ("node_tls_key_file", &["--node=rediss://h", "--node-tls-key-file=there"]),
        ("nodes", &["--node=redis://user:secret@h"]),
        ("tokens", &["--tokens=[[certificate]]\nname = 'a'\nsan = 'secret'\nallow = ['*:']"]),
        ("tokens", &["--tokens=token = 'secret'"]),
        ("tokens", &["--tokens=secret", "--tokens-file=there"]),
        ("tokens_file", &["--tokens-file=/nowhere"]),
        ("lock_prefix", &["--lock-prefix=redlockd:"]),
        ("log_level", &["--log-level=loud"]),
        ("log_format", &["--log-format=xml"]),
        ("nodes", &["--node=localhost:6379"]),
        ("nodes", &["--node=redis+sentinel://:secret@h:26379/mymaster"]),
        ("nodes", &["--node=redis-cluster://:secret@h:7000"]),
        ("nodes", &["--node=redis://:secret@h:1", "--node=b=redis://h:1/2"]),
        ("nodes", &["--node=a=redis://:secret@h:1", "--node=a=redis://h:2"]),
    ] {
        for command in ["serve", "config"] {
            let said = refusal(redlockd(directory.path()).arg(command).args(flags));
            assert!(said.starts_with(&format!("redlockd: {name}: ")) && said.ends_with("(from a flag)\n"), "{flags:?} said {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}

#[test]
fn what_is_not_a_setting_stops_the_start_wherever_it_is() {
    let directory = scratch();
    let said = refusal(redlockd(directory.path()).arg("--max-tll=1s"));
    assert!(said.contains("--max-tll"), "{said}");
    let said = refusal(redlockd(directory.path()).env("REDLOCKD_MAX_TLL", "1s"));
    assert!(said.starts_with("redlockd: REDLOCKD_MAX_TLL is set in the environment"), "{said}");
    let said = refusal(&mut with_file(directory.path(), "listen = \"127.0.0.1:0\"\nmax_tll = \"1s\"\n"));
    assert!(said.contains("redlockd.toml: there is no setting \"max_tll\""), "{said}");
    let said = refusal(&mut with_file(directory.path(), "listen = \"127.0.0.1:0\"\nmax_ttl is long\n"));
    assert!(said.contains("redlockd.toml: line 2 is not TOML"), "{said}");
    let said = refusal(&mut with_file(directory.path(), "nodes = \"redis://:secret@h\"\n"));
    assert!(said.contains("nodes has a value of the wrong kind") && !said.contains("secret"), "{said}");
    let said = refusal(redlockd(directory.path()).arg("--config=missing.toml"));
    assert!(said.contains("missing.toml"), "{said}");
}

#[test]
fn an_address_in_use_stops_the_start() {
    let gateway = Gateway::start(&[]);
    let address = gateway.address();
    let said = refusal(redlockd(scratch().path()).arg(format!("--listen={address}")));
    assert!(said.contains(&format!("redlockd: cannot listen on {address}: ")), "{said}");
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
    let directory = scratch();
    let mut command = with_file(directory.path(), "max_ttl = \"11m\"\ndefault_ttl = \"11s\"\ngrace = \"11s\"\n");
    command.env("REDLOCKD_MAX_TTL", "12m").env("REDLOCKD_DEFAULT_TTL", "12s").args(["config", "--max-ttl=13m"]);
    let config = output(&mut command);
    for (name, value, origin) in
        [("max_ttl", "13m", "a flag"), ("default_ttl", "12s", "the environment"), ("grace", "11s", "the file"), ("drain_delay", "2s", "the defaults")]
    {
        let line = setting(&config, name);
        assert!(line.starts_with(&format!("{name} = \"{value}\"")) && line.ends_with(&format!("# {origin}")), "{line}");
    }
}

#[test]
fn the_printed_configuration_is_a_file_without_passwords() {
    let directory = scratch();
    let secrets = "a=redis://:secret@h:1,rediss://user:secret@h:2/3,redis://h:3";
    let config = output(redlockd(directory.path()).arg("config").env("REDLOCKD_NODES", secrets));
    assert!(!config.contains("secret") && !config.contains("user"), "{config}");
    assert!(setting(&config, "nodes").starts_with(r#"nodes = ["a=redis://h:1/0","h:2/3=rediss://h:2/3","h:3/0=redis://h:3/0"]"#), "{config}");
    let again = output(with_file(directory.path(), &config).arg("config"));
    assert_eq!(again.replace("# the file", ""), config.replace("# the defaults", "").replace("# the environment", ""));
}

#[test]
fn a_health_check_says_no_by_its_exit_code() {
    let (directory, mut gateway) = (scratch(), Gateway::start(&[]));
    let check = |url: &str| {
        let mut command = redlockd(directory.path());
        command.args(["healthcheck", "--url", url]);
        command
    };
    output(&mut check(&format!("http://{}/readyz", gateway.address())));
    assert!(refusal(&mut check(&format!("http://{}/nothing", gateway.address()))).starts_with("redlockd: answered 404"));
    let nobody = Gateway::on(&[RedisServer::start()], &[]);
    nobody.until_nodes_are("down", 1);
    let said = refusal(&mut check(&format!("http://{}/readyz", nobody.address())));
    assert!(said.contains("0 of 1 nodes vote"), "{said}");
    // Without a URL it is the gateway of these settings.
    let settings = |listen: &str| output(redlockd(directory.path()).args(["healthcheck", "--listen", listen]));
    settings(&gateway.address().to_string());
    gateway.kill();
    gateway.wait_exit();
    assert!(refusal(&mut check(&format!("http://{}/readyz", gateway.address()))).contains("cannot connect"));
}

/// A report without errors. A busy machine may answer too late and is given another chance.
fn measured(arguments: &[&str]) -> String {
    eventually("a run ends without errors", || {
        let report = output(redlockd(scratch().path()).args(["bench", "--duration=1s", "--connections=4"]).args(arguments));
        println!("{report}");
        (report.ends_with("errors        none\n") || report.ends_with("\"errors\":{}}\n")).then_some(report)
    })
}

#[test]
fn a_benchmark_of_a_gateway_and_of_its_nodes_ends_without_errors() {
    let _machine = machine_to_itself();
    let gateway = Gateway::start(PATIENT);
    let target = format!("http://{}", gateway.address());
    let servers = redis_servers::<3>();
    let nodes: Vec<String> = servers.iter().map(RedisServer::url).collect();
    for report in [measured(&["--raw", &nodes.join(",")]), measured(&["--target", &target])] {
        assert!(report.starts_with("connections   4\n"), "{report}");
        let cycles = report.lines().find_map(|line| line.strip_prefix("cycles ")?.split_whitespace().next()?.parse::<u64>().ok());
        assert!(10 < cycles.unwrap(), "{report}");
    }
    let json: serde_json::Value = serde_json::from_str(&measured(&["--json", "--target", &target])).unwrap();
    assert!(10 < json["cycles"].as_u64().unwrap(), "{json}");
}

#[test]
fn nodes_that_are_used_under_other_settings_are_not_measured() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<1>();
    let gateway = Gateway::on(&servers, &["--max-ttl=10m", "--node-timeout=5s"]);
    let said = refusal(redlockd(scratch().path()).args(["bench", "--duration=1s", "--raw", &servers[0].url()]));
    assert!(said.contains("too few of the nodes can vote"), "{said}");
    gateway.post("/locks/still-served").ok();
}

#[test]
fn whoever_has_read_enough_may_close_the_pipe() {
    let mut printing = redlockd(scratch().path()).arg("openapi").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(printing.stdout.take());
    let output = printing.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_openapi_document_is_json_and_names_every_route() {
    let document: serde_json::Value = serde_json::from_str(&output(redlockd(scratch().path()).arg("openapi"))).unwrap();
    for route in ["/locks", "/locks/{key}", "/nodes", "/livez", "/readyz", "/metrics"] {
        assert!(document["paths"][route].is_object(), "{route}");
    }
}

#[test]
fn nodes_from_the_environment_are_separated_by_commas() {
    let config =
        output(redlockd(scratch().path()).arg("config").env("REDLOCKD_NODES", "a=redis://h:1,b=redis://h:2").env("REDLOCKD_BOOTSTRAP", "true"));
    assert!(setting(&config, "nodes").starts_with(r#"nodes = ["a=redis://h:1/0","b=redis://h:2/0"]"#), "{config}");
    assert!(setting(&config, "bootstrap").starts_with("bootstrap = true"), "{config}");
}
