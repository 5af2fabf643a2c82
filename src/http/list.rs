//! The locks that are held.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::auth::{Anywhere, List};
use super::body::{HolderBody, ListBody, ListedBody};
use super::locks::NO_STORE;
use super::options::ListOptions;
use super::problem::{AnyProblem, BodyProblem, Problem, TooOften};
use super::state::AppState;

/// List held locks
///
/// Page by page: follow `next_cursor` until it is null. A lock that is held all the while is on some page; a page may hold
/// few locks, or none, and not be the last. A token has to allow the whole of `prefix`.
#[utoipa::path(
    get, path = "/locks", tag = "locks",
    params(super::docs::ListParams),
    responses((status = 200, description = "A page of held locks.", body = ListBody), AnyProblem, TooOften, BodyProblem)
)]
pub async fn list(State(state): State<AppState>, allowed: Anywhere<List>, options: ListOptions) -> Result<Response, Problem> {
    allowed.under(&options.prefix, &state)?;
    let listed = state.redlock.list(&options.prefix, options.cursor.as_deref(), options.limit).await?;
    let locks = listed.locks.iter().map(|lock| ListedBody { key: lock.key.to_string(), holder: HolderBody::from(&lock.holder) });
    Ok(([NO_STORE], Json(ListBody { locks: locks.collect(), next_cursor: listed.next })).into_response())
}
