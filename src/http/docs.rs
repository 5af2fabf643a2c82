//! The OpenAPI document and the page that shows it, without any request to another host.

use axum::Router;
use serde::Deserialize;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::state::AppState;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "redlockd",
        description = "Distributed locks with fencing tokens, for any program that speaks HTTP. The path is the lock, the method is the verb; no 2xx ever means that you did not get it.",
        contact(name = "The redlockd authors"),
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    security((), ("token" = [])),
    modifiers(&BearerTokens),
    servers((url = "/", description = "This gateway")),
    tags(
        (name = "locks", description = "Acquire, extend, release and look at locks."),
        (name = "semaphores", description = "Take one of several slots."),
        (name = "operations", description = "Health, nodes and metrics."),
    ),
)]
struct Base;

/// Says that requests may carry a bearer token, and that a gateway may do without.
struct BearerTokens;

impl Modify for BearerTokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let description = "As `redlockd token new` makes it. A gateway that was given no tokens asks nobody for one.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// What the document says beside its paths.
pub fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// The OpenAPI document of the whole service.
pub fn openapi() -> utoipa::openapi::OpenApi {
    rewritten(super::documented().1)
}

/// The document at `/openapi.json` and the page at `/docs`.
pub fn router(document: utoipa::openapi::OpenApi) -> Router<AppState> {
    let config = Config::new(["/openapi.json"]).validator_url("none").try_it_out_enabled(true);
    SwaggerUi::new("/docs").url("/openapi.json", rewritten(document)).config(config).into()
}

/// axum's `{*key}` is not OpenAPI's: there a parameter is `{key}`.
fn rewritten(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let paths = std::mem::take(&mut document.paths.paths);
    let rename = |(path, item): (String, PathItem)| (path.replace("{*", "{"), item);
    document.paths.paths = paths.into_iter().map(rename).collect();
    document
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::path")]
pub struct KeyParam {
    /// The lock: 1 to 512 bytes of UTF-8 without control characters. It may hold slashes, but no empty, `.` or `..` segments.
    #[param(example = "orders/42", min_length = 1, max_length = 512, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    key: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::path")]
pub struct SemaphoreParam {
    /// The semaphore. It is named as locks are, and has nothing to do with the lock of its name.
    #[param(example = "imports", min_length = 1, max_length = 512, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    key: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct LimitParam {
    /// How many slots the semaphore has. It is needed, here or in the body.
    #[param(example = 5, minimum = 1, maximum = 256, nullable = false)]
    limit: Option<u16>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct ModeParam {
    /// `exclusive`, the default, or `shared`.
    #[param(example = "exclusive", pattern = "^(exclusive|shared)$", nullable = false)]
    mode: Option<String>,
    /// Released before this, the lock is nobody's for the rest of it. At most the ttl.
    #[param(example = "20s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    min_hold: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct TokenQuery {
    /// As in the header `Fencing-Token`.
    #[param(example = 1_763_901_234_567_890_u64, minimum = 1, maximum = 9_007_199_254_740_991_u64, nullable = false)]
    fencing_token: Option<u64>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct TtlParam {
    /// How long the lease lives: `500ms`, `30s`, `5m`. From 100 ms to the server's `max_ttl`.
    #[param(example = "30s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    ttl: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct WaitParam {
    /// How long to wait until the lock is free, up to the server's `max_wait`; not at all by default.
    #[param(example = "10s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    wait: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct AcquireParams {
    /// How long the lease lives: `500ms`, `30s`, `5m`. From 100 ms to the server's `max_ttl`.
    #[param(example = "30s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    ttl: Option<String>,
    /// How long to wait for the lock, up to the server's `max_wait`; not at all by default.
    #[param(example = "10s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    wait: Option<String>,
    /// A label that others are shown.
    #[param(example = "worker-7", min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$", nullable = false)]
    owner: Option<String>,
    /// Your own id for this lease, so that a repeat after a lost answer gets the same lease.
    #[param(example = "nightly-2026-11-23", min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]{16,64}$", nullable = false)]
    lease_id: Option<String>,
    /// The lease lasts no longer than this, however often it is extended. Not shorter than the ttl, unless a connection holds it, and `8760h` at most.
    #[param(example = "1h", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    max_lifetime: Option<String>,
    /// After a lease that ends without a release, because its holder died or could not extend it, nobody gets the lock for so long, the lease itself included. With the ttl at most `max_ttl`; not for a lease that a connection holds.
    #[param(example = "15s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    lock_delay: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct IdempotencyParam {
    /// The same as `lease_id`.
    #[param(rename = "Idempotency-Key", min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]{16,64}$", nullable = false)]
    idempotency_key: Option<String>,
    /// The same as `lease_id`.
    #[param(rename = "Lease-Id", min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]{16,64}$", nullable = false)]
    lease_id: Option<String>,
    /// `wait=10`, in seconds: the same as `wait` (RFC 7240).
    #[param(rename = "Prefer", example = "wait=10", nullable = false)]
    prefer: Option<String>,
}

/// The options of an acquire.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "describes a body for the OpenAPI document; read by http::options")]
pub struct AcquireBody {
    #[schema(example = "exclusive", pattern = "^(exclusive|shared)$", nullable = false)]
    mode: Option<String>,
    #[schema(example = "20s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    min_hold: Option<String>,
    #[schema(example = "30s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    ttl: Option<String>,
    #[schema(example = "10s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    wait: Option<String>,
    #[schema(example = "worker-7", min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$", nullable = false)]
    owner: Option<String>,
    #[schema(example = "nightly-2026-11-23", min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]{16,64}$", nullable = false)]
    lease_id: Option<String>,
    #[schema(example = "1h", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    max_lifetime: Option<String>,
    #[schema(example = "15s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    lock_delay: Option<String>,
}

/// The options of an acquire of a slot.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "describes a body for the OpenAPI document; read by http::options")]
pub struct SlotAcquireBody {
    /// How many slots the semaphore has. It is needed, here or in the query.
    #[schema(example = 5, minimum = 1, maximum = 256, nullable = false)]
    limit: Option<u16>,
    #[schema(example = "30s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    ttl: Option<String>,
    #[schema(example = "10s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    wait: Option<String>,
    #[schema(example = "worker-7", min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$", nullable = false)]
    owner: Option<String>,
    #[schema(example = "nightly-2026-11-23", min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]{16,64}$", nullable = false)]
    lease_id: Option<String>,
    #[schema(example = "1h", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    max_lifetime: Option<String>,
    #[schema(example = "15s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    lock_delay: Option<String>,
}

/// The name of a lock, as in a path but without percent signs.
#[derive(Deserialize, ToSchema)]
#[schema(example = "accounts/7", min_length = 1, max_length = 512, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
#[allow(dead_code, reason = "describes a body for the OpenAPI document; read by http::options")]
struct LockName(String);

/// The locks of a set, and the options of their acquire.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "describes a body for the OpenAPI document; read by http::options")]
pub struct SetBody {
    /// Each of them once, in any order.
    #[schema(example = json!(["accounts/7", "accounts/9"]), min_items = 1, max_items = 16)]
    keys: Vec<LockName>,
    #[schema(example = "30s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    ttl: Option<String>,
    #[schema(example = "10s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    wait: Option<String>,
    #[schema(example = "worker-7", min_length = 1, max_length = 128, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$", nullable = false)]
    owner: Option<String>,
    #[schema(example = "nightly-2026-11-23", min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]{16,64}$", nullable = false)]
    lease_id: Option<String>,
    #[schema(example = "1h", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    max_lifetime: Option<String>,
    #[schema(example = "15s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    lock_delay: Option<String>,
}

/// The options of an extend.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "describes a body for the OpenAPI document; read by http::options")]
pub struct ExtendBody {
    #[schema(example = "30s", pattern = "^[0-9]+(ms|s|m|h)$", nullable = false)]
    ttl: Option<String>,
    #[schema(example = "nightly-2026-11-23", min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]{16,64}$", nullable = false)]
    lease_id: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct LeaseParams {
    /// The lease id that the acquire answered.
    #[param(
        rename = "Lease-Id",
        example = "0mN3kX9vQ2bT7cYw5LrEfA",
        min_length = 16,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-]{16,64}$",
        nullable = false
    )]
    lease_id: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct LeaseQuery {
    /// The lease id, where a header can't be sent.
    #[param(min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]{16,64}$", nullable = false)]
    lease_id: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct TokenParam {
    /// The fencing token that the acquire answered. It spares the next holder a round.
    #[param(rename = "Fencing-Token", example = 1_763_901_234_567_890_u64, minimum = 1, maximum = 9_007_199_254_740_991_u64, nullable = false)]
    fencing_token: Option<u64>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct ReleaseQuery {
    /// As in the header `Fencing-Token`.
    #[param(example = 1_763_901_234_567_890_u64, minimum = 1, maximum = 9_007_199_254_740_991_u64, nullable = false)]
    fencing_token: Option<u64>,
    /// `true`: release what another holds. It takes the grant `force`, and a reason; no lease id, and no token.
    #[param(example = "true", pattern = "^true$", nullable = false)]
    force: Option<String>,
    /// Why, for the log.
    #[param(
        example = "worker-7 was taken out of service",
        min_length = 1,
        max_length = 256,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$",
        nullable = false
    )]
    reason: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters for the OpenAPI document; read by http::options")]
pub struct ListParams {
    /// What the names begin with.
    #[param(example = "orders/", nullable = false)]
    prefix: Option<String>,
    /// How many locks a page holds, more or less.
    #[param(example = 100, minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(nullable = false)]
    cursor: Option<String>,
}
