//! Flags over environment over file over defaults, and where each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde_json::{Map, Value};

use super::{ConfigError, Settings};
use crate::node::redis::NodeAddress;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    Environment,
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "the defaults",
            Self::File => "the file",
            Self::Environment => "the environment",
            Self::Flag => "a flag",
        })
    }
}

/// The value of every setting, with its origin.
#[derive(Clone)]
pub struct Layered {
    pub settings: Settings,
    origins: BTreeMap<String, Origin>,
}

impl Layered {
    /// Lays `given`, of flags and environment as `matches` says, over the file and the defaults.
    pub fn new(given: &Settings, matches: &ArgMatches, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut values = fields(&Settings::defaults());
        let mut origins: BTreeMap<_, _> = values.keys().map(|name| (name.clone(), Origin::Default)).collect();
        let mut lay = |layer: Map<String, Value>, origin: &dyn Fn(&str) -> Origin| {
            for (name, value) in layer {
                origins.insert(name.clone(), origin(&name));
                values.insert(name, value);
            }
        };
        if let Some(path) = file {
            lay(fields(&read(path)?), &|_| Origin::File);
        }
        lay(fields(given), &|name| match matches.value_source(name) {
            Some(ValueSource::CommandLine) => Origin::Flag,
            _ => Origin::Environment,
        });
        // The fields of settings make settings again.
        let settings = serde_json::from_value(Value::Object(values)).unwrap_or_default();
        let layered = Self { settings, origins };
        layered.check_passwords()?;
        Ok(layered)
    }

    /// A flag is no place for a password.
    fn check_passwords(&self) -> Result<(), ConfigError> {
        let (nodes, origin) = (self.settings.nodes.iter().flatten(), self.origin("nodes"));
        let has_password = |text: &String| NodeAddress::parse(text).is_ok_and(|address| address.has_password());
        match nodes.into_iter().position(has_password) {
            Some(at) if origin == Origin::Flag => {
                let advice = "everybody on this machine can read a password in a flag; put the addresses into REDLOCKD_NODES or the file";
                Err(ConfigError::Setting { name: "nodes", problem: format!("node {}: {advice}", at + 1), origin })
            }
            _ => Ok(()),
        }
    }

    /// The defaults, on these nodes, which nobody else uses.
    pub fn scratch(nodes: Vec<String>) -> Self {
        let settings = Settings { nodes: Some(nodes), bootstrap: Some(true), ..Settings::defaults() };
        Self { settings, origins: BTreeMap::from([("nodes".to_owned(), Origin::Flag)]) }
    }

    pub fn origin(&self, name: &str) -> Origin {
        self.origins.get(name).copied().unwrap_or(Origin::Default)
    }
}

/// As TOML that can be used as a file, without passwords.
impl fmt::Display for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in fields(&self.settings) {
            let value = match &*name {
                "nodes" => self.redacted_nodes(),
                "tokens" if value != "" => "redacted".into(),
                _ => value,
            };
            // A JSON string, number, boolean or array of strings is TOML as well.
            writeln!(f, "{:<42} # {}", format!("{name} = {value}"), self.origin(&name))?;
        }
        Ok(())
    }
}

impl Layered {
    fn redacted_nodes(&self) -> Value {
        let shown =
            |text: &String| NodeAddress::parse(text).map_or_else(|_| "unreadable".to_owned(), |address| format!("{}={address}", address.name()));
        self.settings.nodes.iter().flatten().map(shown).collect::<Vec<_>>().into()
    }
}

fn fields(settings: &Settings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Reads a file. An error names the line or the setting, never the value, which may be a password.
fn read(path: &Path) -> Result<Settings, ConfigError> {
    let problem = |problem: String| ConfigError::File { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        problem(format!("line {line} is not TOML"))
    })?;
    let known = fields(&Settings::defaults());
    let mut values = Map::new();
    for (name, value) in table {
        let Some(example) = known.get(&name) else { return Err(problem(format!("there is no setting {name:?}"))) };
        let value = serde_json::to_value(value).unwrap_or_default();
        if serde_json::from_value::<Settings>(Value::Object(Map::from_iter([(name.clone(), value.clone())]))).is_err() {
            return Err(problem(format!("{name} has a value of the wrong kind; it is written like {example}")));
        }
        values.insert(name, value);
    }
    serde_json::from_value(Value::Object(values)).map_err(|_| problem("its settings cannot be read".into()))
}

/// Refuses `REDLOCKD_…` variables that no setting has, except those that Kubernetes sets for Services whose names begin with redlockd.
pub fn unknown_variable<'a>(names: impl IntoIterator<Item = &'a str>, known: &[&str]) -> Result<(), ConfigError> {
    let of_kubernetes = |name: &str| {
        let link = name.ends_with("_PORT") || name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.contains("_PORT_");
        link && !known.contains(&name)
    };
    let unknown = |name: &&str| name.starts_with("REDLOCKD_") && !known.contains(name) && !of_kubernetes(name);
    match names.into_iter().find(unknown) {
        Some(name) => Err(ConfigError::UnknownVariable { name: name.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_no_setting_has_is_named() {
        let known = ["REDLOCKD_LISTEN"];
        assert_eq!(
            unknown_variable(
                [
                    "PATH",
                    "REDLOCKD_LISTEN",
                    "REDLOCKD_PORT_80_TCP",
                    "REDLOCKD_SERVICE_HOST",
                    "REDLOCKD_METRICS_SERVICE_PORT_METRICS",
                    "REDLOCKD_METRICS_PORT"
                ],
                &known
            ),
            Ok(())
        );
        let error = ConfigError::UnknownVariable { name: "REDLOCKD_LISTN".into() };
        assert_eq!(unknown_variable(["REDLOCKD_LISTN"], &known), Err(error));
    }
}
