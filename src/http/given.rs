//! What a request says: query, JSON body and headers, as names and values of which each is known and given once.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use super::path::decode;
use super::problem::Problem;
use super::state::AppState;
use crate::lease::{FencingToken, LeaseId, OwnerLabel, Ttl};

/// The longest that makes sense, 16 keys of 512 bytes each, written as escapes, are 48 KiB.
const MAX_BODY: usize = 64 * 1024;
/// A body of a few hundred bytes is there at once, or its client is stuck.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Names and values as they were given, each name known and given once.
pub struct Given {
    headers: HeaderMap,
    values: Vec<(String, String)>,
    /// The array of strings that a body may have.
    keys: Option<Vec<String>>,
}

impl Given {
    /// Reads query and body. A name in both is given twice.
    ///
    /// In a box: what a body needs to be read is more than what a request needs to wait, which takes longer.
    pub fn of(request: Request, allowed: impl Into<Cow<'static, [&'static str]>>) -> Pin<Box<dyn Future<Output = Result<Self, Problem>> + Send>> {
        Box::pin(Self::read(request, allowed.into()))
    }

    async fn read(request: Request, allowed: Cow<'static, [&'static str]>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let mut given = Self { headers: parts.headers, values: Vec::new(), keys: None };
        for pair in parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| decode(&text.replace('+', " ")).map_err(|error| Problem::invalid(format!("query: {error}.")));
            let name = plain(name)?;
            check_name(&name, &allowed)?;
            given.add(name, plain(value)?)?;
        }
        for (name, value) in given.body(body).await? {
            check_name(&name, &allowed)?;
            match value {
                serde_json::Value::Array(values) if name == "keys" => given.add_keys(values)?,
                value => {
                    let value = text_of(&name, value)?;
                    given.add(name, value)?;
                }
            }
        }
        Ok(given)
    }

    fn add(&mut self, name: String, value: String) -> Result<(), Problem> {
        if name == "keys" {
            return Err(Problem::invalid("keys: it is an array of strings, and goes into the body."));
        }
        if self.values.iter().any(|(known, _)| *known == name) {
            return Err(Problem::invalid(format!("{name} is given twice; give it once, in the query, the body or a header.")));
        }
        self.values.push((name, value));
        Ok(())
    }

    fn add_keys(&mut self, values: Vec<serde_json::Value>) -> Result<(), Problem> {
        let text = |(at, value)| match value {
            serde_json::Value::String(text) => Ok(text),
            other => {
                let given = excerpt(&other.to_string());
                Err(Problem::invalid(format!("keys: number {} of them is {given}; each must be a string, such as [\"a\",\"b\"].", at + 1)))
            }
        };
        let keys = values.into_iter().enumerate().map(text).collect::<Result<_, _>>()?;
        if self.keys.replace(keys).is_some() {
            return Err(Problem::invalid("keys is given twice; give it once, in the body."));
        }
        Ok(())
    }

    async fn body(&self, body: Body) -> Result<Vec<(String, serde_json::Value)>, Problem> {
        let bytes = read(body).await?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let json = |value: &str| value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(json) {
            let detail = "A body must be JSON: send Content-Type: application/json, or give the options as query parameters.";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type", detail));
        }
        let object: Object = serde_json::from_slice(&bytes).map_err(|error| Problem::invalid(body_error(&error)))?;
        Ok(object.0)
    }

    /// Adds an option that a header may carry as well.
    pub fn header(&mut self, header: &HeaderName, name: &str) -> Result<(), Problem> {
        let mut values = self.headers.get_all(header).iter();
        let Some(value) = values.next() else { return Ok(()) };
        if values.next().is_some() {
            return Err(Problem::invalid(format!("the header {header} is given twice; give it once.")));
        }
        let text = value.to_str().map_err(|_| Problem::invalid(format!("the header {header} must be printable ASCII.")))?.trim();
        // Idempotency-Key is a quoted string in its RFC and a bare one in most clients.
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned();
        self.add(name.to_owned(), text)
    }

    /// Adds the seconds that `Prefer: wait=SECONDS` says (RFC 7240). The other preferences are none of ours.
    pub fn prefer_wait(&mut self) -> Result<Option<u32>, Problem> {
        let seconds = {
            // As bytes: a preference beside it may hold any.
            let preferences = self.headers.get_all(PREFER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
            let waits = preferences.filter_map(|preference| {
                let mut parts = preference.split(|byte| b"=;".contains(byte)).map(|part| part.trim_ascii());
                parts.next().filter(|name| name.eq_ignore_ascii_case(b"wait")).map(|_| parts.next().unwrap_or_default())
            });
            // The first one counts, as the RFC wants it.
            waits.map(|seconds| seconds.trim_ascii().to_owned()).next()
        };
        let Some(text) = seconds.map(|text| String::from_utf8_lossy(&text).trim_matches('"').to_owned()) else { return Ok(None) };
        let seconds: u32 = text.parse().map_err(|_| {
            Problem::invalid(format!("the header prefer: wait={:?} is not allowed; write whole seconds, such as wait=10.", excerpt(&text)))
        })?;
        self.add("wait".to_owned(), format!("{seconds}s"))?;
        Ok(Some(seconds))
    }

    /// How long to wait; not at all unless it is said.
    pub fn wait(&mut self, state: &AppState) -> Result<Duration, Problem> {
        let Some(text) = self.take("wait") else { return Ok(Duration::ZERO) };
        let (wait, most) = (duration("wait", &text)?, state.settings.max_wait);
        if most < wait {
            let most = in_one_unit(most);
            return Err(Problem::invalid(format!(
                "wait: {} is more than {most}, the longest that this gateway lets a request wait.",
                excerpt(&text)
            )));
        }
        Ok(wait)
    }

    /// Whether the client accepts a stream of events, which nobody does who does not want one.
    pub fn wants_events(&self) -> bool {
        self.accepts("text/event-stream")
    }

    /// Whether the client names this kind of answer, as it is written.
    pub fn accepts(&self, kind: &str) -> bool {
        let accepted = self.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let mut kinds = accepted.filter_map(|range| range.split(';').next());
        kinds.any(|accepted| accepted.trim().eq_ignore_ascii_case(kind))
    }

    /// A duration that has to be one of these, for the reason `why`.
    pub fn span(&mut self, name: &str, allowed: RangeInclusive<Duration>, why: &str) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let given = duration(name, &text)?;
        if allowed.contains(&given) {
            return Ok(Some(given));
        }
        let [least, most] = [allowed.start(), allowed.end()].map(|end| in_one_unit(*end));
        Err(Problem::invalid(format!("{name}: {} is not allowed here, {least} to {most} are: {why}.", excerpt(&text))))
    }

    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.values.iter().position(|(known, _)| known == name)?;
        Some(self.values.swap_remove(at).1)
    }

    pub fn take_keys(&mut self) -> Option<Vec<String>> {
        self.keys.take()
    }

    pub fn ttl(&mut self, state: &AppState) -> Result<Ttl, Problem> {
        let Some(text) = self.take("ttl") else { return Ok(state.settings.default_ttl) };
        Ttl::new(duration("ttl", &text)?, state.settings.ttl_bounds).map_err(|error| Problem::invalid(format!("ttl: {error}.")))
    }

    pub fn owner(&mut self) -> Result<Option<OwnerLabel>, Problem> {
        self.take("owner").map(|text| OwnerLabel::new(&text)).transpose().map_err(|error| Problem::invalid(format!("owner: {error}.")))
    }

    pub fn lease(&mut self) -> Result<Option<LeaseId>, Problem> {
        self.take("lease_id").map(|text| LeaseId::new(&text)).transpose().map_err(|error| Problem::invalid(format!("lease_id: {error}.")))
    }

    pub fn required_lease(&mut self) -> Result<LeaseId, Problem> {
        self.lease()?.ok_or_else(|| Problem::invalid("lease_id is missing; send the lease id that the acquire answered, in the header Lease-Id."))
    }

    pub fn fencing_token(&mut self) -> Result<Option<FencingToken>, Problem> {
        let parsed = self.take("fencing_token").map(|text| FencingToken::parse(&text)).transpose();
        parsed.map_err(|error| Problem::invalid(format!("fencing_token: {error}.")))
    }
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("The body is larger than {MAX_BODY} bytes, the most that is read.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large", detail)
    };
    if (MAX_BODY as u64) < body.size_hint().lower() {
        return Err(too_large());
    }
    let Ok(read) = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await else {
        let detail = format!("The body was not complete after {} s, the longest that is waited for it.", BODY_TIMEOUT.as_secs());
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "Body too slow", detail));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::invalid("body: it ended before it was complete.")),
    }
}

/// A JSON object, in order and with repeated names, so that a name given twice is noticed.
struct Object(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn check_name(name: &str, allowed: &[&str]) -> Result<(), Problem> {
    if allowed.contains(&name) {
        return Ok(());
    }
    let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
    Err(Problem::invalid(format!("{:?} is not an option here; allowed: {allowed}.", excerpt(name))))
}

fn text_of(name: &str, value: serde_json::Value) -> Result<String, Problem> {
    match value {
        other if name == "keys" => {
            Err(Problem::invalid(format!("keys: it is {}, and must be an array of strings, such as [\"a\",\"b\"].", excerpt(&other.to_string()))))
        }
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Number(number) if ["fencing_token", "limit"].contains(&name) => Ok(number.to_string()),
        other if ["fencing_token", "limit"].contains(&name) => {
            Err(Problem::invalid(format!("{name}: {} must be an integer.", excerpt(&other.to_string()))))
        }
        other if ["ttl", "wait", "max_lifetime", "min_hold", "lock_delay"].contains(&name) => {
            Err(Problem::invalid(format!("{name}: {} must be a string in the body, such as \"30s\".", excerpt(&other.to_string()))))
        }
        // The value is not repeated: it may be a lease id.
        _ => Err(Problem::invalid(format!("{name}: it must be a string in the body."))),
    }
}

/// Where the body is wrong, without repeating what it says.
fn body_error(error: &serde_json::Error) -> String {
    if error.is_data() {
        return "body: it must be a JSON object, such as {\"ttl\":\"30s\"}.".into();
    }
    format!("body: it is not JSON, see line {} column {}.", error.line(), error.column())
}

/// A whole number and a unit. humantime reads more than that, and the contract promises no more.
fn duration(name: &str, text: &str) -> Result<Duration, Problem> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    if unit.len() == text.len() || !["ms", "s", "m", "h"].contains(&unit) {
        let detail = format!("{name}: {:?} is not a duration; write a whole number and a unit, such as 500ms, 30s or 5m.", excerpt(text));
        return Err(Problem::invalid(detail));
    }
    humantime::parse_duration(text).map_err(|_| Problem::invalid(format!("{name}: {:?} is far too long.", excerpt(text))))
}

/// As it may be given.
fn in_one_unit(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(60 * 60 * 1000, "h"), (60 * 1000, "m"), (1000, "s")];
    let whole = units.iter().find(|(unit, _)| 0 < millis && millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

/// Enough of what was given to recognise it.
pub fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}
